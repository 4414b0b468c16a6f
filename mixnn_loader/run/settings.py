"""The method's hyper-parameters: their ranges, and what follows from them."""

from dataclasses import dataclass, field, fields
from typing import Literal, get_args

import numpy as np
import torch

from mixnn_loader._utils.checks import check_choice, check_count, check_fraction, check_not_negative
from mixnn_loader.method.credibility import Credibility, credibility_of
from mixnn_loader.method.weights import Weighting, weighting_of
from mixnn_loader.neighbors.choose import resolve_search
from mixnn_loader.neighbors.protocol import NeighborSearch
from mixnn_loader.neighbors.source import NeighborSource, NoNeighbors
from mixnn_loader.neighbors.sources import neighbor_source
from mixnn_loader.run.place import Phase

Auto = Literal["auto"]
WarmupRule = Literal["auto", "settled"]
Scan = Literal["epoch", "running", "training"]
Correction = Literal["prediction", "credibility"]

WARMUP_EPOCHS = 10
CORRECTION_EPOCH = 60
"""W and E_s of the paper's 300 epochs on CIFAR-10."""

WARMUP_SHARE = 1 / 30
CORRECTION_SHARE = 1 / 5
"""What part of the training these are."""

MOST_WARMUP_SHARE = 1 / 8
"""The part of the training that warm-up may be, at least one epoch, where the model takes long to settle."""

SHORT_TRAINING = 20
"""Epochs. In a shorter training an eighth is too little for a network that knows nothing, and few labels are memorized:
warm-up may be half of what is lacking to this, and two epochs less than half of the training at most."""

MEMORIZING = 15
"""Epochs after warm-up, taken for passes. In fewer, a network that starts from nothing memorizes few labels of
photographs, and more of easier inputs."""


