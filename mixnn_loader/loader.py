"""The wrapper around the user's data loader: Algorithm 1 of the paper, epoch by epoch."""

import contextlib
import inspect
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

import torch
from torch import nn
from torch.distributed import ProcessGroup
from torch.utils.data import DataLoader

from mixnn_loader._utils.checks import as_device, check_count
from mixnn_loader.data.members import given_members
from mixnn_loader.data.unpack import Unpack
from mixnn_loader.data.user_loader import as_data_loader, check_map_style, num_samples
from mixnn_loader.method.batch import MixNNBatch
from mixnn_loader.method.credibility import Credibilities, Credibility
from mixnn_loader.method.input_rules import Rules
from mixnn_loader.method.weights import Weighting, Weightings
from mixnn_loader.model.hooks import FeatureLayer
from mixnn_loader.model.mix_layer import MixLayer
from mixnn_loader.model.prepare import Prepare
from mixnn_loader.neighbors import NeighborSearch, NeighborSource
from mixnn_loader.neighbors.sources import Neighbors
from mixnn_loader.report.label_report import LabelReport
from mixnn_loader.run.copies import check_picklable, deep_copied
from mixnn_loader.run.describe import described
from mixnn_loader.run.epoch import Record
from mixnn_loader.run.make_report import make_report
from mixnn_loader.run.parts import Options, assembled
from mixnn_loader.run.passes import Passes
from mixnn_loader.run.sample_rows import SampleRows
from mixnn_loader.run.sample_table import SampleTable
from mixnn_loader.run.settings import Auto, Correction, Scan, Settings, WarmupRule


