"""The wrapper around the user's data loader: Algorithm 1 of the paper, epoch by epoch."""

import inspect
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from torch.distributed import ProcessGroup
from torch.profiler import record_function

from mixnn_loader._utils.checks import as_device, check_count
from mixnn_loader._utils.processes import Processes
from mixnn_loader._utils.random_state import kept_random_state
from mixnn_loader.checkpoint.position import Position, ResumableBatches
from mixnn_loader.checkpoint.samplers import SamplerState
from mixnn_loader.checkpoint.versions import STATE_VERSION, upgraded
from mixnn_loader.data.indexed import NeighborBatchSampler, rebuilt
from mixnn_loader.data.to_device import ReceivedBatch, Receiver
from mixnn_loader.data.unpack import Unpack, resolve_unpack
from mixnn_loader.data.user_loader import (
    as_data_loader,
    check_map_style,
    num_samples,
    samplers_of,
    training_members,
)
from mixnn_loader.method.batch import MixNNBatch
from mixnn_loader.model.hooks import FeatureLayer
from mixnn_loader.model.predictor import ModelView
from mixnn_loader.neighbors import NeighborSearch
from mixnn_loader.neighbors.draw import DrawPartners, no_partners
from mixnn_loader.run.estimate import Estimator
from mixnn_loader.run.mix_batch import BatchMixer
from mixnn_loader.run.sample_rows import SampleRows
from mixnn_loader.run.sample_table import SampleState
from mixnn_loader.run.schedule import Epochs, Record
from mixnn_loader.run.settings import Neighbors, Scan, Settings, Weighting
from mixnn_loader.run.synchronize import Lockstep


