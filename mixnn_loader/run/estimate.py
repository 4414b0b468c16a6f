"""Steps 1 to 3 of Algorithm 1: the dataset, once an epoch -> P(clean) and the neighbors of every sample."""

import time
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.profiler import record_function
from torch.utils.data import DataLoader

from mixnn_loader._utils.processes import Processes
from mixnn_loader._utils.progress import progress_bar
from mixnn_loader._utils.random_state import derived_rng, forked_random_state
from mixnn_loader._utils.warn_once import WarnOnce
from mixnn_loader.data.indexed import LoadedBatch, NeighborBatchSampler, rebuilt
from mixnn_loader.data.scan_batches import MemberBatches
from mixnn_loader.data.to_device import Receiver
from mixnn_loader.data.user_loader import training_members
from mixnn_loader.method.clean_probability import log_clean_posterior
from mixnn_loader.method.gaussian_mixture import Mixture
from mixnn_loader.model.predictor import ModelView
from mixnn_loader.neighbors import resolve_search, search_all
from mixnn_loader.neighbors.draw import DrawPartners, nearest_partners, no_partners, random_partners
from mixnn_loader.run.sample_table import SampleState
from mixnn_loader.run.scan import scan
from mixnn_loader.run.settings import Settings
from mixnn_loader.run.share_rows import share_predictions

SCAN_BATCH_SIZE = 128
"""Batch size of the scan where the user's batch sampler has none of its own."""

_CHUNK_ROWS = 65_536
"""Representations are looked at in chunks: a mask of all of them would take a quarter of their memory."""

_SCAN_STREAM = 0
"""Sets the random numbers of the scan apart from those of the batches."""