class MixNNDataLoader(SampleRows):
    """Wraps a data loader so that every batch comes mixed with its nearest neighbors.

    The first epochs are the warm-up: batches come as they are, with one-hot targets. Every later epoch starts with
    a scan of the dataset (see ``scan`` for less), from which each label's probability of being right and each sample's
    neighbors are estimated; its batches are convex combinations of samples and neighbors, weighted by these
    probabilities, and from ``correction_epoch`` on their soft targets follow the model's predictions (Lu & He,
    "MixNN: Combating Noisy Labels in Deep Learning by Mixing with Nearest Neighbours", Algorithm 1).

    An epoch is one in which the model was trained: a pass counts once half of its batches have been trained on, and
    shorter ones add up. A pass under `torch.no_grad` gives the same batches unmixed, and changes nothing. What a batch
    changes is written down when it has been trained on: when `MixNNLoss` is taken of it, or the next one is asked for.

    The order of the samples, the random streams, the model's flags and its BatchNorm statistics are those of the
    plain loader. Iterating yields `MixNNBatch`, which is a pair ``(inputs, targets)``, on the model's device;
    public attributes of the wrapped loader, such as ``dataset``, ``batch_size`` and ``sampler``, are forwarded.

    Args:
        data: a `torch.utils.data.DataLoader`, or a map-style dataset followed by DataLoader arguments.
        model: the module being trained; read in eval mode and without gradient, never changed.
        epochs: how long the training will be; W and E_s then follow in the paper's proportions, one thirtieth and one
            fifth of it, and at least one epoch of warm-up; a training of one epoch has none. With votes of neighbors,
            how far targets follow these also goes by it.
        num_neighbors: K >= 0, the neighbors that each sample is mixed with; 0 is plain training on the soft targets.
        warmup_epochs: W >= 0, epochs of plain training at the start; ``"auto"``: by ``epochs``, or 10; ``"settled"``:
            until the model has settled, as `MixNNLoss` tells the loader (see `mixnn_loader.run.warmup`); an eighth of
            ``epochs``, or 10, at most, and up to 4 where ``epochs`` are few.
        correction_epoch: E_s >= 0, the first epoch that moves the soft targets (epochs count from 0, warm-up
            included); None: never; ``"auto"``: by ``epochs``, or 60.
        epoch_length: the batches of an epoch of the schedule, for training that is counted in steps; None: a pass, or
            N samples of a pass that does not end.
        momentum: α in [0, 1] of t <- α t + (1-α) p (Eq. 12).
        early_learning: λ >= 0 of the early-learning term, which `MixNNLoss` then adds (Liu et al. 2020; see
            `mixnn_loader.method.early_learning`); 0: none.
        prediction_momentum: β in [0, 1] of e <- β e + (1-β) p, the moving average of the predictions of a sample. It
            is kept where something is made of it, from the first batch on; in warm-up p is that of the training step,
            which `MixNNLoss` tells the loader.
        correct_by: what the soft targets follow from ``correction_epoch`` on: ``"prediction"``, each prediction (Eq.
            12); or ``"credibility"``, at the start of an epoch: t = P ŷ + (1-P) q with the given label ŷ, and q what is
            likely in its place, by the vote of neighbors or else by e.
        correct_neighbors: whether neighbors bring their corrected targets (section IV-E), or else their given labels
            (the last lines of Algorithm 1).
        neighbors: where they come from: ``"dataset"``, the nearest in the whole training set (the paper);
            ``"batch"``, the nearest in the mini-batch (the authors' released code); ``"random"`` and
            ``"random-batch"``, uniform draws from either; or an object like
            `mixnn_loader.neighbors.NeighborSource`. In a batch of B there are B - 1 neighbors: where K is more, what
            is missing has weight 0.
        neighbor_pool: M >= K, ``"dataset"`` only: draw the K from the M nearest, afresh for every batch; None: the K
            nearest.
        search: of neighbors in the dataset, to be mixed with or to vote: ``"exact"``; ``"cells"``, faster from about
            10,000 samples on at a recall that is measured; ``"hnsw"``; an object with the method of
            `mixnn_loader.neighbors.NeighborSearch`; or ``"auto"``, which chooses between the first two.
        weighting: ``"mixture"``, proportional to the probability of being clean (Eq. 10, 11); ``"doubt"``, the same of
            a sample that is surely wrong, nothing of its neighbors of one that is surely right, and in proportion in
            between; ``"uniform"``, equal; ``"beta"``, λ from Beta(1, 1) and the rest shared equally; ``"mixup"``, the
            same with λ or 1-λ, whichever is larger; ``"doubt-mixup"``, that in proportion to doubt in the sample and
            in its batch; or a function, see `mixnn_loader.functional.Weighting`.
        credibility: how P(clean) is estimated: ``"mixture"``, by two normal distributions over the losses (Eq. 8, 9);
            ``"agreement"``, the likelihood of the given label against that of the likeliest, by e; ``"vote"``, by the
            given labels of up to 200 neighbors, see `mixnn_loader.functional.label_posterior`, whom the loader searches
            in the epochs that scan, unless nothing has changed since the last one; ``"vote-and-model"``, by these and
            by e; or an object like `mixnn_loader.functional.Credibility`.
        scan: where the losses and representations that an epoch starts from come from: ``"epoch"``, a scan of the
            dataset (the paper); ``"running"``, what the model said of each sample when it was drawn in the epoch
            before, with the augmentation of that draw, so that only the first epoch after warm-up scans;
            ``"training"``, what it says of the mixed sample in the training step itself, which `MixNNLoss` tells the
            loader: no forward pass is made besides, and nothing is known of a sample that has less than half of a mix.
            There are no representations then: partners are drawn at random, or searched in the epochs that scan. Of
            several processes, the last batch of an epoch says nothing: they share what they know before it is trained.
        scan_every: n >= 1: scan, and search, in the first epoch after warm-up and every n-th from there. In between,
            ``scan="epoch"`` leaves P and neighbors as they are, and ``"running"`` the neighbors. None: in every epoch
            with ``"epoch"``; with ``"running"`` scan once, and search in every epoch; with ``"training"`` never.
        members: the dataset indices of the training data, or a boolean mask of length N: no other sample is scanned or
            mixed into others; None: those that the sampler declares, if it is of a type of PyTorch's own, else those
            that have been drawn.
        prepare: what the training loop does to a batch's inputs before the model, such as a normalization on the GPU;
            the loader does the same in its own passes.
        mix_layer: a layer whose output is mixed in the training step, in place of inputs that cannot be averaged: a
            module, such as the embedding of token ids or categories, its dotted name, or several; None: none. In train
            mode the model then takes the batch as it is handed out and gives B rows: where neighbors are in the batch,
            the inputs of the B samples; else those of the samples and of their neighbors below one another,
            B·(K+1). Compiled models are refused.
        mix: how inputs are mixed: ``"mean"``, averaged (Eq. 4); ``"layer"``, by ``mix_layer``; ``"or"`` and ``"max"``,
            of masks and lengths, over the samples that take part; ``"own"``, not at all; a function ``(own (B, ...),
            neighbors (B, K, ...), weights (B, K+1)) -> mixed (B, ...)``; or a dict, tuple or list of these, nested as
            the inputs are. None, and for parts that are not named: numbers are averaged; with ``mix_layer``, boolean
            tensors and integers whose name has "mask" or "padding" in it are united, of those with "length", "lens"
            or "seq_len" the longest counts, and other integers go to the layer.
        feature_layer: the layer whose input is the representation: a module, its dotted name, or a function
            ``(model, inputs) -> (logits, representations)``; None: looked for, see
            `mixnn_loader.model.classifier.find_classifier`.
        scan_dataset: the same samples in the same order without random augmentation, for scans; None: the training
            dataset.
        num_classes: C; None: the width of the model's output.
        unpack: which part of a collated batch is what: the keys ``(inputs, labels)`` or a function
            ``batch -> (inputs, labels)``; None: the first two parts, or of a mapping the image and the label, if it has
            just one of each by their usual names; of what Hugging Face's tokenizers and feature extractors give, as
            ``input_ids``, all tensors besides the label.
        extras: whether a batch also has what the dataset gives besides inputs and label, of the samples themselves and
            as it was loaded: ``for inputs, targets, path, index in loader``; of a mapping, a dict of its other entries.
        device: where the batches go: of a model on several devices, where its first layer is; None: the model's.
        autocast_dtype: the type for `torch.autocast` around the loader's own forward passes; None: no autocast of
            its own.
        state_device: where targets, losses and P of all samples are kept; None: beside the model. With ``"cpu"`` only
            the rows of a batch travel to a GPU, which then waits for each of them.
        target_dtype: the floating-point type in which targets, and averages of predictions, are kept. In half precision
            targets stop moving when the prediction is within 0.003 (`torch.float16`) or 0.02 (`torch.bfloat16`) of
            them, at momentum 0.9; ten times as far at 0.99.
        representation_dtype: the floating-point type in which representations are kept for the search.
        process_group: the processes that train together, as for
            `torch.nn.parallel.DistributedDataParallel`; None: the default group, if there is one when an epoch starts.
        seed: of the loader's own random draws.
        progress: show a progress bar of the scan (needs tqdm).
        **dataloader_kwargs: DataLoader arguments, only with a dataset.

    Attributes:
        epoch: the epoch in progress or, once its last batch has been trained on, the next one.
        batch: batches of it that have been handed out; 0 between epochs.
        history: one plain dict an epoch: ``epoch``, ``phase`` ("warm-up", "mixing" or "correction"), ``scan`` (what the
            estimates were made of: "epoch", a scan, or else "running" or "training"), ``noise_rate`` (estimated),
            ``means``, ``variances``, ``priors`` and ``separation`` of the mixture (clean component first; Ashman's D,
            below 2 the components are not apart), ``search`` (the backend), ``search_recall`` (of the k nearest
            neighbors, measured on a sample of rows; None where it was not), ``same_label_share`` (of neighbors, by
            given label), ``changed_share`` (of samples whose likeliest class, by the averages of predictions, has
            changed; in warm-up that ends when the model has settled), and ``scan_seconds``, ``mixture_seconds``,
            ``search_seconds``, ``batches_seconds`` (spent in the loader, without the user's step). What an epoch
            does not have, or not yet, is None.

    Raises:
        TypeError: ``data`` cannot be wrapped, or an argument is unknown.
        ValueError: an argument is outside its range.

    Example:
        >>> from torch.utils.data import TensorDataset
        >>> dataset = TensorDataset(torch.randn(12, 5), torch.arange(12) % 3)
        >>> model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> loader = MixNNDataLoader(dataset, model, warmup_epochs=0, batch_size=4)
        >>> inputs, targets = next(iter(loader))
        >>> inputs.shape, targets.mixed.shape, targets.neighbors.shape
        (torch.Size([4, 5]), torch.Size([4, 3]), torch.Size([4, 1]))
    """

    def __init__(
        self,
        data: Any,
        model: nn.Module,
        *,
        epochs: int | None = None,
        num_neighbors: int = 1,
        warmup_epochs: int | WarmupRule = "auto",
        correction_epoch: int | Auto | None = "auto",
        epoch_length: int | None = None,
        momentum: float = 0.9,
        early_learning: float = 0.0,
        prediction_momentum: float = 0.7,
        correct_by: Correction = "prediction",
        correct_neighbors: bool = True,
        neighbors: Neighbors | NeighborSource = "dataset",
        neighbor_pool: int | None = None,
        search: str | NeighborSearch = "auto",
        weighting: Weightings | Weighting = "mixture",
        credibility: Credibilities | Credibility = "mixture",
        scan: Scan = "epoch",
        scan_every: int | None = None,
        scan_dataset: Any = None,
        members: Any = None,
        prepare: Prepare | None = None,
        mix_layer: MixLayer | None = None,
        mix: Rules = None,
        feature_layer: FeatureLayer | None = None,
        num_classes: int | None = None,
        unpack: Unpack | tuple[Any, Any] | None = None,
        extras: bool = False,
        device: torch.device | str | None = None,
        autocast_dtype: torch.dtype | None = None,
        state_device: torch.device | str | None = None,
        target_dtype: torch.dtype = torch.float32,
        representation_dtype: torch.dtype = torch.float32,
        process_group: ProcessGroup | None = None,
        seed: int = 0,
        progress: bool = False,
        **dataloader_kwargs: Any,
    ) -> None:
        if isinstance(data, MixNNDataLoader):
            raise TypeError(f"data is already a {type(data).__name__}; wrap the DataLoader in it once")
        settings = Settings(
            epochs=epochs,
            num_neighbors=num_neighbors,
            warmup_epochs=warmup_epochs,
            correction_epoch=correction_epoch,
            epoch_length=epoch_length,
            momentum=momentum,
            early_learning=early_learning,
            prediction_momentum=prediction_momentum,
            correct_by=correct_by,
            correct_neighbors=correct_neighbors,
            neighbors=neighbors,
            neighbor_pool=neighbor_pool,
            search=search,
            weighting=weighting,
            credibility=credibility,
            scan=scan,
            scan_every=scan_every,
            seed=seed,
        )
        self._wrapped = as_data_loader(data, dataloader_kwargs, list(_DEFAULTS))
        count = num_samples(self._wrapped)
        if scan_dataset is not None:
            check_map_style("scan_dataset", scan_dataset)
            if len(scan_dataset) != count:
                raise ValueError(f"scan_dataset must have the dataset's {count} samples, got {len(scan_dataset)}")
        self._settings = settings
        self._options = Options(
            scan_dataset=scan_dataset,
            members=None if members is None else given_members(members, count),
            prepare=prepare,
            mix_layer=mix_layer,
            mix=mix,
            feature_layer=feature_layer,
            num_classes=num_classes,
            unpack=unpack,
            extras=extras,
            device=device,
            autocast_dtype=autocast_dtype,
            state_device=as_device("state_device", state_device),
            target_dtype=target_dtype,
            representation_dtype=representation_dtype,
            process_group=process_group,
            progress=progress,
        )
        self._set_up(model)

    def _set_up(self, model: nn.Module) -> None:
        """Start afresh, with nothing known of any sample."""
        parts = assembled(self._wrapped, model, self._settings, self._options)  # may raise
        self._model, self._parts = model, parts
        self._passes = Passes(parts)
        # Asked when the loader goes, at the latest when the interpreter ends.
        self._warning_at_end = weakref.finalize(self, self._parts.schedule.warn_if_short)

    def reset(self, model: nn.Module | None = None) -> None:
        """Forget everything, and start with epoch 0: for sweeps and folds.

        The wrapped loader, its samplers and random generators are as they are.

        Args:
            model: the module that will be trained; None: the same as before.

        Raises:
            TypeError, ValueError: the model cannot be used; ``feature_layer`` must be in it.
        """
        warning_at_end = self._warning_at_end
        self._passes.end()
        self._set_up(self._model if model is None else model)
        warning_at_end.detach()

    def __len__(self) -> int:
        """Return the number of batches a pass."""
        return len(self._wrapped)

    def __iter__(self) -> Iterator[MixNNBatch]:
        """Iterate one pass (Algorithm 1), or the rest of the one within which a loaded state was saved.

        It starts with the first batch that is asked for, not with ``iter()``. With gradients off (`torch.no_grad`), it
        is a plain pass: the same batches unmixed, and nothing is changed.

        Raises:
            RuntimeError: the dataset's length has changed, the model gives no finite loss at all, another pass has
                been started meanwhile, or the processes are not at the same place.
        """
        yield from self._passes.batches()  # and not returned: the loader lives as long as the pass

    @property
    def epoch(self) -> int:
        """The epoch in progress or, once its last batch has been trained on, the next one."""
        return self._passes.epoch

    @property
    def batch(self) -> int:
        """Batches of this epoch that the running pass has handed out, or had when a state was saved; else 0."""
        return self._passes.batch

    @property
    def history(self) -> list[Record]:
        """One plain dict an epoch; see the class."""
        return self._parts.schedule.history

    def label_report(self, neighbors: int = 10, *, representations: bool = False) -> LabelReport:
        """Say which labels look wrong, what they should be, and which neighbors say so.

        The model is asked about every training sample as it is now, in one scan, and the neighbors of each sample about
        its label, see `mixnn_loader.functional.label_posterior`. The probability of a label is what both say together,
        in the light of what the model has said in the course of the training. That is so with every recipe, in the
        middle of a training and after a state was loaded; the training goes on as if it had not been asked.

        Args:
            neighbors: how many neighbors of each sample to list.
            representations: whether to add the representations, by which neighbors were found.

        Returns:
            A row a training sample, the most suspicious first. Of several processes, each has to ask, and all get the
            same.

        Raises:
            ValueError: ``neighbors`` is not an integer >= 1.
            RuntimeError: nothing is known of the samples yet, or the model gives none a finite loss.

        Warns:
            UserWarning: samples without a finite loss or representation are left out; or nothing has been trained.
        """
        check_count("neighbors", neighbors, 1)
        self._table_now()  # with what the last batch has changed
        return make_report(self._parts, self.epoch, neighbors, representations=representations)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that the next pass is of, and pass it on to the samplers that have a ``set_epoch``.

        The rest of a pass that a loaded state was saved within still comes first if it is of this epoch; after the last
        batch it is empty.

        Warns:
            UserWarning: it is of another, and so dropped.

        Raises:
            ValueError: ``epoch`` is not an integer >= 0.
        """
        check_count("epoch", epoch)
        epoch = int(epoch)  # NumPy's would not go into a checkpoint
        self._passes.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return all that a resumed run needs, as tensors and primitives: between epochs, or after any batch.

        With ``scan="running"``, where neighbors are searched in the dataset, the representations are part of it, N·d
        numbers, and averages of predictions, N·C, where they are kept. The state of random generators that were passed
        to the DataLoader or its sampler is included, and of samplers that have a ``state_dict``. What remains of a pass
        comes in the order in which it would have come. The passes after it draw from PyTorch's global generator where
        the loader shuffles without one of its own: its state is the caller's to keep (`torch.get_rng_state`).

        Within a pass take the state after the optimizer's step: leaving the loop ends the pass. A batch that
        `MixNNLoss` has not been taken of yet comes again. Where loading a batch has failed, the state is of the batches
        before it, and the rest of the pass starts with what failed.

        As long as `MixNNLoss` has never been taken, every batch that was handed out counts as trained on. Of several
        processes, so does the last batch of an epoch, with which they share what they have learned.

        Of several processes, the state between epochs and after the last batch is the same on all; elsewhere, and
        after a loop that was left early, each has its own to save.
        """
        return self._passes.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where the run that `state_dict` was called on stopped; what cannot be loaded changes nothing.

        A pass that is running is over then, and what its last batch would have changed is not written down.

        Warns:
            UserWarning: the saved loader had a generator where this one has none, or its epochs had other phases.

        Raises:
            TypeError: it is no mapping.
            ValueError: it is no state of a loader or not all of one, of another version, dataset length, number of
                classes or of neighbors, or was saved within an epoch of another batch size or process.
            Exception: what the ``load_state_dict`` of the user's own sampler raises.
        """
        self._passes.load_state_dict(state)

    def __getattr__(self, name: str) -> Any:
        """Forward public attributes to the wrapped loader."""
        if not name.startswith("_"):
            with contextlib.suppress(AttributeError):
                return getattr(self._wrapped, name)
        is_told = any(field.name == name and field.init for field in fields(Settings))
        hint = "; it is an argument, and repr(loader) tells it" if is_told else ""
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}{hint}")

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse what would have no effect.

        Raises:
            AttributeError: always, for public names.
        """
        if not name.startswith("_"):
            raise AttributeError(_why_not_set(self, name))
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        """Refuse it, as `__setattr__` does.

        Raises:
            AttributeError: always, for public names.
        """
        if not name.startswith("_"):
            raise AttributeError(_why_not_set(self, name))
        super().__delattr__(name)

    def __repr__(self) -> str:
        """Say what is wrapped, where the training is, and which settings are not the defaults."""
        return described(self._parts, self.epoch, _DEFAULTS)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy is built from: one that is made together with a copy of the model looks at that copy.

        Raises:
            TypeError: the loader cannot be copied.
        """
        if self._options.process_group is not None:
            raise TypeError("a loader with a process_group cannot be copied; build a new one and load its state_dict()")
        return {
            "wrapped": self._wrapped,
            "model": self._model,
            "settings": self._settings,
            "options": self._options,
            "state": self.state_dict(),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._wrapped, self._settings, self._options = state["wrapped"], state["settings"], state["options"]
        self._set_up(state["model"])
        self.load_state_dict(state["state"])

    def __copy__(self) -> "MixNNDataLoader":
        """Return a second loader over the same model and data, with a state of its own."""
        return self._with(self.__getstate__())

    def __deepcopy__(self, memo: dict[int, Any]) -> "MixNNDataLoader":
        return self._with(deep_copied(self.__getstate__(), memo))

    def __reduce_ex__(self, protocol: Any) -> Any:
        check_picklable(self._wrapped, self._settings, self._options)
        return super().__reduce_ex__(protocol)

    def _with(self, state: dict[str, Any]) -> "MixNNDataLoader":
        new = type(self).__new__(type(self))
        new.__setstate__(state)
        return new

    def _table_now(self) -> SampleTable:
        return self._passes.settled_table()

    def _num_neighbors(self) -> int:
        return self._settings.num_neighbors


_DEFAULTS = {
    name: parameter.default
    for name, parameter in inspect.signature(MixNNDataLoader).parameters.items()
    if parameter.kind is inspect.Parameter.KEYWORD_ONLY
}
"""The arguments besides ``data``, ``model`` and the DataLoader's."""


def _why_not_set(loader: MixNNDataLoader, name: str) -> str:
    """Say what to do in place of setting a public attribute."""
    if name in _DEFAULTS:
        remedy = f"it is an argument: MixNNDataLoader(..., {name}=...)"
    elif name in inspect.signature(DataLoader).parameters:
        remedy = "it belongs to the DataLoader: build that with it, and wrap it anew (load_state_dict keeps the rest)"
    elif hasattr(type(loader), name):
        remedy = "it can only be read"
        if name == "epoch":
            remedy += "; call set_epoch()"
    else:
        remedy = "it has none of this name"
    return f"a MixNNDataLoader's {name!r} cannot be set or deleted: {remedy}"