def in_proportion(epochs: int, share: float) -> int:
    """Return a share of a training in whole epochs: at least one, and one less than all of them at the most."""
    return min(max(1, round(epochs * share)), epochs - 1)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Hyper-parameters of MixNN; `mixnn_loader.MixNNDataLoader` documents each.

    Attributes:
        source: where neighbors come from, made of ``neighbors``, ``neighbor_pool`` and ``search``.
        weigh: how weights follow from credibility, made of ``weighting``.
        estimator: how the credibility of labels is estimated, made of ``credibility``.

    Raises:
        ValueError: an argument is outside its range.
        TypeError: an argument is of a kind that cannot be used.
    """

    num_neighbors: int
    epochs: int | None
    warmup_epochs: int | WarmupRule
    correction_epoch: int | Auto | None
    epoch_length: int | None
    momentum: float
    early_learning: float
    prediction_momentum: float
    correct_by: str
    correct_neighbors: bool
    neighbors: str | NeighborSource
    neighbor_pool: int | None
    search: str | NeighborSearch
    weighting: str | Weighting
    credibility: str | Credibility
    scan: str
    scan_every: int | None
    seed: int
    source: NeighborSource = field(init=False, repr=False)
    weigh: Weighting = field(init=False, repr=False)
    estimator: Credibility = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # NumPy's numbers are welcome, but not everything that these go to takes them.
        for given in fields(self):
            value = getattr(self, given.name, None)
            if isinstance(value, np.generic):
                object.__setattr__(self, given.name, value.item())
        check_count("num_neighbors", self.num_neighbors)
        check_count("seed", self.seed)
        for name, minimum in (("epochs", 1), ("epoch_length", 1)):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name), minimum, "None or an integer")
        if self.warmup_epochs not in get_args(WarmupRule):
            check_count("warmup_epochs", self.warmup_epochs, 0, "'auto', 'settled' or an integer")
        if self.correction_epoch not in ("auto", None):
            check_count("correction_epoch", self.correction_epoch, 0, "'auto', None or an integer")
        if self.epochs is not None and not isinstance(self.warmup_epochs, str) and self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs must be smaller than epochs ({self.epochs}), got {self.warmup_epochs}: nothing would "
                "be mixed"
            )
        if self.epochs is not None and isinstance(self.correction_epoch, int) and self.correction_epoch >= self.epochs:
            raise ValueError(
                f"correction_epoch must be None, or smaller than epochs ({self.epochs}), got {self.correction_epoch}: "
                "no label would be corrected"
            )
        check_choice("scan", self.scan, get_args(Scan))
        if self.scan_every is not None:
            check_count("scan_every", self.scan_every, 1, "None or an integer")
        check_fraction("momentum", self.momentum)
        check_fraction("prediction_momentum", self.prediction_momentum)
        check_choice("correct_by", self.correct_by, get_args(Correction))
        check_not_negative("early_learning", self.early_learning)
        if not isinstance(self.correct_neighbors, bool):
            raise ValueError(f"correct_neighbors must be True or False, got {self.correct_neighbors!r}")
        estimator = credibility_of(self.credibility)
        # A search is also for those who vote, whoever is mixed with whom.
        is_for_voters = estimator.uses_votes and self.neighbors != "dataset"
        if is_for_voters:
            resolve_search(self.search, num_rows=1, device=torch.device("cpu"))  # what is wrong with it shows at once
        source = neighbor_source(self.neighbors, self.neighbor_pool, "auto" if is_for_voters else self.search)
        if self.neighbor_pool is not None and self.neighbor_pool < self.num_neighbors:
            raise ValueError(
                f"neighbor_pool must be None or >= num_neighbors ({self.num_neighbors}), got {self.neighbor_pool}"
            )
        searched = source.pool_size(self.num_neighbors)
        if 0 < searched < self.num_neighbors or (searched > 0 and source.sees != "dataset"):
            raise ValueError(
                f"neighbors={source!r} searches {searched} neighbors a sample: its pool_size must be 0 or >= "
                f"num_neighbors ({self.num_neighbors}), and with one its sees must be 'dataset', got {source.sees!r}"
            )
        never_sees = source.sees == "batch" or (source.sees == "dataset" and self.scan_every is None)
        if self.scan == "training" and self.num_neighbors > 0 and never_sees:
            raise ValueError(
                f"scan='training' gives no representations, by which neighbors={self.neighbors!r} are found; take "
                "others, neighbors='random-batch' or 'random', or scan='running'"
            )
        if self.scan == "training" and estimator.uses_votes and self.scan_every is None:
            raise ValueError(
                f"scan_every must be an integer >= 1 with scan='training' and credibility={self.credibility!r}, got "
                "None: neighbors are asked in the epochs that scan"
            )
        # Made once: an object may keep something from one batch for the next.
        object.__setattr__(self, "source", NoNeighbors() if self.num_neighbors == 0 else source)
        object.__setattr__(self, "weigh", weighting_of(self.weighting))
        object.__setattr__(self, "estimator", estimator)

    @property
    def longest_warmup(self) -> int:
        """W, the epochs of warm-up; the most that they may be where the training itself tells when they are over."""
        if isinstance(self.warmup_epochs, int):
            return self.warmup_epochs
        if self.epochs is None:
            return WARMUP_EPOCHS
        if self.warmup_epochs == "auto":
            return in_proportion(self.epochs, WARMUP_SHARE)
        of_a_short_one = min(self.epochs - 4, SHORT_TRAINING - self.epochs) // 2
        return min(max(in_proportion(self.epochs, MOST_WARMUP_SHARE), of_a_short_one), self.epochs - 1)

    @property
    def correction(self) -> int | None:
        """E_s, the first epoch that corrects targets; None: never."""
        if self.correction_epoch != "auto":
            return self.correction_epoch
        return CORRECTION_EPOCH if self.epochs is None else in_proportion(self.epochs, CORRECTION_SHARE)

    @property
    def pool_size(self) -> int:
        """M: how many neighbors of each sample are searched; 0: none are."""
        return self.source.pool_size(self.num_neighbors)

    @property
    def table_width(self) -> int:
        """How many neighbors of each sample there is room for: where none are searched, their columns stay empty."""
        return max(self.pool_size, self.num_neighbors) if self.neighbor_pool is None else self.neighbor_pool

    @property
    def keeps_representations(self) -> bool:
        """Whether the representations met during an epoch are kept, for the next one's search."""
        searches = self.source.sees == "dataset" or self.estimator.uses_votes
        return searches and self.is_running and not self.scans_again

    @property
    def is_running(self) -> bool:
        """Whether what the model says of each batch, in a pass of the loader's own, stands for a later scan."""
        return self.scan == "running"

    @property
    def keeps_averages(self) -> bool:
        """Whether averages of predictions are kept throughout."""
        corrects_by_them = self.correct_by == "credibility" and not self.estimator.uses_votes
        return self.early_learning > 0 or self.estimator.uses_averages or corrects_by_them

    def keeps_averages_in(self, phase: Phase) -> bool:
        """Whether averages of predictions are kept in epochs of a phase: in warm-up they may tell when it is over."""
        return self.keeps_averages or (phase == "warm-up" and self.warmup_epochs == "settled")

    @property
    def needs_representations(self) -> bool:
        """Whether neighbors are searched in the dataset, to be mixed with or to be asked."""
        return self.pool_size > 0 or self.estimator.uses_votes

    @property
    def scans_again(self) -> bool:
        """Whether there is more than one scan."""
        return self.scan == "epoch" or self.scan_every is not None

    def scans(self, epoch: int, warmup: int) -> bool:
        """Whether an epoch starts with a scan of the dataset, after ``warmup`` epochs of warm-up."""
        after_warmup = epoch - warmup
        if self.scans_again:
            return after_warmup % (self.scan_every or 1) == 0
        return self.is_running and after_warmup == 0

    def progress(self, epoch: int, warmup: int) -> float:
        """Return how far the training has gone after ``warmup`` epochs, in [0, 1].

        The epochs since then are divided by all of them, or by `MEMORIZING` where they are fewer or not known.
        """
        length = MEMORIZING if self.epochs is None else max(self.epochs - warmup, MEMORIZING)
        return min(max((epoch - warmup) / length, 0.0), 1.0)

    def phase(self, epoch: int, warmup: int) -> Phase:
        """Name what an epoch does; they are counted from 0, and the first ``warmup`` are warm-up."""
        if epoch < warmup:
            return "warm-up"
        if self.correction is None or epoch < self.correction:
            return "mixing"
        return "correction"

    def check_members(self, num_members: int) -> None:
        """Check that every sample can have its neighbors.

        Raises:
            ValueError: there are too few samples.
        """
        name = "num_neighbors" if self.neighbor_pool is None else "neighbor_pool"
        needed = max(self.num_neighbors, self.pool_size)
        if num_members <= needed:
            raise ValueError(
                f"{name} must be smaller than the number of training samples ({num_members}), got {needed}"
            )
