"""How credible the given labels are: from what is known of every sample to P(clean)."""

from typing import Literal, NamedTuple, Protocol, get_args, runtime_checkable

from torch import Tensor

from mixnn_loader._utils.checks import check_choice
from mixnn_loader._utils.warn_once import WarnOnce
from mixnn_loader.method.clean_probability import log_clean_posterior
from mixnn_loader.method.gaussian_mixture import Mixture

Credibilities = Literal["mixture"]


class Evidence(NamedTuple):
    """What is known of the n training samples.

    Attributes:
        indices: (n,) int64 on the CPU, their dataset indices.
        labels: (n,) int64 on the CPU, as given; -1 where none has been seen yet.
        losses: (n,) float32, cross-entropy against these; NaN where it is not finite or not known.
    """

    indices: Tensor
    labels: Tensor
    losses: Tensor


class Estimate(NamedTuple):
    """How credible labels are.

    Attributes:
        log_posterior: (n,) float32, log P(clean), at most 0.
        mixture: what it was derived from, for the history; None where it was something else.
    """

    log_posterior: Tensor
    mixture: Mixture | None


@runtime_checkable
class Credibility(Protocol):
    """Says how credible each label is, once an epoch. An object with this method can be passed as ``credibility=``."""

    def estimate(self, evidence: Evidence, warn: WarnOnce) -> Estimate:
        """Estimate log P(clean).

        Args:
            evidence: what is known.
            warn: gives a warning once.
        """
        ...


class MixtureCredibility:
    """By a mixture of two normal distributions over the losses (the paper, Eq. 8, 9)."""

    def __repr__(self) -> str:
        return "MixtureCredibility()"

    def estimate(self, evidence: Evidence, warn: WarnOnce) -> Estimate:
        """See `log_clean_posterior`."""
        return Estimate(*log_clean_posterior(evidence.losses, warn))


def credibility_of(credibility: str | Credibility) -> Credibility:
    """Return the estimate of a name, or the caller's own.

    Raises:
        ValueError: there is no such name.
        TypeError: it is neither a name nor such an object.
    """
    if isinstance(credibility, str):
        check_choice("credibility", credibility, get_args(Credibilities))
        return MixtureCredibility()
    if isinstance(credibility, type) or not isinstance(credibility, Credibility):
        raise TypeError(
            f"credibility must be one of {', '.join(map(repr, get_args(Credibilities)))} or an object with the method "
            f"of mixnn_loader.functional.Credibility, got {credibility!r}"
        )
    return credibility
