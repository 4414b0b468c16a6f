"""How credible the given labels are: from what is known of every sample to P(clean)."""

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, get_args, runtime_checkable

import torch
from torch import Tensor

from mixnn_loader._utils.checks import check_choice, check_count, check_fraction
from mixnn_loader._utils.memory import CHUNK_ROWS
from mixnn_loader._utils.transfer import to_device
from mixnn_loader._utils.warn_once import WarnOnce
from mixnn_loader.method.clean_probability import NEUTRAL_POSTERIOR, log_clean_posterior
from mixnn_loader.method.early_learning import CLIP
from mixnn_loader.method.gaussian_mixture import Mixture
from mixnn_loader.method.opinions import combined
from mixnn_loader.method.posterior import label_posterior
from mixnn_loader.method.soft_targets import sharpened
from mixnn_loader.method.votes import num_voters

Credibilities = Literal["mixture", "agreement", "vote", "vote-and-model"]


class Evidence(NamedTuple):
    """What is known of the n training samples.

    Attributes:
        indices: (n,) int64 on the CPU, their dataset indices.
        labels: (n,) int64 on the CPU, as given; -1 where none has been seen yet.
        losses: (n,) float32, cross-entropy against these; NaN where it is not finite or not known.
        averages: (n, C) float, the moving averages of predictions, on the device of the losses; zero where there was
            none yet. None where they are not kept.
        votes: (n, C) float32, the shares of the labels among a sample's neighbors, on the device of the losses, see
            `mixnn_loader.method.votes.vote_shares`. None where they are not asked.
        progress: how far the training has gone after warm-up, in [0, 1]: the epochs since then, divided by all of
            them, or by 15 where they are fewer or not known. So it stays below 1 in a short training.
    """

    indices: Tensor
    labels: Tensor
    losses: Tensor
    averages: Tensor | None = None
    votes: Tensor | None = None
    progress: float = 1.0


class Estimate(NamedTuple):
    """How credible labels are.

    Attributes:
        log_posterior: (n,) float32, log P(clean), at most 0.
        mixture: what it was derived from, for the history; None where it was something else.
        likely: (n, C) float, what the same evidence makes of the label, rows summing to one; None where it makes
            nothing of it. ``correct_by="credibility"`` puts it in place of a label that is not credible.
    """

    log_posterior: Tensor
    mixture: Mixture | None
    likely: Tensor | None = None


@runtime_checkable
class Credibility(Protocol):
    """Says how credible each label is, once an epoch. An object with these members can be passed as ``credibility=``.

    Attributes:
        uses_averages: whether the moving averages of predictions are to be kept for it.
        uses_votes: whether neighbors are to be asked for it, in each epoch that has representations. What they said is
            used once more where representations, labels and samples have stayed as they were.
    """

    uses_averages: bool = False
    uses_votes: bool = False

    def num_voters(self, num_samples: int, num_classes: int) -> int:
        """Return how many neighbors of each sample to ask."""
        return num_voters(num_samples, num_classes)

    def estimate(self, evidence: Evidence, warn: WarnOnce) -> Estimate:
        """Estimate log P(clean).

        Args:
            evidence: what is known.
            warn: gives a warning once.
        """
        ...


@dataclass(eq=False)
class MixtureCredibility(Credibility):
    """By a mixture of two normal distributions over the losses (the paper, Eq. 8, 9)."""

    def estimate(self, evidence: Evidence, warn: WarnOnce) -> Estimate:
        """See `log_clean_posterior`."""
        return Estimate(*log_clean_posterior(evidence.losses, warn))


@dataclass(eq=False)
class AgreementCredibility(Credibility):
    """By the moving average of predictions: the likelihood of the given label against that of the likeliest one.

    P is 1 where the model has gone for the given label, whatever its confidence. It needs no distribution of losses,
    and so holds with no wrong labels at all, or with most of them wrong. The ratio is SSR's (Feng, Tzimiropoulos and
    Patras 2022), of predictions in place of the votes of neighbors.
    """

    uses_averages = True

    def estimate(self, evidence: Evidence, warn: WarnOnce) -> Estimate:
        """Estimate log P(clean); a half where the model has said nothing of a sample yet."""
        del warn
        averages = evidence.averages
        if averages is None:
            raise RuntimeError("the moving averages of predictions were not kept")
        labels = _labels_beside(evidence, averages)
        ratio = _against_likeliest(averages, labels).clamp_min(CLIP)
        return Estimate(ratio.log(), None, sharpened(averages, labels))


