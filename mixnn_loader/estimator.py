"""Steps 1 to 3 of Algorithm 1: the dataset, once an epoch -> P(clean) and the neighbors of every sample."""

import time
import warnings
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader

from mixnn_loader.mixture import log_clean_posterior
from mixnn_loader.model_view import ModelView
from mixnn_loader.neighbors import resolve_search, search_all
from mixnn_loader.partners import DrawPartners, nearest_partners, no_partners, random_partners
from mixnn_loader.progress import progress_bar
from mixnn_loader.rng import derived_rng, forked_random_state
from mixnn_loader.sampling import MemberSampler, NeighborBatchSampler, rebuilt
from mixnn_loader.scan import ScanResult, scan
from mixnn_loader.settings import Settings
from mixnn_loader.source import training_members
from mixnn_loader.state import SampleState
from mixnn_loader.unpacking import Unpack

SCAN_BATCH_SIZE = 128
"""Batch size of the scan where the user's batch sampler has none of its own."""

_SCAN_STREAM = 0
"""Sets the random numbers of the scan apart from those of the batches."""


class Estimator:
    """Looks at the whole training set through the model.

    Args:
        settings: the hyper-parameters.
        view: the model.
        unpack: collated batch -> (inputs, labels).
        state: the per-sample state, which every call of `estimate` updates.
        loader: the user's loader, whose settings the scan takes over and whose sampler says what is training data.
        dataset: what to scan, a row for each of the user's dataset.
        progress: show a progress bar.

    Raises:
        ImportError: what ``search`` or ``progress`` needs is not installed.
    """

    def __init__(
        self,
        settings: Settings,
        view: ModelView,
        unpack: Unpack,
        state: SampleState,
        *,
        loader: DataLoader[Any],
        dataset: Any,
        progress: bool,
    ) -> None:
        self._settings = settings
        self._view = view
        self._unpack = unpack
        self._state = state
        self._loader = loader
        self._bar = progress_bar() if progress else None
        if settings.searches:  # what is wrong with the choice shows now rather than after warm-up
            resolve_search(settings.search, num_rows=len(training_members(loader)), device=view.device)
        self._members = MemberSampler(training_members(loader))
        self._generator = torch.Generator()
        batches = BatchSampler(self._members, loader.batch_size or SCAN_BATCH_SIZE, drop_last=False)
        self._scan_loader = rebuilt(
            loader,
            dataset,
            batch_sampler=NeighborBatchSampler(batches, settings.seed),
            generator=self._generator,
            in_order=True,
        )

    def estimate(self, epoch: int) -> tuple[DrawPartners, dict[str, Any]]:
        """Scan the training set and update the state.

        Returns:
            What draws the partners of a batch in this epoch, and the epoch's entries for the history.

        Raises:
            RuntimeError: the sampler can draw no sample, or none has a finite loss and representation.
        """
        start = time.perf_counter()
        # A sampler's weights or indices may have been changed, as a curriculum does.
        self._members.indices = training_members(self._loader)
        if len(self._members) == 0:
            raise RuntimeError("the sampler can draw no sample: its indices are empty, or its weights all zero")
        result = self._scan(epoch)
        members = torch.from_numpy(self._members.indices)
        self._state.set_num_classes(result.num_classes)
        self._state.to(self._view.device)
        self._state.record_labels(members, result.labels)
        usable = _usable_rows(result)
        scanned = time.perf_counter()

        log_posterior, mixture = log_clean_posterior(result.losses.masked_fill(~usable, torch.nan))
        rows = members.to(log_posterior.device)
        self._state.losses.fill_(torch.nan)
        self._state.log_clean_probability.fill_(torch.nan)
        self._state.losses[rows] = result.losses
        self._state.log_clean_probability[rows] = log_posterior
        fitted = time.perf_counter()

        draw, backend = self._partners(result, usable)
        return draw, {
            "noise_rate": 1 - float(log_posterior[usable].exp().mean()) if mixture else None,
            "means": mixture and mixture.means,
            "variances": mixture and mixture.variances,
            "priors": mixture and mixture.priors,
            "search": backend,
            "scan_seconds": scanned - start,
            "mixture_seconds": fitted - scanned,
            "search_seconds": time.perf_counter() - fitted,
        }

    def _scan(self, epoch: int) -> ScanResult:
        # The pass draws from random streams of its own: the user's come out as if it had not been made.
        seed = int(derived_rng(self._settings.seed, epoch, _SCAN_STREAM).integers(2**32))
        self._generator.manual_seed(seed)
        with forked_random_state(seed):
            batches = self._scan_loader
            return scan(
                self._bar(batches, desc=f"scan, epoch {epoch}", leave=False) if self._bar else batches,
                len(self._members),
                self._view,
                self._unpack,
                need_representations=self._settings.searches,
            )

    def _partners(self, result: ScanResult, usable: Tensor) -> tuple[DrawPartners, str | None]:
        settings = self._settings
        if settings.num_neighbors == 0 or settings.pairs_in_batch:
            return no_partners, None
        rows = torch.from_numpy(self._members.indices)[usable.cpu()]
        num_samples = len(self._state.given_labels)
        if result.representations is None:
            return random_partners(rows.numpy(), num_samples, settings.num_neighbors), None

        backend = resolve_search(self._settings.search, num_rows=len(rows), device=result.representations.device)
        pool = torch.arange(num_samples).unsqueeze(1).repeat(1, settings.pool_size)
        num_found = min(settings.pool_size, len(rows) - 1)
        if num_found > 0:
            everything = len(rows) == len(usable)  # no copy where nothing is left out
            representations = result.representations if everything else result.representations[usable]
            found = search_all(backend, representations, num_found)
            pool[rows, :num_found] = rows[found.cpu()]
        self._state.neighbor_pool = pool
        return nearest_partners(pool.numpy(), settings.num_neighbors), type(backend).__name__


def _usable_rows(result: ScanResult) -> Tensor:
    """Mark the samples with a finite loss and a finite representation, (n,) bool."""
    usable = result.losses.isfinite()
    if result.representations is not None:
        usable &= result.representations.isfinite().all(dim=1)
    num_usable = int(usable.sum())
    if num_usable == 0:
        raise RuntimeError(
            "the model gives no sample a finite loss and representation: it has diverged; lower the learning rate or "
            "resume from an earlier checkpoint"
        )
    if num_usable < len(usable):
        warnings.warn(
            f"{len(usable) - num_usable} of {len(usable)} samples have a NaN or infinite loss or representation; they "
            "count as wrong and are not mixed with others",
            RuntimeWarning,
            stacklevel=2,
        )
    return usable
