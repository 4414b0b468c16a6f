"""The wrapper around the user's data loader: Algorithm 1 of the paper, epoch by epoch."""

import inspect
import time
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from mixnn_loader.batch import MixNNBatch
from mixnn_loader.checks import as_device, check_count
from mixnn_loader.estimator import Estimator
from mixnn_loader.features import FeatureLayer
from mixnn_loader.mixer import BatchMixer
from mixnn_loader.model_view import ModelView
from mixnn_loader.neighbors import NeighborSearch
from mixnn_loader.partners import DrawPartners, no_partners
from mixnn_loader.receiving import ReceivedBatch, Receiver
from mixnn_loader.sampling import NeighborBatchSampler, rebuilt
from mixnn_loader.settings import Neighbors, Scan, Settings, Weighting
from mixnn_loader.source import (
    as_data_loader,
    check_map_style,
    generators_of,
    num_samples,
    samplers_of,
    training_members,
)
from mixnn_loader.state import SampleState
from mixnn_loader.unpacking import Unpack, resolve_unpack

STATE_VERSION = 2
"""Written into every state; a change of the format raises it."""

_MEASURED = (
    "scan",
    "noise_rate",
    "means",
    "variances",
    "priors",
    "search",
    "search_recall",
    "same_label_share",
    "scan_seconds",
    "mixture_seconds",
    "search_seconds",
    "batches_seconds",
)
"""What the history holds of every epoch besides its number and phase."""


