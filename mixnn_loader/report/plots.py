"""The paper's figures, from a user's own run.

Each function draws on the Axes that it is given and returns it. pyplot is not used, so that neither its current
figure nor its settings change, and nothing is shown.
"""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mixnn_loader.method.clean_probability import normalize_losses
from mixnn_loader.method.gaussian_mixture import Mixture, fit_mixture
from mixnn_loader.report.axes import new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Dashes = tuple[int, tuple[int, ...]]

_BINS = 50

_ROOM_ABOVE_BARS = 1.3
"""Height of the axis in tallest bars.

A component that has collapsed onto one value peaks far above all bars, which would shrink to nothing.
"""

_LINE_STYLES: tuple[str | Dashes, ...] = (
    "-",
    "--",
    "-.",
    ":",
    (0, (6, 1)),
    (0, (4, 1, 1, 1, 1, 1)),
    (0, (1, 3)),
)
"""Told apart in black and white too; seven methods are as many as the ablations compare."""


def plot_loss_distribution(
    losses: Tensor | npt.ArrayLike,
    *,
    is_noisy: Tensor | npt.ArrayLike | None = None,
    mixture: Mixture | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw the losses of correctly and wrongly labeled samples, and the mixture fitted to them (Fig. 4).

    Bars and curves are shares of one density: those of both groups, or both components, together have the area 1.
    The vertical axis ends above the tallest bar, even where a curve peaks higher.

    Args:
        losses: (N,), each sample's loss against its given label, for instance `MixNNDataLoader.losses`. NaN and
            infinite losses are left out; the others are normalized as for the fit.
        is_noisy: (N,) bool, which labels are wrong, where that is known; None: all samples in one group.
        mixture: the mixture of the normalized losses; None: fitted here, as the loader does. Losses that cannot
            be fitted are drawn without curves.
        ax: where to draw; None: the Axes of a new figure, ``ax.figure``, which pyplot does not know of.

    Raises:
        ImportError: matplotlib is not installed.
        TypeError: ``is_noisy`` is not boolean.
        ValueError: ``losses`` is not a vector with a finite value, or ``is_noisy`` is of another length.
    """
    values = _as_tensor(losses)
    finite = values.isfinite()
    if values.ndim != 1 or not finite.any():
        raise ValueError(f"losses must have shape (N,) and a finite value among them, got shape {tuple(values.shape)}")
    groups = _groups(len(values), is_noisy)
    normalized = normalize_losses(values[finite])
    if mixture is None:
        mixture = fit_mixture(normalized)

    ax = new_axes() if ax is None else ax
    edges = np.linspace(0, 1, _BINS + 1)
    tallest = 0.0
    for (label, members), hatch in zip(groups.items(), ("", "////"), strict=False):
        counts, _ = np.histogram(normalized[members[finite]].numpy(), edges)
        # Divided by the size of all groups, not of its own: comparable with densities that hold their priors.
        heights = counts * _BINS / len(normalized)
        ax.bar(edges[:-1], heights, width=1 / _BINS, align="edge", alpha=0.5, hatch=hatch, label=label)
        tallest = max(tallest, heights.max())
    if mixture is not None:
        grid = torch.linspace(0, 1, 1001, dtype=torch.float64, device="cpu")
        for name, style, density in zip(("clean", "wrong"), ("-", "--"), mixture.density(grid).T, strict=True):
            ax.plot(grid.numpy(), density.numpy(), color="black", linestyle=style, label=f"fitted component, {name}")
    ax.set(
        xlim=(0, 1),
        ylim=(0, _ROOM_ABOVE_BARS * tallest),
        xlabel="loss against the given label, normalized",
        ylabel="density",
    )
    ax.legend()
    return ax


def plot_accuracy(
    curves: Mapping[str, Sequence[float]],
    *,
    warmup_epochs: int | None = None,
    correction_epoch: int | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw the accuracy of every method after each epoch (Fig. 2 and 7a).

    Args:
        curves: method -> its accuracies, as fractions in [0, 1], one for each epoch from epoch 0. NaN leaves a gap.
        warmup_epochs: W, the first epoch that mixes, is marked; None, or an epoch that no curve reaches, is not.
        correction_epoch: E_s, the first epoch that corrects labels, likewise.
        ax: where to draw; None: the Axes of a new figure, ``ax.figure``, which pyplot does not know of.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: there is no curve, or one is empty or not of fractions.
    """
    if not curves:
        raise ValueError("curves must hold at least one method, got none")
    percents = {name: 100 * _fractions(name, curve) for name, curve in curves.items()}

    ax = new_axes() if ax is None else ax
    from matplotlib.ticker import MaxNLocator

    for (name, percent), style in zip(percents.items(), cycle(_LINE_STYLES), strict=False):
        ax.plot(range(len(percent)), percent, linestyle=style, label=name)
    longest = max(map(len, percents.values()))
    marks = [(warmup_epochs, ":", "mixing starts, $W$"), (correction_epoch, "-.", "correction starts, $E_s$")]
    if warmup_epochs == correction_epoch:
        marks = [(warmup_epochs, ":", "mixing and correction start, $W$ = $E_s$")]
    for epoch, style, label in marks:
        if epoch is not None and epoch < longest:
            ax.axvline(epoch, color="0.4", linestyle=style, linewidth=1, label=f"{label} = {epoch}")
    ax.set(xlabel="epoch", ylabel="accuracy (%)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend()
    return ax


def _as_tensor(values: Any) -> Tensor:
    return torch.as_tensor(values, device="cpu").detach()


def _groups(num_samples: int, is_noisy: Any) -> dict[str, Tensor]:
    """Each group's label and members, (N,) bool."""
    if is_noisy is None:
        return {"all samples": torch.ones(num_samples, dtype=torch.bool, device="cpu")}
    noisy = _as_tensor(is_noisy)
    if noisy.dtype != torch.bool:
        raise TypeError(f"is_noisy must be boolean, one value a sample, got {noisy.dtype}")
    if noisy.shape != (num_samples,):
        raise ValueError(f"is_noisy must have the shape of losses, ({num_samples},), got {tuple(noisy.shape)}")
    return {"correct labels": ~noisy, "wrong labels": noisy}


def _fractions(name: str, curve: Sequence[float]) -> npt.NDArray[np.float64]:
    values = np.asarray(curve, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"curve {name!r} must hold one accuracy an epoch, got shape {values.shape}")
    if ((values < 0) | (values > 1)).any():
        raise ValueError(
            f"curve {name!r} must hold fractions in [0, 1], got {np.nanmin(values):g} to {np.nanmax(values):g}; "
            "divide percentages by 100"
        )
    return values
