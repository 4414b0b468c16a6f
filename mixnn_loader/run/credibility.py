"""What the credibility of a label is estimated from, and when."""

from typing import Literal, NamedTuple, Protocol, get_args, runtime_checkable

from torch import Tensor

from mixnn_loader._utils.checks import check_choice, check_count
from mixnn_loader._utils.warn_once import WarnOnce
from mixnn_loader.method.clean_probability import log_clean_posterior
from mixnn_loader.method.gaussian_mixture import Mixture

Scan = Literal["epoch", "running"]


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
    """What the credibility of a label is estimated from. An object with these members can be passed as ``scan=``.

    Attributes:
        running: whether what the model says of each training batch is kept in place of a later scan.
        every: n, scan the dataset in the first epoch after warm-up and every n-th from there; None: in the first only.
    """

    running: bool = False
    every: int | None = 1

    def estimate(self, evidence: Evidence, warn: WarnOnce) -> Estimate:
        """Estimate log P(clean): here, by the mixture of the paper (Eq. 8, 9).

        Args:
            evidence: what is known.
            warn: gives a warning once.
        """
        return Estimate(*log_clean_posterior(evidence.losses, warn))


class EpochScan(Credibility):
    """A scan of the dataset (the paper).

    Args:
        every: scan in every n-th epoch; in between, everything stays as it was found.
    """

    def __init__(self, every: int | None = None) -> None:
        if every is not None:
            check_count("scan_every", every, 1, "None or an integer")
        self.running = False
        self.every = 1 if every is None else every

    def __repr__(self) -> str:
        return f"EpochScan(every={self.every})"


class RunningScan(Credibility):
    """What the model said of each sample when it was drawn in the epoch before, with the augmentation of that draw.

    Args:
        every: scan, and search, in every n-th epoch, too; None: scan once, and search in every epoch.
    """

    def __init__(self, every: int | None = None) -> None:
        if every is not None:
            check_count("scan_every", every, 1, "None or an integer")
        self.running = True
        self.every = every

    def __repr__(self) -> str:
        return f"RunningScan(every={self.every})"


def credibility_of(scan: str | Credibility, every: int | None = None) -> Credibility:
    """Return the estimate of a name, or the caller's own.

    Args:
        scan: ``"epoch"``, ``"running"`` or an object.
        every: for a name.

    Raises:
        ValueError: there is no such name, ``every`` is out of range or given beside an object.
        TypeError: it is neither a name nor such an object.
    """
    if isinstance(scan, str):
        check_choice("scan", scan, get_args(Scan))
        return EpochScan(every) if scan == "epoch" else RunningScan(every)
    if isinstance(scan, type) or not isinstance(scan, Credibility):
        raise TypeError(
            f"scan must be one of {', '.join(map(repr, get_args(Scan)))} or an object with running, every and "
            f"estimate, such as mixnn_loader.functional.EpochScan(), got {scan!r}"
        )
    if scan.every is not None:
        check_count("every of scan=", scan.every, 1, "None or an integer")
    if every is not None:
        raise ValueError(f"scan_every must be None with scan={scan!r}, got {every}; give it to the object")
    return scan
