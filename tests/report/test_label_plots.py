"""What the pictures of a report show: data, labels and marks; not pixels."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from label_reports import label_report
from matplotlib.axes import Axes

from mixnn_loader.method.gaussian_mixture import Mixture
from mixnn_loader.plots import (
    plot_confusion,
    plot_history,
    plot_loss_mixture,
    plot_neighbors,
    plot_representations,
)


def texts_of(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts]


def legend_of(ax: Axes) -> list[str]:
    legend = ax.get_legend()
    assert legend is not None
    return [text.get_text() for text in legend.get_texts()]


def record(epoch: int, phase: str, **values: Any) -> dict[str, Any]:
    nothing = dict.fromkeys(["noise_rate", "same_label_share", "means", "variances", "priors"])
    return {"epoch": epoch, "phase": phase, **nothing, **values}


HISTORY = [
    record(0, "warm-up"),
    record(1, "mixing", noise_rate=0.4, same_label_share=0.5),
    record(2, "correction", noise_rate=0.3, means=(0.1, 0.7), variances=(0.01, 0.04), priors=(0.75, 0.25)),
    record(3, "correction"),
]


def test_the_history_in_percent() -> None:
    ax = plot_history(SimpleNamespace(history=HISTORY))
    lines = {line.get_label(): line for line in ax.get_lines()}
    np.testing.assert_array_equal(lines["wrong labels, estimated"].get_ydata(), [np.nan, 40, 30, np.nan])
    np.testing.assert_array_equal(
        lines["neighbors with the same given label"].get_ydata(), [np.nan, 50, np.nan, np.nan]
    )
    assert np.asarray(lines["mixing starts"].get_xdata()).tolist() == [1, 1]
    assert np.asarray(lines["correction starts"].get_xdata()).tolist() == [2, 2]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "share (%)")
    assert "predictions changed, in warm-up" not in lines, "nobody has looked"
    with pytest.raises(ValueError, match="no epoch in the history yet"):
        plot_history(SimpleNamespace(history=[]))


def test_the_history_has_how_many_predictions_changed_in_warm_up() -> None:
    history = [record(0, "warm-up", changed_share=None), record(1, "warm-up", changed_share=0.125), *HISTORY[2:]]
    lines = {line.get_label(): line for line in plot_history(SimpleNamespace(history=history)).get_lines()}
    shares = lines["predictions changed, in warm-up"].get_ydata()
    np.testing.assert_array_equal(shares, [np.nan, 12.5, np.nan, np.nan])


def test_the_last_mixture_of_the_history_is_drawn() -> None:
    losses = np.random.default_rng(0).random(100).astype(np.float32)
    drawn = plot_loss_mixture(SimpleNamespace(losses=losses, history=HISTORY))
    curves = {line.get_label(): np.asarray(line.get_ydata()) for line in drawn.get_lines()}
    mixture = Mixture((0.1, 0.7), (0.01, 0.04), (0.75, 0.25))
    assert curves["fitted component, clean"].max() == pytest.approx(0.75 / np.sqrt(2 * np.pi * 0.01), rel=1e-3)
    assert mixture.priors == (0.75, 0.25)
    fitted = plot_loss_mixture(label_report(60))
    assert "fitted component, wrong" in legend_of(fitted)


def test_which_class_is_taken_for_which() -> None:
    ax = plot_confusion(label_report(9))  # of three of each class, one has the next one suggested
    shares = np.asarray(ax.images[0].get_array())
    np.testing.assert_allclose(shares, [[200 / 3, 100 / 3, 0], [0, 200 / 3, 100 / 3], [100 / 3, 0, 200 / 3]])
    assert sorted(texts_of(ax)) == ["33"] * 3 + ["67"] * 3
    assert [label.get_text() for label in ax.get_xticklabels()] == ["class 0", "class 1", "class 2"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("suggested class", "given class")
    with pytest.raises(ValueError, match="no rows"):
        plot_confusion(label_report(9)[:0])
    assert texts_of(plot_confusion(label_report(60, num_classes=30))) == []


def test_representations_by_class_with_issues_marked() -> None:
    report = label_report(30)
    with pytest.raises(ValueError, match=r"make it with label_report\(representations=True\)"):
        plot_representations(report)
    rows = np.eye(3, dtype=np.float32)[report.suggested_labels] + 0.01 * np.random.default_rng(0).random((30, 3))
    report = dataclasses.replace(report, representations=rows.astype(np.float32))
    ax = plot_representations(report)
    groups = {str(points.get_label()): np.asarray(points.get_offsets()) for points in ax.collections}
    assert list(groups) == ["class 0", "class 1", "class 2", "given another label"]
    for label in range(3):
        assert len(groups[f"class {label}"]) == (report.suggested_labels == label).sum()
    everywhere = np.concatenate([groups[f"class {label}"] for label in range(3)]).tolist()
    assert len(groups["given another label"]) == 10
    assert all(place in everywhere for place in groups["given another label"].tolist())
    with pytest.raises(ValueError, match="three samples or more to arrange, got 2"):
        plot_representations(report[:2])


def test_a_sample_is_mixed_with_its_neighbors_by_their_credibility() -> None:
    report = label_report(6)  # P(clean) of samples 40, 50 and 60: 0.6, 0.8 and 1
    images: list[Any] = [(np.full((4, 6, 3), row, dtype=np.uint8), 0) for row in range(70)]
    ax = plot_neighbors(report, 40, images, neighbors=2)
    mixed = np.asarray(ax.images[-1].get_array())
    np.testing.assert_allclose(mixed, (0.6 * 40 + 0.8 * 50 + 1.0 * 60) / 2.4 / 255, rtol=1e-5)
    assert texts_of(ax)[0] == "sample 40\ngiven class 0\nweight 0.25"
    assert texts_of(ax)[-1] == "mixed"
    assert len(ax.images) == 4
    assert len(plot_neighbors(report, 40, images, neighbors=0).images) == 2
    with pytest.raises(KeyError, match="no sample with dataset index 41"):
        plot_neighbors(report, 41, images)
    with pytest.raises(ValueError, match="sample 40 is no image"):
        plot_neighbors(report, 40, [("text", 0)] * 70)
    images[50] = (np.zeros((5, 6, 3), dtype=np.uint8), 0)
    with pytest.raises(ValueError, match=r"images must have one size to be mixed, got \[\(4, 6, 3\), \(5, 6, 3\)\]"):
        plot_neighbors(report, 40, images)


def test_they_draw_where_they_are_told() -> None:
    ax = plot_confusion(label_report(9))
    assert plot_history(SimpleNamespace(history=HISTORY), ax=ax) is ax