class VoteCredibility(Credibility):
    """By the vote of neighbors and the given label: the probability that Bayes' rule gives it.

    See `mixnn_loader.functional.label_posterior`. What is likely is the rest of that distribution, as far as votes err
    less often than labels or the training has come to where wrong labels would be memorized, else the label as given.
    That many neighbors say what a label is, whatever the network makes of any of them, is SSR's (Feng, Tzimiropoulos
    and Patras 2022).

    With ``ask_model`` the moving average of the model's predictions is another opinion, and the two are combined as
    `mixnn_loader.method.opinions.combined` does: neighbors err together where samples look alike, the model where it
    has begun to memorize, and a label gives way where both are against it. Where the model has said nothing yet, the
    neighbors decide alone.

    Args:
        num_neighbors: how many vote; None: 200, and fewer where classes are small, see
            `mixnn_loader.method.votes.num_voters`.
        blame_labels: in [0, 1], what is put down to labels where neighbors agree less, see `label_posterior`. With 0
            fewer labels are doubted: right where labels are wrong at random, and people are not.
        ask_model: whether the model is asked, too.

    Raises:
        ValueError: an argument is outside its range.
    """

    uses_votes = True

    def __init__(self, num_neighbors: int | None = None, blame_labels: float = 0.5, *, ask_model: bool = False) -> None:
        if num_neighbors is not None:
            check_count("num_neighbors", num_neighbors, 1, "None or an integer")
        check_fraction("blame_labels", blame_labels)
        self._num_neighbors = num_neighbors
        self._blame_labels = blame_labels
        self.uses_averages = ask_model

    def __repr__(self) -> str:
        arguments = f"num_neighbors={self._num_neighbors}, blame_labels={self._blame_labels}"
        return f"VoteCredibility({arguments}, ask_model={self.uses_averages})"

    def num_voters(self, num_samples: int, num_classes: int) -> int:
        """Return how many neighbors of each sample to ask."""
        if self._num_neighbors is None:
            return num_voters(num_samples, num_classes)
        return min(self._num_neighbors, num_samples - 1)

    def estimate(self, evidence: Evidence, warn: WarnOnce) -> Estimate:
        """Estimate log P(clean)."""
        del warn
        if evidence.votes is None:
            raise RuntimeError("the neighbors were not asked")
        labels = _labels_beside(evidence, evidence.votes)
        # A label that is not known yet tests no vote.
        known = to_device(evidence.labels >= 0, labels.device).unsqueeze(1)
        votes = evidence.votes if bool(known.all()) else evidence.votes.where(known, 0)
        likely, _, _, trust = label_posterior(votes, labels, blame_labels=self._blame_labels)
        if self.uses_averages:
            if evidence.averages is None:
                raise RuntimeError("the moving averages of predictions were not kept")
            averages = torch.split(evidence.averages, CHUNK_ROWS)
            for rows, said in zip(torch.split(likely, CHUNK_ROWS), averages, strict=True):
                is_said = said.any(dim=1, keepdim=True)  # else neighbors alone decide
                rows.copy_(torch.where(is_said, combined(rows, said), rows))
        log_posterior = likely.gather(1, labels.unsqueeze(1)).squeeze(1).clamp(max=1).log()
        # Wrong labels are wrong at random. Wrong votes are wrong alike for samples that look alike, and so are learned
        # sooner: as long as votes err much, most of a wrong label stays. Late in a training it would be memorized.
        trust = max(trust, evidence.progress)
        for rows, given in zip(torch.split(likely, CHUNK_ROWS), torch.split(labels, CHUNK_ROWS), strict=True):
            own = given.unsqueeze(1)
            rows.copy_(trust * sharpened(rows.scatter(1, own, 0), given, power=1.0))
            rows.scatter_add_(1, own, torch.full_like(own, 1 - trust, dtype=rows.dtype))
        return Estimate(log_posterior, None, likely)


def _labels_beside(evidence: Evidence, rows: Tensor) -> Tensor:
    """Return the given labels (n,) on the device of some rows; 0 where none has been seen yet."""
    return evidence.labels.clamp(min=0).to(rows.device)


def _against_likeliest(likely: Tensor, labels: Tensor) -> Tensor:
    """Divide the likelihood of the given label by the largest, (n,) float32; a half in a row of zeros.

    Args:
        likely: (n, C) float, at least 0.
        labels: (n,) int64, on the same device.
    """
    likely = likely.float()
    own, most = likely.gather(1, labels.unsqueeze(1)).squeeze(1), likely.amax(dim=1)
    return torch.where(most > 0, own / most, NEUTRAL_POSTERIOR)


def credibility_of(credibility: str | Credibility) -> Credibility:
    """Return the estimate of a name, or the caller's own.

    Raises:
        ValueError: there is no such name.
        TypeError: it is neither a name nor such an object.
    """
    if isinstance(credibility, str):
        check_choice("credibility", credibility, get_args(Credibilities))
        ready: dict[str, Credibility] = {
            "mixture": MixtureCredibility(),
            "agreement": AgreementCredibility(),
            "vote": VoteCredibility(),
            "vote-and-model": VoteCredibility(ask_model=True),
        }
        return ready[credibility]
    if isinstance(credibility, type) or not isinstance(credibility, Credibility):
        raise TypeError(
            f"credibility must be one of {', '.join(map(repr, get_args(Credibilities)))} or an object with "
            f"the members of mixnn_loader.functional.Credibility, got {credibility!r}"
        )
    return credibility