class MixNNDataLoader(SampleRows):
    """Wraps a data loader so that every batch comes mixed with its nearest neighbors.

    The first epochs are the warm-up: batches come as they are, with one-hot targets. Every later epoch starts with
    a scan of the dataset (see ``scan`` for less), from which each label's probability of being right and each sample's
    neighbors are estimated; its batches are convex combinations of samples and neighbors, weighted by these
    probabilities, and from ``correction_epoch`` on their soft targets follow the model's predictions (Lu & He,
    "MixNN: Combating Noisy Labels in Deep Learning by Mixing with Nearest Neighbours", Algorithm 1).

    The order of the samples, the random streams, the model's flags and its BatchNorm statistics are those of the
    plain loader. Iterating yields `MixNNBatch`, which is a pair ``(inputs, targets)``, on the model's device;
    public attributes of the wrapped loader, such as ``dataset``, ``batch_size`` and ``sampler``, are forwarded.

    Args:
        data: a `torch.utils.data.DataLoader`, or a map-style dataset followed by DataLoader arguments.
        model: the module being trained; read in eval mode and without gradient, never changed.
        num_neighbors: K >= 0, the neighbors that each sample is mixed with; 0 is plain training on the soft targets.
        warmup_epochs: W >= 0, epochs of plain training at the start.
        correction_epoch: E_s >= 0, the first epoch that moves the soft targets (epochs count from 0, warm-up
            included); None: never.
        momentum: α in [0, 1] of t <- α t + (1-α) p (Eq. 12).
        neighbors: where they come from: ``"dataset"``, the nearest in the whole training set (the paper);
            ``"batch"``, the nearest in the mini-batch (the authors' released code); ``"random"`` and
            ``"random-batch"``, uniform draws from either.
        neighbor_pool: M >= K, ``"dataset"`` only: draw the K from the M nearest, afresh for every batch; None: the K
            nearest.
        search: ``"dataset"`` only: ``"exact"``; ``"cells"``, faster from about 10,000 samples on at a recall that is
            measured; ``"hnsw"``; an object with the method of `mixnn_loader.neighbors.NeighborSearch`; or ``"auto"``,
            which chooses between the first two.
        weighting: ``"mixture"``, proportional to the probability of being clean (Eq. 10, 11); ``"uniform"``, equal;
            ``"beta"``, λ from Beta(1, 1) and the rest shared equally.
        scan: where the losses and representations that an epoch starts from come from: ``"epoch"``, a scan of the
            dataset (the paper); ``"running"``, what the model said of each sample when it was drawn in the epoch
            before, with the augmentation of that draw, so that only the first epoch after warm-up scans.
        scan_every: n >= 1: scan, and search, in the first epoch after warm-up and every n-th from there. In between,
            ``scan="epoch"`` leaves P and neighbors as they are, and ``"running"`` the neighbors. None: in every epoch
            with ``"epoch"``; with ``"running"`` scan once, and search in every epoch.
        feature_layer: the layer whose input is the representation: a module, its dotted name, or a function
            ``(model, inputs) -> (logits, representations)``; None: looked for, see
            `mixnn_loader.model.classifier.find_classifier`.
        scan_dataset: the same samples in the same order without random augmentation, for scans; None: the training
            dataset.
        num_classes: C; None: the width of the model's output.
        unpack: which part of a collated batch is what: the keys ``(inputs, labels)`` or a function
            ``batch -> (inputs, labels)``; None: the first two parts, or of a mapping the image and the label, if it has
            just one of each by their usual names.
        device: where the batches go: of a model on several devices, where its first layer is; None: the model's.
        autocast_dtype: the type for `torch.autocast` around the loader's own forward passes; None: no autocast of
            its own.
        state_device: where targets, losses and P of all samples are kept; None: beside the model. With ``"cpu"`` only
            the rows of a batch travel to a GPU, which then waits for each of them.
        target_dtype: the floating-point type in which targets are kept. In half precision they stop moving when the
            prediction is within 0.003 (`torch.float16`) or 0.02 (`torch.bfloat16`) of them, at momentum 0.9.
        representation_dtype: the floating-point type in which representations are kept for the search.
        process_group: the processes that train together, as for
            `torch.nn.parallel.DistributedDataParallel`; None: the default group, if there is one when an epoch starts.
        seed: of the loader's own random draws.
        progress: show a progress bar of the scan (needs tqdm).
        **dataloader_kwargs: DataLoader arguments, only with a dataset.

    Attributes:
        history: one plain dict an epoch: ``epoch``, ``phase`` ("warm-up", "mixing" or "correction"), ``scan`` (what
            the estimates were made of: "epoch", a scan, or "running"), ``noise_rate`` (estimated), ``means``,
            ``variances`` and ``priors`` of the mixture (clean component first), ``search`` (the backend),
            ``search_recall`` (of the k nearest neighbors, measured on a sample of rows; None where it was not),
            ``same_label_share`` (of neighbors, by given label), and ``scan_seconds``, ``mixture_seconds``,
            ``search_seconds``, ``batches_seconds`` (spent in the loader, without the user's step). What an epoch does
            not have, or not yet, is None.

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
        num_neighbors: int = 1,
        warmup_epochs: int = 10,
        correction_epoch: int | None = 60,
        momentum: float = 0.9,
        neighbors: Neighbors = "dataset",
        neighbor_pool: int | None = None,
        search: str | NeighborSearch = "auto",
        weighting: Weighting = "mixture",
        scan: Scan = "epoch",
        scan_every: int | None = None,
        scan_dataset: Any = None,
        feature_layer: FeatureLayer | None = None,
        num_classes: int | None = None,
        unpack: Unpack | tuple[Any, Any] | None = None,
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
        settings = Settings(
            num_neighbors=num_neighbors,
            warmup_epochs=warmup_epochs,
            correction_epoch=correction_epoch,
            momentum=momentum,
            neighbors=neighbors,
            neighbor_pool=neighbor_pool,
            search=search,
            weighting=weighting,
            scan=scan,
            scan_every=scan_every,
            seed=seed,
        )
        if isinstance(data, MixNNDataLoader):
            raise TypeError(f"data is already a {type(data).__name__}; wrap the DataLoader in it once")
        self._wrapped = as_data_loader(data, dataloader_kwargs, _OWN_NAMES)
        self._num_samples = num_samples(self._wrapped)
        settings.check_dataset(len(training_members(self._wrapped)))
        if scan_dataset is not None:
            check_map_style("scan_dataset", scan_dataset)
        if scan_dataset is not None and len(scan_dataset) != self._num_samples:
            raise ValueError(
                f"scan_dataset must have the dataset's {self._num_samples} samples, got {len(scan_dataset)}"
            )

        view = ModelView(model, feature_layer, device, autocast_dtype)
        self._receiver = Receiver(resolve_unpack(unpack), mixes=num_neighbors > 0)
        state = SampleState(
            self._num_samples,
            settings.pool_size,
            device=as_device("state_device", state_device),
            target_dtype=target_dtype,
            representation_dtype=representation_dtype,
        )
        state.to(view.device)
        super().__init__(settings, state)
        self._processes = Processes(process_group, lambda: view.device)
        if num_classes is not None:
            state.set_num_classes(num_classes)
        self._estimator = Estimator(
            settings,
            view,
            self._receiver,
            state,
            loader=self._wrapped,
            dataset=self._wrapped.dataset if scan_dataset is None else scan_dataset,
            progress=progress,
            processes=self._processes,
        )
        self._view = view
        self._lockstep = Lockstep(self._processes, settings, view, state, self._wrapped)
        self._mixer = BatchMixer(settings, view, state)
        self._batches = ResumableBatches(self._wrapped)
        self._batch_sampler = NeighborBatchSampler(self._batches, seed)
        self._loader = rebuilt(self._wrapped, self._wrapped.dataset, batch_sampler=self._batch_sampler)
        self._epochs = Epochs()

    def __len__(self) -> int:
        """Return the number of batches an epoch."""
        return len(self._wrapped)

    def __iter__(self) -> Iterator[MixNNBatch]:
        """Iterate one epoch (Algorithm 1), or the rest of the one within which a loaded state was saved.

        It starts with the first batch that is asked for, not with ``iter()``.

        Raises:
            RuntimeError: the dataset's length has changed, the model gives no finite loss at all, another epoch has
                been started meanwhile, or the processes are not at the same place.
        """
        resumes = self._epochs.stopped_within
        record, draw = self._resume_epoch() if resumes else self._start_epoch()
        self._batch_sampler.begin_epoch(self._epochs.number, draw)
        seconds, resumed = record["batches_seconds"] or 0.0, time.perf_counter()
        try:
            for received in self._received(resumes):
                with record_function("mixnn_loader.mix"):
                    batch = self._mixer.mix(received)
                self._batches.done(received.loaded.number)
                if self._epochs.count_batch() == self._num_batches():
                    self._merge(record)  # now: many a training loop counts, and does not ask for what is behind
                elif self._epochs.merged:
                    self._epochs.merged = False  # the sampler has more batches than it said
                seconds += time.perf_counter() - resumed
                record["batches_seconds"] = seconds
                yield batch
                resumed = time.perf_counter()
                if not self._epochs.runs(record):  # before the next batch is fetched: it would be the other epoch's
                    raise RuntimeError(
                        f"epoch {record['epoch']} is over: another was started, set or loaded; iterate one at a time"
                    )
            self._merge(record)
        except Exception:
            position = self._batches.position()
            if (
                self._epochs.runs(record) and position is not None
            ):  # what failed is a batch: the epoch can go on with it
                self._batches.go_to(position, SamplerState.of(self._wrapped))
                self._epochs.stop()
            raise
        finally:
            if self._epochs.runs(record):
                self._epochs.end(record)
                self._epochs.merged |= self._processes.size == 1
                record["same_label_share"] = self._mixer.same_label_share()

    def _received(self, resumes: bool) -> Iterator[ReceivedBatch]:
        """Load the epoch's batches and bring them to the model's device."""
        device = self._view.device
        # The start of a pass draws a number for its workers: in an epoch that is resumed, it was drawn at its start.
        with kept_random_state() if resumes else nullcontext():
            batches = iter(self._loader)
        # Without workers, transforms draw from the random streams of the training loop, and must not draw ahead of it.
        if device.type != "cpu" and self._wrapped.num_workers > 0:
            yield from self._receiver.one_ahead(batches, device)
        else:
            for loaded in batches:
                yield self._receiver.receive(loaded, device)

    def _start_epoch(self) -> tuple[Record, DrawPartners]:
        """Count the epoch and, after warm-up, estimate: its record in the history, and where its partners come from."""
        self._check_length()
        if self._epochs.history:
            self._merge(self._epochs.history[-1])  # if it was left early
        epoch = self._epochs.next
        self._lockstep.start(epoch, batch=0)
        record = self._epochs.record(self._settings.phase(epoch))
        draw: DrawPartners = no_partners
        if record["phase"] != "warm-up":
            draw, estimates = self._estimator.estimate(epoch)
            record |= estimates
        # Only now: an epoch whose scan failed can be started again.
        self._epochs.begin(record)
        self._batches.forget()
        self._mixer.begin_epoch(epoch)
        return record, draw

    def _resume_epoch(self) -> tuple[Record, DrawPartners]:
        """Go on within an epoch, with what was estimated at its start."""
        self._check_length()
        self._lockstep.start(self._epochs.number, self._epochs.batch)
        self._state.to(self._view.device)  # from where it was loaded to
        record = self._epochs.resume()
        return record, no_partners if record["phase"] == "warm-up" else self._estimator.partners()

    def _merge(self, record: Record) -> None:
        """Let all processes know what each has learned; every one of them does so once an epoch."""
        if self._epochs.merged:
            return
        self._mixer.pairs = self._lockstep.end(record["epoch"], record["phase"], self._mixer.pairs)
        self._epochs.merged = True
        record["same_label_share"] = self._mixer.same_label_share()

    def _num_batches(self) -> int | None:
        """Count the batches of a whole epoch; None where the user's batch sampler does not tell."""
        try:
            return len(self)
        except TypeError:
            return None

    @property
    def epoch(self) -> int:
        """The epoch that is running or was started last; before the first, the one that comes."""
        return self._epochs.number

    @property
    def batch(self) -> int:
        """Batches that the running epoch has given, or had given when the loaded state was saved; else 0."""
        return self._epochs.batch

    @property
    def history(self) -> list[Record]:
        """One plain dict an epoch; see the class."""
        return self._epochs.history

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that the next iteration starts, and pass it on to the samplers that have a ``set_epoch``.

        The rest of an epoch that a loaded state was saved within still comes first if it is of this number.

        Warns:
            UserWarning: it is of another, and so dropped.

        Raises:
            ValueError: ``epoch`` is not an integer >= 0.
        """
        check_count("epoch", epoch)
        if self._epochs.stopped_within and epoch != self.epoch and self.batch != self._num_batches():
            warnings.warn(
                f"set_epoch({epoch}) drops what is left of epoch {self.epoch} behind its batch {self.batch}, within "
                "which the loaded state was saved; go on with `for epoch in range(loader.epoch, epochs)`",
                stacklevel=2,
            )
        self._epochs.set(epoch)
        for sampler in samplers_of(self._wrapped).values():
            pass_on = getattr(sampler, "set_epoch", None)
            if callable(pass_on):
                pass_on(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return all that a resumed run needs, as tensors and primitives: between epochs, or behind any batch.

        With ``scan="running"`` and ``neighbors="dataset"`` the representations are part of it, N·d numbers. The state
        of random generators that were passed to the DataLoader or its sampler is included, and of samplers that have a
        ``state_dict``. What remains of an epoch comes in the order in which it would have come. The epochs behind it
        draw from PyTorch's global generator where the loader shuffles without one of its own: its state is the caller's
        to keep (`torch.get_rng_state`).

        Leaving the loop ends its epoch, so within one take the state in the loop. Where loading a batch has failed, the
        state is of the batches before it, and the rest of the epoch starts with what failed.

        Of several processes, the state between epochs and behind the last batch is the same on all; elsewhere, and
        behind a loop that was left early, each has its own to save.
        """
        within, position = None, self._batches.position()
        if self._epochs.is_within and position is not None:
            within = {"position": position.state_dict(), "batch_size": self._wrapped.batch_size}
        return {
            "version": STATE_VERSION,
            "num_neighbors": self._settings.num_neighbors,
            "process": (self._processes.rank, self._processes.size),
            **self._epochs.state_dict(),
            "pairs": self._mixer.pairs.cpu(),
            "samples": self._state.state_dict(),
            "sampler_state": SamplerState.of(self._wrapped).state_dict(),
            "within": within,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where the run that `state_dict` was called on stopped.

        Warns:
            UserWarning: the saved loader had a generator where this one has none.

        Raises:
            TypeError: it is no mapping.
            ValueError: it is no state of a loader, of a newer version, of another dataset length, number of classes or
                of neighbors, or was saved within an epoch of another batch size or process.
        """
        state = upgraded(state)
        within = state["within"]
        self._check_place(state)
        if state["num_neighbors"] != self._settings.num_neighbors:
            raise ValueError(
                f"the state is of a run with num_neighbors={state['num_neighbors']}, this loader has "
                f"{self._settings.num_neighbors}"
            )
        self._state.load_state_dict(state["samples"])
        if not self._settings.keeps_representations:
            self._state.representations = None
        sampler_state = SamplerState.from_state_dict(state["sampler_state"])
        sampler_state.warn_of_missing(self._wrapped)
        sampler_state.restore(self._wrapped)
        self._epochs.load_state_dict(state, within=within is not None)
        self._mixer.begin_epoch(self._epochs.number, state["pairs"])
        if within is not None:
            self._batches.go_to(Position.from_state_dict(within["position"]), sampler_state)

    def __getattr__(self, name: str) -> Any:
        """Forward public attributes to the wrapped loader."""
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self._wrapped, name)

    def _check_place(self, state: Mapping[str, Any]) -> None:
        """Check that a state saved within an epoch is of this process and its batches."""
        within, (rank, size) = state["within"], state["process"]
        if state["merged"]:  # all processes knew the same, at the latest with the last batch: any one's is good for all
            rank = self._processes.rank
        if state["merged"] and within is None:
            size = self._processes.size
        batch_size = within["batch_size"] if within is not None else self._wrapped.batch_size
        for what, saved, own in (
            ("with batch_size", batch_size, self._wrapped.batch_size),
            ("in process (rank, number of processes)", (rank, size), (self._processes.rank, self._processes.size)),
        ):
            if saved != own:
                raise ValueError(
                    f"the state was saved within an epoch {what} {saved}, this loader has {own}; go on with the same, "
                    "each process with a state of its own, or from a state that was saved between epochs"
                )

    def _check_length(self) -> None:
        if (length := num_samples(self._wrapped)) != self._num_samples:
            raise RuntimeError(
                f"the dataset had {self._num_samples} samples and now has {length}; its length must not change while "
                "a MixNNDataLoader keeps a target for each"
            )


_OWN_NAMES = [
    name
    for name, parameter in inspect.signature(MixNNDataLoader).parameters.items()
    if parameter.kind is inspect.Parameter.KEYWORD_ONLY
]