class Estimator:
    """Looks at the whole training set through the model.

    Args:
        settings: the hyper-parameters.
        view: the model.
        receiver: brings batches to the model's device.
        state: the per-sample state, which every call of `estimate` updates.
        loader: the user's loader, whose settings the scan takes over and whose sampler says what is training data.
        dataset: what to scan, a row for each of the user's dataset.
        progress: show a progress bar.
        processes: which train together, and share the work.

    Raises:
        ImportError: what ``search`` or ``progress`` needs is not installed.
    """

    def __init__(
        self,
        settings: Settings,
        view: ModelView,
        receiver: Receiver,
        state: SampleState,
        *,
        loader: DataLoader[Any],
        dataset: Any,
        progress: bool,
        processes: Processes,
    ) -> None:
        self._settings = settings
        self._view = view
        self._receiver = receiver
        self._state = state
        self._loader = loader
        self._processes = processes
        self._bar = progress_bar() if progress else None
        self._warn = WarnOnce()
        if settings.searches:  # what is wrong with the choice shows now rather than after warm-up
            resolve_search(settings.search, num_rows=len(training_members(loader)), device=view.device)
        self._members = MemberBatches(training_members(loader), loader.batch_size or SCAN_BATCH_SIZE)
        self._generator = torch.Generator()
        self._batch_sampler = NeighborBatchSampler(self._members, settings.seed, reseeds=True)
        self._scan_loader = rebuilt(
            loader,
            dataset,
            batch_sampler=self._batch_sampler,
            generator=self._generator,
            in_order=True,
            persistent_workers=loader.persistent_workers and settings.scans_again,
        )

    def estimate(self, epoch: int) -> tuple[DrawPartners, dict[str, Any]]:
        """Bring the state up to date for an epoch past warm-up.

        Returns:
            What draws the partners of a batch in this epoch, and the epoch's entries for the history; no entries in an
            epoch that leaves everything as the last scan found it.

        Raises:
            RuntimeError: the sampler can draw no sample, or none has a finite loss and representation.
        """
        # A sampler's weights or indices may have been changed, as a curriculum does.
        members = self._processes.union(torch.from_numpy(training_members(self._loader)))
        if len(members) == 0:
            raise RuntimeError("the sampler can draw no sample: its indices are empty, or its weights all zero")
        self._members.share(members.numpy(), self._processes.rank, self._processes.size)
        self._state.to(self._view.device)
        met = self._met(members)
        scans = self._settings.scans(epoch) or self._lacks_something() or not met.any()
        if not scans and self._settings.scan == "epoch":
            return self.partners(), {}

        started = time.perf_counter()
        if scans:
            with record_function("mixnn_loader.scan"):
                self._scan(epoch)
        else:
            members = members[met]
        usable = self._usable(members)
        scanned = time.perf_counter()
        with record_function("mixnn_loader.mixture"):
            log_posterior, mixture = self._fit(members, usable)
        fitted = time.perf_counter()
        backend, recall = None, None
        if self._state.representations is not None:
            with record_function("mixnn_loader.search"):
                backend, recall = self._search(members[usable.cpu()])
        return self.partners(), {
            "scan": "epoch" if scans else "running",
            "noise_rate": 1 - float(log_posterior[usable].exp().mean()) if mixture else None,
            "means": mixture and mixture.means,
            "variances": mixture and mixture.variances,
            "priors": mixture and mixture.priors,
            "search": backend,
            "search_recall": recall,
            "scan_seconds": scanned - started,
            "mixture_seconds": fitted - scanned,
            "search_seconds": time.perf_counter() - fitted,
        }

    def _met(self, members: Tensor) -> Tensor:
        """Mark the members (n,) of whom something is known, (n,) bool: not those drawn only from this epoch on."""
        met = self._state.losses.isfinite() | ~self._state.log_clean_probability.isnan()
        return met.cpu()[members]

    def _lacks_something(self) -> bool:
        """Whether the state is that of a run with other settings, which did not collect what this one needs."""
        lacks_neighbors = self._settings.searches and bool((self._state.neighbor_pool < 0).any())
        lacks_representations = self._settings.keeps_representations and self._state.representations is None
        return lacks_neighbors or lacks_representations

    def _scan(self, epoch: int) -> None:
        """Step 1: take the loss and the representation of every sample."""
        self._state.losses.fill_(torch.nan)
        # The pass draws from random streams of its own: the user's come out as if it had not been made.
        seed = int(derived_rng(self._settings.seed, epoch, _SCAN_STREAM).integers(2**32))
        self._batch_sampler.begin_epoch(epoch, no_partners)
        self._generator.manual_seed(seed)
        with forked_random_state(seed):
            batches: Iterable[LoadedBatch] = self._scan_loader
            if self._bar is not None:
                batches = self._bar(batches, desc=f"scan, epoch {epoch}", leave=False)
            with self._view.buffers_of_first(self._processes):
                scan(
                    self._receiver.one_ahead(batches, self._view.device),
                    self._view,
                    self._state,
                    need_representations=self._settings.searches,
                )
        if self._processes.size > 1:
            scanned = torch.from_numpy(self._members.own_indices())
            share_predictions(self._state, scanned, self._processes, self._view.device)

    def _usable(self, members: Tensor) -> Tensor:
        """Mark the members (n,) with a finite loss and a finite representation, (n,) bool."""
        usable = self._state.losses[members.to(self._state.losses.device)].isfinite()
        overflow = ""
        if self._state.representations is not None:
            if self._state.representations.dtype == torch.float16:
                overflow = "; representation_dtype=torch.float16 holds none beyond 65,504"
            chunks = torch.split(self._state.representations, _CHUNK_ROWS)
            finite = torch.cat([chunk.isfinite().all(dim=1) for chunk in chunks])
            usable &= finite[members.to(finite.device)].to(usable.device)
        num_usable = int(usable.sum())
        if num_usable == 0:
            raise RuntimeError(
                "the model gives no sample a finite loss and representation: it has diverged; lower the learning rate "
                f"or resume from an earlier checkpoint{overflow}"
            )
        if num_usable < len(usable):
            self._warn(
                "%d of %d samples have a NaN or infinite loss or representation; they count as wrong and are not "
                f"mixed with others{overflow}",
                len(usable) - num_usable,
                len(usable),
            )
        return usable

    def _fit(self, members: Tensor, usable: Tensor) -> tuple[Tensor, Mixture | None]:
        """Step 2: log P(clean) of the members (n,), also written to the state, and the mixture."""
        rows = members.to(self._state.losses.device)
        losses = self._state.losses[rows].masked_fill(~usable, torch.nan)
        log_posterior, mixture = log_clean_posterior(losses, self._warn)
        log_posterior = self._processes.first(log_posterior)  # other hardware may round differently
        self._state.log_clean_probability.fill_(torch.nan)
        self._state.log_clean_probability[rows] = log_posterior
        return log_posterior, mixture

    def _search(self, rows: Tensor) -> tuple[str | None, float | None]:
        """Step 3: find the neighbors of the dataset's ``rows`` (n,) among each other; the backend and its recall."""
        settings = self._settings
        num_samples = len(self._state.given_labels)
        pool = torch.arange(num_samples).unsqueeze(1).repeat(1, settings.pool_size)
        backend, recall = None, None
        num_found = min(settings.pool_size, len(rows) - 1)
        representations = self._state.known_representations()
        if not settings.keeps_representations:
            self._state.representations = None  # before a part is copied: only that part stays in memory
        if len(rows) < num_samples:
            representations = representations[rows.to(representations.device)]
        if num_found > 0:
            search = resolve_search(settings.search, num_rows=len(rows), device=representations.device)
            queries = None
            if self._processes.size > 1:  # each process answers for its share
                numbers = torch.arange(len(rows), device=representations.device)
                queries = numbers.tensor_split(self._processes.size)[self._processes.rank]
            found, backend, recall = search_all(search, representations, num_found, queries)
            pool[rows, :num_found] = rows[self._processes.gather(found.cpu())]
        self._state.neighbor_pool = pool
        return backend, recall

    def partners(self) -> DrawPartners:
        """Say where the partners of a batch come from, by what the state holds."""
        settings = self._settings
        if settings.num_neighbors == 0 or settings.pairs_in_batch:
            return no_partners
        if settings.searches:
            return nearest_partners(self._state.neighbor_pool.numpy(), settings.num_neighbors)
        usable = self._state.log_clean_probability.isfinite().cpu().numpy()
        return random_partners(np.flatnonzero(usable), len(usable), settings.num_neighbors)
