"""Steps 1 to 3 of Algorithm 1: the dataset, once an epoch -> P(clean) and the neighbors of every sample."""

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.profiler import record_function

from mixnn_loader._utils.batch_indices import BatchIndices
from mixnn_loader._utils.memory import CHUNK_ROWS
from mixnn_loader._utils.processes import Processes
from mixnn_loader._utils.transfer import to_device
from mixnn_loader._utils.warn_once import WarnOnce
from mixnn_loader.method.credibility import Estimate, Evidence
from mixnn_loader.method.soft_targets import credible_targets, sharpened
from mixnn_loader.model.predictor import ModelView
from mixnn_loader.neighbors.source import Candidates
from mixnn_loader.run.answers import checked_estimate, checked_found
from mixnn_loader.run.dataset_scan import DatasetScan
from mixnn_loader.run.epoch import Epoch
from mixnn_loader.run.sample_table import SampleTable
from mixnn_loader.run.settings import Settings
from mixnn_loader.run.standing_votes import StandingVotes
from mixnn_loader.run.usable import is_usable


class Estimator:
    """Looks at the whole training set through the model.

    Args:
        settings: the hyper-parameters.
        view: the model.
        table: the per-sample rows, which every call of `estimate` updates.
        dataset_scan: asks the model about all samples.
        processes: which train together, and share the work.
    """

    def __init__(
        self, settings: Settings, view: ModelView, table: SampleTable, dataset_scan: DatasetScan, processes: Processes
    ) -> None:
        self._settings = settings
        self._view = view
        self._table = table
        self._dataset_scan = dataset_scan
        self._processes = processes
        self._warn = WarnOnce()
        self._votes = StandingVotes()

    def estimate(self, epoch: Epoch) -> dict[str, Any] | None:
        """Bring the table up to date for an epoch after warm-up.

        Returns:
            The epoch's entries for the history; none in an epoch that leaves everything as the last scan found it. Or
            else None: nothing is known of any sample.

        Raises:
            RuntimeError: the sampler can draw no sample, or none has a finite loss and representation.
        """
        settings, table = self._settings, self._table
        members = self._dataset_scan.choose()
        if len(members) == 0:  # what is drawn from now on will take part
            return None
        met = self._met(members)
        scans = settings.scans(epoch.number, epoch.warmup) or self._lacks_something(members) or not met.any()
        if not scans and (settings.scan == "epoch" or (self._asks and not table.has("representations"))):
            return {}

        started = time.perf_counter()
        if scans:
            with record_function("mixnn_loader.scan"):
                self._dataset_scan.run(table, epoch.number, need_representations=settings.needs_representations)
        else:
            members = members[met]
        usable = self._usable(members)
        scanned = time.perf_counter()
        votes = None
        if self._asks:
            with record_function("mixnn_loader.vote"):
                votes = self._votes.ask(settings, table, self._processes, members, usable)
        asked = time.perf_counter()
        with record_function("mixnn_loader.mixture"):
            shares = None if votes is None else votes.shares
            log_posterior, mixture, likely = self._fit(
                members, usable, shares, settings.progress(epoch.number, epoch.warmup)
            )
        if settings.correct_by == "credibility" and epoch.phase == "correction":
            self._correct(members, usable, likely)
        fitted = time.perf_counter()
        backend, recall = (votes.backend, votes.recall) if votes is not None else (None, None)
        if self._searches and table.has("representations"):
            with record_function("mixnn_loader.search"):
                backend, recall = self._search(members[usable.cpu()])
        if not settings.keeps_representations:
            table.drop("representations")
        posterior = log_posterior[usable].exp()
        tells_apart = mixture is not None or bool((posterior != posterior[0]).any())
        return {
            "scan": "epoch" if scans else settings.scan,
            "noise_rate": 1 - float(posterior.mean()) if tells_apart else None,
            "means": mixture and mixture.means,
            "variances": mixture and mixture.variances,
            "priors": mixture and mixture.priors,
            "separation": mixture and mixture.separation,
            "search": backend,
            "search_recall": recall,
            "scan_seconds": scanned - started,
            "mixture_seconds": fitted - asked,
            "search_seconds": time.perf_counter() - fitted + asked - scanned,
        }

    def candidates(self) -> Candidates:
        """Say who may become a neighbor, by what the table holds."""
        usable = np.flatnonzero(
            ~self._table.log_clean_probability.isnan().cpu().numpy() & self._table.losses.isfinite().cpu().numpy()
        )
        pool = self._table.neighbor_pool.numpy()
        if (pool < 0).any():  # no search was made: nobody has neighbors
            pool = np.where(pool < 0, np.arange(len(pool))[:, None], pool)
        return Candidates(usable, pool)

    @property
    def _searches(self) -> bool:
        return self._settings.source.sees == "dataset" and self._settings.pool_size > 0

    @property
    def _asks(self) -> bool:
        return self._settings.estimator.uses_votes

    def _met(self, members: Tensor) -> Tensor:
        """Mark the members (n,) of whom something is known, (n,) bool: not those drawn only from this epoch on."""
        met = self._table.losses.isfinite() | ~self._table.log_clean_probability.isnan()
        return met.cpu()[members]

    def _lacks_something(self, members: Tensor) -> bool:
        """Whether the table lacks what is needed: it is of a run with other settings, or nobody has voted yet."""
        lacks_neighbors = self._searches and bool((self._table.neighbor_pool[members] < 0).any())
        lacks_representations = self._settings.keeps_representations and not self._table.has("representations")
        log_probability = self._table.log_clean_probability
        # Of losses alone, which training steps tell, no vote is made.
        lacks_votes = self._asks and bool(log_probability[to_device(members, log_probability.device)].isnan().all())
        return lacks_neighbors or lacks_representations or lacks_votes

    def _usable(self, members: Tensor) -> Tensor:
        """Mark the members (n,) with a finite loss and a finite representation, (n,) bool."""
        table, overflow = self._table, ""
        if table.has("representations") and table.representations.dtype == torch.float16:
            overflow = "; representation_dtype=torch.float16 holds none beyond 65,504"
        usable = is_usable(table, members)
        num_usable = int(usable.sum())
        if num_usable == 0:
            raise RuntimeError(
                "the model gives no sample a finite loss and representation: it has diverged; lower the learning rate "
                "or resume from an earlier checkpoint. If that comes at once, look for NaN or infinite values in the "
                f"inputs{overflow}"
            )
        if num_usable < len(usable):
            self._warn(
                "%d of %d samples have a NaN or infinite loss or representation; they count as wrong and are not "
                f"mixed with others{overflow}",
                len(usable) - num_usable,
                len(usable),
            )
        return usable

    def _fit(self, members: Tensor, usable: Tensor, votes: Tensor | None, progress: float) -> Estimate:
        """Step 2: estimate log P(clean) of the members (n,), and write it to the table."""
        settings, table = self._settings, self._table
        rows = to_device(members, table.losses.device)
        losses = table.losses[rows].masked_fill(~usable, torch.nan)
        averages = table.make_averages()[rows] if settings.estimator.uses_averages else None
        if votes is not None:
            votes = to_device(votes, losses.device)
        evidence = Evidence(members, table.given_labels[members], losses, averages, votes, progress)
        answer = settings.estimator.estimate(evidence, self._warn)
        log_posterior, mixture, likely = checked_estimate(answer, len(members))
        log_posterior = to_device(log_posterior, losses.device, torch.float32)
        log_posterior = log_posterior.masked_fill(~usable, -torch.inf)  # whatever an own estimate says of them
        log_posterior = self._processes.first(log_posterior)  # other hardware may round differently
        table.log_clean_probability.fill_(torch.nan)
        table.log_clean_probability[rows] = log_posterior
        return Estimate(log_posterior, mixture, likely)

    def _correct(self, members: Tensor, usable: Tensor, likely: Tensor | None) -> None:
        """Make new targets of the usable members: of labels, P, and what is likely (n, C), or else was predicted."""
        table = self._table
        device = table.losses.device
        for places in torch.split(usable.cpu().nonzero().flatten(), CHUNK_ROWS):
            some = BatchIndices(members[places])
            rows, labels = some.on(device), to_device(table.given_labels[some.host], device)
            if likely is None:
                of_some = sharpened(table.make_averages()[rows], labels)
            else:
                of_some = to_device(likely[to_device(places, likely.device)], device)
            table.write("soft_targets", some, credible_targets(labels, of_some, table.log_clean_probability[rows]))

    def _search(self, rows: Tensor) -> tuple[str | None, float | None]:
        """Step 3: find the neighbors of the dataset's ``rows`` (n,) among each other; the backend and its recall."""
        settings, table = self._settings, self._table
        pool = torch.arange(len(table), dtype=torch.int64, device="cpu").unsqueeze(1).repeat(1, settings.table_width)
        backend, recall = None, None
        num_found = min(settings.pool_size, len(rows) - 1)
        representations = table.representations
        if not settings.keeps_representations:
            table.drop("representations")  # before a part is copied: only that part stays in memory
        if len(rows) < len(table):
            representations = representations[to_device(rows, representations.device)]
        if num_found > 0:
            queries = self._processes.own_part(len(rows), representations.device)
            answer = settings.source.search(representations, num_found, queries)
            num_queries = len(rows) if queries is None else len(queries)
            found, backend, recall = checked_found(answer, num_queries, num_found, len(rows))
            pool[rows, :num_found] = rows[self._processes.gather(found.cpu())]
        table.replace("neighbor_pool", pool)
        return backend, recall