class MixNNDataLoader:
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
            `mixnn_loader.features.find_feature_layer`.
        scan_dataset: the same samples in the same order without random augmentation, for scans; None: the training
            dataset.
        num_classes: C; None: the width of the model's output.
        unpack: which part of a collated batch is what: the keys ``(inputs, labels)`` or a function
            ``batch -> (inputs, labels)``; None: the first two parts.
        device: where the batches go and the model runs; None: the model's.
        autocast_dtype: the type for `torch.autocast` around the loader's own forward passes; None: no autocast of
            its own.
        state_device: where targets, losses and P of all samples are kept; None: beside the model. With ``"cpu"`` only
            the rows of a batch travel to a GPU, which then waits for each of them.
        target_dtype: the floating-point type in which targets are kept. In half precision they stop moving when the
            prediction is within 0.003 (`torch.float16`) or 0.02 (`torch.bfloat16`) of them, at momentum 0.9.
        representation_dtype: the floating-point type in which representations are kept for the search.
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
        seed: int = 0,
        progress: bool = False,
        **dataloader_kwargs: Any,
    ) -> None:
        self._settings = Settings(
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
        self._wrapped = as_data_loader(data, dataloader_kwargs, _OWN_NAMES)
        self._num_samples = num_samples(self._wrapped)
        self._settings.check_dataset(len(training_members(self._wrapped)))
        if scan_dataset is not None:
            check_map_style("scan_dataset", scan_dataset)
        if scan_dataset is not None and len(scan_dataset) != self._num_samples:
            raise ValueError(
                f"scan_dataset must have the dataset's {self._num_samples} samples, got {len(scan_dataset)}"
            )

        view = ModelView(model, feature_layer, device, autocast_dtype)
        self._receiver = Receiver(resolve_unpack(unpack), mixes=num_neighbors > 0)
        self._state = SampleState(
            self._num_samples,
            self._settings.pool_size,
            device=as_device("state_device", state_device),
            target_dtype=target_dtype,
            representation_dtype=representation_dtype,
        )
        self._state.to(view.device)
        if num_classes is not None:
            self._state.set_num_classes(num_classes)
        self._estimator = Estimator(
            self._settings,
            view,
            self._receiver,
            self._state,
            loader=self._wrapped,
            dataset=self._wrapped.dataset if scan_dataset is None else scan_dataset,
            progress=progress,
        )
        self._view = view
        self._mixer = BatchMixer(self._settings, view, self._state)
        self._batch_sampler = NeighborBatchSampler(self._wrapped.batch_sampler, seed)
        self._loader = rebuilt(self._wrapped, self._wrapped.dataset, batch_sampler=self._batch_sampler)

        self._epoch = 0
        self._started = False
        self._running: dict[str, Any] | None = None  # the history's record of the epoch that is being iterated
        self.history: list[dict[str, Any]] = []

    def __len__(self) -> int:
        """Return the number of batches an epoch."""
        return len(self._wrapped)

    def __iter__(self) -> Iterator[MixNNBatch]:
        """Iterate one epoch (Algorithm 1). It starts with the first batch that is asked for, not with ``iter()``.

        Raises:
            RuntimeError: the dataset's length has changed, the model gives no finite loss at all, or another epoch has
                been started meanwhile.
        """
        record, draw = self._start_epoch()
        self._batch_sampler.begin_epoch(self._epoch, draw)
        self._mixer.begin_epoch(self._epoch)
        seconds, resumed = 0.0, time.perf_counter()
        try:
            for received in self._received():
                with record_function("mixnn_loader.mix"):
                    batch = self._mixer.mix(received)
                seconds += time.perf_counter() - resumed
                yield batch
                resumed = time.perf_counter()
                if self._running is not record:  # before the next batch is fetched, which would be the other epoch's
                    raise RuntimeError(
                        f"epoch {record['epoch']} is over: another was started; iterate one epoch at a time"
                    )
        finally:
            record["batches_seconds"] = seconds
            if self._running is record:
                self._running = None
                record["same_label_share"] = self._mixer.same_label_share()

    def _received(self) -> Iterator[ReceivedBatch]:
        """Load the epoch's batches and bring them to the model's device."""
        device = self._view.device
        # Without workers, transforms draw from the random streams of the training loop, and must not draw ahead of it.
        if device.type != "cpu" and self._wrapped.num_workers > 0:
            yield from self._receiver.one_ahead(self._loader, device)
        else:
            for loaded in self._loader:
                yield self._receiver.receive(loaded, device)

    def _start_epoch(self) -> tuple[dict[str, Any], DrawPartners]:
        """Count the epoch and, after warm-up, estimate: its record in the history, and where its partners come from."""
        self._check_length()
        epoch = self._epoch + self._started
        phase = self._settings.phase(epoch)
        record: dict[str, Any] = {"epoch": epoch, "phase": phase, **dict.fromkeys(_MEASURED)}
        draw: DrawPartners = no_partners
        if phase != "warm-up":
            draw, estimates = self._estimator.estimate(epoch)
            record |= estimates
        # Only now: an epoch whose scan failed can be started again.
        self._epoch, self._started = epoch, True
        self.history.append(record)
        self._running = record
        return record, draw

    @property
    def epoch(self) -> int:
        """The epoch that is running or was started last; before the first, the one that comes."""
        return self._epoch

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that the next iteration starts, and pass it on to the samplers that have a ``set_epoch``.

        Raises:
            ValueError: ``epoch`` is not an integer >= 0.
        """
        check_count("epoch", epoch)
        self._epoch, self._started = epoch, False
        for sampler in samplers_of(self._wrapped).values():
            pass_on = getattr(sampler, "set_epoch", None)
            if callable(pass_on):
                pass_on(epoch)

    @property
    def given_labels(self) -> Tensor:
        """(N,) int64 on the CPU, the dataset's labels; -1 where none has been seen yet. Not to be written to."""
        return self._state.given_labels

    @property
    def losses(self) -> Tensor:
        """(N,) float32, cross-entropy against the given labels at the last scan; NaN if that did not include it.

        With ``scan="running"``, when the sample was last drawn. It is written over: clone what you want to keep.
        """
        return self._state.losses

    @property
    def clean_probability(self) -> Tensor:
        """(N,) float32, the probability that the given label is right (Eq. 9); NaN where there is no loss to tell.

        It can be too small for float32 and then is zero; the weights are made of its logarithm.
        """
        return self._state.log_clean_probability.exp()

    @property
    def soft_targets(self) -> Tensor:
        """(N, C) of ``target_dtype``, the targets t, corrected so far (Eq. 12). Not to be written to.

        Raises:
            RuntimeError: read before the first batch, and without ``num_classes``.
        """
        return self._state.known_targets()

    @property
    def neighbor_indices(self) -> Tensor:
        """(N, K) int64 on the CPU, each sample's K nearest neighbors, nearest first; -1 where no search was made."""
        return self._state.neighbor_pool[:, : self._settings.num_neighbors]

    def state_dict(self) -> dict[str, Any]:
        """Return all that a resumed run needs, as tensors and primitives, at an epoch boundary.

        With ``scan="running"`` and ``neighbors="dataset"`` the representations are part of it, N·d numbers. The state
        of random generators that were passed to the DataLoader or its sampler is included. A loader that shuffles
        without one draws from PyTorch's global generator, whose state is the caller's to keep (`torch.get_rng_state`).

        Raises:
            RuntimeError: an epoch is running.
        """
        if self._running is not None:
            raise RuntimeError("state_dict() must be called between epochs, not while one is iterated")
        return {
            "version": STATE_VERSION,
            "epoch": self._epoch + self._started,
            "batch": 0,
            "num_neighbors": self._settings.num_neighbors,
            "samples": self._state.state_dict(),
            "generators": {name: generator.get_state() for name, generator in generators_of(self._wrapped).items()},
            "history": [dict(record) for record in self.history],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where the run that `state_dict` was called on stopped.

        Warns:
            UserWarning: the saved loader had a generator where this one has none.

        Raises:
            ValueError: the state is of another version, dataset length, number of classes or of neighbors.
        """
        if state["version"] != STATE_VERSION:
            raise ValueError(f"the state is of version {state['version']}, this library reads {STATE_VERSION}")
        if state["num_neighbors"] != self._settings.num_neighbors:
            raise ValueError(
                f"the state is of a run with num_neighbors={state['num_neighbors']}, this loader has "
                f"{self._settings.num_neighbors}"
            )
        self._state.load_state_dict(state["samples"])
        if not self._settings.keeps_representations:
            self._state.representations = None
        generators = generators_of(self._wrapped)
        if missing := [name for name in state["generators"] if name not in generators]:
            warnings.warn(
                f"the state has generators for {', '.join(missing)}, this loader has none: the order will differ",
                stacklevel=2,
            )
        for name in generators.keys() & state["generators"].keys():
            generators[name].set_state(state["generators"][name].cpu())
        self.history = [dict(record) for record in state["history"]]
        self._epoch, self._started, self._running = state["epoch"], False, None

    def __getattr__(self, name: str) -> Any:
        """Forward public attributes to the wrapped loader."""
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self._wrapped, name)

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
