"""Pictures of what the loader has found out about labels, from a loader or a label report.

Each function draws on the Axes that it is given and returns it; pyplot is not used. Colors are told apart by
color-blind people, and marks besides by their form.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from mixnn_loader._utils.checks import check_count
from mixnn_loader.method.gaussian_mixture import Mixture
from mixnn_loader.method.weights import posterior_weights
from mixnn_loader.report.axes import new_axes
from mixnn_loader.report.label_report import LabelReport
from mixnn_loader.report.pictures import as_image, inputs_of, normalization_of
from mixnn_loader.report.plots import plot_loss_distribution

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_CELLS_WITH_NUMBERS = 20
"""Classes up to which the cells of a matrix hold numbers."""

MOST_NAMES = 100
"""Classes up to which their names stand beside a matrix."""

MARKERS = "osD^v<>ph*"

MOST_POINTS = 2000
"""Samples that are arranged in the plane."""


class HasLosses(Protocol):
    """A loader or a report."""

    @property
    def losses(self) -> Any:
        """(N,) losses against the given labels."""


class HasHistory(Protocol):
    """A loader."""

    @property
    def history(self) -> Sequence[Mapping[str, Any]]:
        """One mapping an epoch."""


def plot_loss_mixture(source: HasLosses, *, ax: "Axes | None" = None) -> "Axes":
    """Draw the losses against the given labels and the mixture of right and wrong ones (Fig. 4).

    Args:
        source: a loader, whose last mixture is drawn if it is one of losses, or else one fitted here; or a report.
        ax: where to draw; None: the Axes of a new figure.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: there is no finite loss yet.
    """
    mixture = None
    for record in reversed(list(getattr(source, "history", []))):
        if record["means"] is not None:
            mixture = Mixture(record["means"], record["variances"], record["priors"])
            break
    return plot_loss_distribution(source.losses, mixture=mixture, ax=ax)


def plot_history(loader: HasHistory, *, ax: "Axes | None" = None) -> "Axes":
    """Draw, by epoch, the estimated share of wrong labels, and other shares that the history has.

    These are the share of neighbors with the same given label and, where warm-up ends when the model has settled, that
    of the samples about which it has changed its mind.

    Args:
        loader: has a history.
        ax: where to draw; None: the Axes of a new figure.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: no epoch is over yet.
    """
    history = list(loader.history)
    if not history:
        raise ValueError("there is no epoch in the history yet")
    ax = new_axes() if ax is None else ax
    epochs = [record["epoch"] for record in history]
    for name, label, style in (
        ("noise_rate", "wrong labels, estimated", "o-"),
        ("same_label_share", "neighbors with the same given label", "s--"),
        ("changed_share", "predictions changed, in warm-up", "^-."),
    ):
        shares = [100 * record[name] if record.get(name) is not None else np.nan for record in history]
        if not np.isnan(shares).all():
            ax.plot(epochs, shares, style, markersize=4, label=label)
    for phase, style in (("mixing", ":"), ("correction", "-.")):
        first = next((record["epoch"] for record in history if record["phase"] == phase), None)
        if first is not None:
            ax.axvline(first, color="0.4", linestyle=style, linewidth=1, label=f"{phase} starts")
    ax.set(xlabel="epoch", ylabel="share (%)", ylim=(0, 100))
    ax.legend()
    return ax


def plot_confusion(report: LabelReport, *, ax: "Axes | None" = None) -> "Axes":
    """Draw which class is taken for which: the share of each given class for which each class is suggested.

    Args:
        report: of all samples; a part of a report shows that part.
        ax: where to draw; None: the Axes of a new figure.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: the report has no rows.
    """
    if len(report) == 0:
        raise ValueError("the report has no rows")
    ax = new_axes() if ax is None else ax
    num_classes = len(report.class_names)
    counts = np.zeros((num_classes, num_classes))
    np.add.at(counts, (report.given_labels, report.suggested_labels), 1)
    shares = 100 * counts / counts.sum(axis=1, keepdims=True).clip(1)
    image = ax.imshow(shares, cmap="cividis", vmin=0, vmax=100)
    if num_classes <= MOST_CELLS_WITH_NUMBERS:
        for given, suggested in np.argwhere(counts > 0):
            share = shares[given, suggested]
            color = "white" if share < 50 else "black"
            ax.text(suggested, given, f"{share:.0f}", ha="center", va="center", color=color, fontsize="small")
    if num_classes <= MOST_NAMES:
        ax.set_xticks(range(num_classes), report.class_names, rotation=90)
        ax.set_yticks(range(num_classes), report.class_names)
    ax.set(xlabel="suggested class", ylabel="given class")
    ax.figure.colorbar(image, ax=ax, label="share of the given class (%)")
    return ax


def plot_representations(report: LabelReport, *, seed: int = 0, ax: "Axes | None" = None) -> "Axes":
    """Draw representations as t-SNE arranges them in the plane, by suggested class, with the issues marked.

    Args:
        report: made with ``loader.label_report(representations=True)``; of many samples, 2,000 are drawn at random.
        seed: of that draw and of t-SNE.
        ax: where to draw; None: the Axes of a new figure.

    Raises:
        ImportError: matplotlib or scikit-learn is not installed.
        ValueError: the report has no representations, or fewer than three rows.
    """
    if report.representations is None:
        raise ValueError("the report has no representations: make it with label_report(representations=True)")
    if len(report) < 3:
        raise ValueError(f"there must be three samples or more to arrange, got {len(report)}")
    try:
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise ImportError("t-SNE needs scikit-learn: python -m pip install scikit-learn") from error
    ax = new_axes() if ax is None else ax
    from matplotlib import colormaps

    rows = np.random.default_rng(seed).permutation(len(report))[:MOST_POINTS]
    part, kept = report[rows], report.representations[rows]
    perplexity = min(30, (len(rows) - 1) / 3)
    places = TSNE(perplexity=perplexity, init="random", random_state=seed).fit_transform(kept)
    for label in np.unique(part.suggested_labels):
        members = part.suggested_labels == label
        color = colormaps["cividis"](label / max(1, len(part.class_names) - 1))
        marker = MARKERS[label % len(MARKERS)]
        x, y = places[members].T
        ax.scatter(x, y, s=14, color=[color], marker=marker, label=part.class_names[label])
    issues = part.is_issue
    if issues.any():
        x, y = places[issues].T
        ax.scatter(x, y, s=60, facecolors="none", edgecolors="#d55e00", label="given another label")
    ax.set(xticks=[], yticks=[], xlabel="t-SNE, no unit")
    ax.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))  # points are everywhere
    return ax


def plot_neighbors(
    report: LabelReport, index: int, dataset: Any, *, neighbors: int = 4, ax: "Axes | None" = None
) -> "Axes":
    """Draw a sample, its nearest neighbors, and the image that they are mixed to by P(clean) (Fig. 1; Eq. 4, 10, 11).

    Args:
        report: has the sample and its neighbors.
        index: the sample's dataset index.
        dataset: gives images, all of one size.
        neighbors: how many.
        ax: where to draw; None: the Axes of a new figure.

    Raises:
        ImportError: matplotlib is not installed.
        KeyError: the report has no such sample, or not its neighbors: take the whole report.
        ValueError: ``neighbors`` is not an integer >= 0, or a sample is no image or of another size.
    """
    check_count("neighbors", neighbors)
    row = report.row_of(index)
    members = [index, *report.neighbors[row, :neighbors].tolist()]
    rows = [report.row_of(member) for member in members]
    statistics = normalization_of(dataset)
    pictures = []
    for member in members:
        picture = as_image(inputs_of(dataset[member]), statistics)
        if picture is None:
            raise ValueError(f"sample {member} is no image")
        pictures.append(np.asarray(picture.convert("RGB"), dtype=np.float64) / 255)
    if len({picture.shape for picture in pictures}) > 1:
        raise ValueError(f"images must have one size to be mixed, got {sorted({p.shape for p in pictures})}")
    probabilities = torch.from_numpy(report.clean_probability[rows].astype(np.float64))
    found = torch.ones(1, len(rows) - 1, dtype=torch.bool, device="cpu")
    weights = posterior_weights(probabilities.log().unsqueeze(0), found)[0].numpy()
    mixed = np.tensordot(weights, np.stack(pictures), axes=1)

    ax = new_axes() if ax is None else ax
    height, width = mixed.shape[:2]
    step = 1.25 * width
    labels = [report.class_names[report.given_labels[place]] for place in rows]
    titles = [
        f"{'sample' if place == 0 else 'neighbor'} {member}\ngiven {label}\nweight {weight:.2f}"
        for place, (member, label, weight) in enumerate(zip(members, labels, weights, strict=True))
    ]
    for place, (pixels, title) in enumerate(zip([*pictures, mixed], [*titles, "mixed"], strict=True)):
        left = place * step
        ax.imshow(pixels.clip(0, 1), extent=(left, left + width, 0, height))
        ax.text(left + width / 2, height * 1.03, title, ha="center", va="bottom", fontsize="small")
    ax.set(xlim=(-0.02 * width, len(members) * step + width), ylim=(0, 1.7 * height), aspect="equal")
    ax.axis("off")
    return ax
