"""What the figures show: line data, bars, labels and marks; not pixels."""

import sys
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from sklearn.mixture import GaussianMixture

from mixnn_loader.method.gaussian_mixture import Mixture
from mixnn_loader.plots import plot_accuracy, plot_loss_distribution

CURVES = {"cross-entropy": [0.5, 0.7, 0.6], "MixNN": [0.5, 0.8, 0.9, 0.95]}
MIXTURE = Mixture(means=(0.1, 0.7), variances=(0.01, 0.04), priors=(0.75, 0.25))


def two_groups(num_clean: int = 300, num_wrong: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Losses that are well apart, shuffled, and which are of wrong labels."""
    rng = np.random.default_rng(0)
    losses = np.concatenate([rng.normal(1, 0.2, num_clean), rng.normal(5, 0.6, num_wrong)])
    order = rng.permutation(len(losses))
    return losses[order], (np.arange(len(losses)) >= num_clean)[order]


def bars_of(ax: Axes) -> dict[str, BarContainer]:
    return {str(container.get_label()): container for container in ax.containers if isinstance(container, BarContainer)}


def area(bars: BarContainer) -> float:
    return float(sum(bar.get_width() * bar.get_height() for bar in bars))


def lines_of(ax: Axes) -> dict[str, Line2D]:
    return {str(line.get_label()): line for line in ax.get_lines()}


def legend_of(ax: Axes) -> list[str]:
    legend = ax.get_legend()
    assert legend is not None
    return [text.get_text() for text in legend.get_texts()]


def gaussian(x: np.ndarray, mean: float, variance: float) -> np.ndarray:
    density: np.ndarray = np.exp(-((x - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)
    return density


class TestLossDistribution:
    def test_bars_of_each_group_have_its_share_as_area(self) -> None:
        losses, is_noisy = two_groups()
        bars = bars_of(plot_loss_distribution(losses, is_noisy=is_noisy))
        assert list(bars) == ["correct labels", "wrong labels"]
        assert area(bars["correct labels"]) == pytest.approx(300 / 500)
        assert area(bars["wrong labels"]) == pytest.approx(200 / 500)

    def test_bars_count_the_losses_between_minimum_and_maximum(self) -> None:
        losses, is_noisy = two_groups()
        bars = bars_of(plot_loss_distribution(losses, is_noisy=is_noisy))["wrong labels"]
        edges = np.array([bar.get_x() for bar in bars] + [1.0])
        original_edges = losses.min() + edges * (losses.max() - losses.min())
        counts = [
            ((losses[is_noisy] >= low) & (losses[is_noisy] < high)).sum()
            for low, high in zip(original_edges, [*original_edges[1:-1], np.inf], strict=False)
        ]
        assert sum(counts) == is_noisy.sum()
        np.testing.assert_allclose([bar.get_height() * bar.get_width() * 500 for bar in bars], counts, atol=1e-6)

    def test_groups_are_told_apart_by_hatching(self) -> None:
        losses, is_noisy = two_groups()
        bars = bars_of(plot_loss_distribution(losses, is_noisy=is_noisy))
        hatches = [bars[label].patches[0].get_hatch() for label in ("correct labels", "wrong labels")]
        assert hatches[0] != hatches[1]

    def test_one_group_where_nobody_knows_which_labels_are_wrong(self) -> None:
        losses, _ = two_groups()
        bars = bars_of(plot_loss_distribution(losses))
        assert list(bars) == ["all samples"]
        assert area(bars["all samples"]) == pytest.approx(1)

    def test_curves_are_the_densities_of_the_given_mixture(self) -> None:
        lines = lines_of(plot_loss_distribution(two_groups()[0], mixture=MIXTURE))
        for index, name in enumerate(("clean", "wrong")):
            x, y = np.asarray(lines[f"fitted component, {name}"].get_data())
            assert (x[0], x[-1]) == (0, 1)
            expected = MIXTURE.priors[index] * gaussian(x, MIXTURE.means[index], MIXTURE.variances[index])
            np.testing.assert_allclose(y, expected, rtol=1e-9)
        styles = {line.get_linestyle() for line in lines.values()}
        assert len(styles) == 2

    def test_without_a_mixture_the_curves_are_fitted(self) -> None:
        losses, _ = two_groups()
        normalized = (losses - losses.min()) / (losses.max() - losses.min())
        reference = GaussianMixture(2, random_state=0).fit(normalized[:, None])
        lines = lines_of(plot_loss_distribution(losses))
        for component, name in zip(np.argsort(reference.means_[:, 0]), ("clean", "wrong"), strict=True):
            x, y = np.asarray(lines[f"fitted component, {name}"].get_data())
            mean, variance = reference.means_[component, 0], reference.covariances_[component, 0, 0]
            expected = reference.weights_[component] * gaussian(x, mean, variance)
            np.testing.assert_allclose(y, expected, atol=0.01 * expected.max())

    def test_losses_that_are_not_finite_are_left_out_with_their_labels(self) -> None:
        losses, is_noisy = two_groups()
        losses[is_noisy.argmax()] = np.nan
        losses[(~is_noisy).argmax()] = np.inf
        bars = bars_of(plot_loss_distribution(torch.tensor(losses), is_noisy=torch.tensor(is_noisy)))
        assert area(bars["correct labels"]) == pytest.approx(299 / 498)
        assert area(bars["wrong labels"]) == pytest.approx(199 / 498)
        # The groups are well apart: a mask that has slipped would put bars of one among those of the other.
        assert max(bar.get_x() for bar in bars["correct labels"] if bar.get_height() > 0) < 0.3
        assert min(bar.get_x() for bar in bars["wrong labels"] if bar.get_height() > 0) > 0.3

    def test_losses_that_are_all_the_same_have_no_curves(self) -> None:
        ax = plot_loss_distribution([2.0, 2.0, 2.0])
        assert lines_of(ax) == {}
        assert area(bars_of(ax)["all samples"]) == pytest.approx(1)

    def test_a_collapsed_component_does_not_hide_the_bars(self) -> None:
        spike = Mixture(means=(0.0, 0.7), variances=(1e-6, 0.04), priors=(0.5, 0.5))
        ax = plot_loss_distribution(two_groups()[0], mixture=spike)
        assert max(np.asarray(line.get_ydata()).max() for line in lines_of(ax).values()) > 100
        tallest = max(bar.get_height() for bar in bars_of(ax)["all samples"])
        assert tallest < ax.get_ylim()[1] < 2 * tallest

    def test_is_labeled_throughout(self) -> None:
        losses, is_noisy = two_groups()
        ax = plot_loss_distribution(losses, is_noisy=is_noisy)
        assert "normalized" in ax.get_xlabel()
        assert "density" in ax.get_ylabel()
        assert sorted(legend_of(ax)) == sorted([*bars_of(ax), *lines_of(ax)])

    def test_the_inputs_stay_as_they_are(self) -> None:
        losses, is_noisy = two_groups()
        given = torch.tensor(losses, requires_grad=True)
        plot_loss_distribution(given, is_noisy=is_noisy)
        np.testing.assert_array_equal(given.detach().numpy(), losses)

    @pytest.mark.parametrize("losses", [[], [[1.0, 2.0]], 1.0, [np.nan, np.inf]])
    def test_refuses_losses_without_a_finite_vector(self, losses: object) -> None:
        with pytest.raises(ValueError, match=r"losses must have shape \(N,\)"):
            plot_loss_distribution(torch.as_tensor(losses))

    def test_refuses_a_mask_of_another_length(self) -> None:
        with pytest.raises(ValueError, match=r"is_noisy must have the shape of losses, \(3,\), got \(2,\)"):
            plot_loss_distribution([1.0, 2.0, 3.0], is_noisy=[True, False])

    def test_refuses_indices_for_a_mask(self) -> None:
        with pytest.raises(TypeError, match="is_noisy must be boolean"):
            plot_loss_distribution([1.0, 2.0, 3.0], is_noisy=[0, 1, 1])


class TestAccuracy:
    def test_lines_are_the_curves_in_percent_by_epoch(self) -> None:
        lines = lines_of(plot_accuracy(CURVES))
        assert list(lines) == list(CURVES)
        for name, curve in CURVES.items():
            x, y = np.asarray(lines[name].get_data())
            np.testing.assert_array_equal(x, np.arange(len(curve)))
            np.testing.assert_allclose(y, np.multiply(curve, 100))

    def test_marks_the_first_mixing_and_the_first_correcting_epoch(self) -> None:
        lines = lines_of(plot_accuracy(CURVES, warmup_epochs=1, correction_epoch=3))
        marks = {label: line for label, line in lines.items() if label not in CURVES}
        assert [np.asarray(line.get_xdata()).tolist() for line in marks.values()] == [[1, 1], [3, 3]]
        warmup, correction = marks
        assert warmup.endswith("$W$ = 1")
        assert correction.endswith("$E_s$ = 3")

    def test_one_mark_where_both_start_together(self) -> None:
        lines = lines_of(plot_accuracy(CURVES, warmup_epochs=2, correction_epoch=2))
        (mark,) = set(lines) - set(CURVES)
        assert mark == "mixing and correction start, $W$ = $E_s$ = 2"
        assert np.asarray(lines[mark].get_xdata()).tolist() == [2, 2]

    def test_epochs_that_no_curve_reaches_are_not_marked(self) -> None:
        assert set(lines_of(plot_accuracy(CURVES, warmup_epochs=4, correction_epoch=60))) == set(CURVES)

    def test_seven_methods_have_seven_line_styles(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # Custom dashes all answer "--" to get_linestyle(), so what is asked for is recorded.
        styles = []
        ax = Figure().subplots()
        plot = ax.plot

        def record(*data: Any, **style: Any) -> list[Line2D]:
            styles.append(style["linestyle"])
            return plot(*data, **style)

        monkeypatch.setattr(ax, "plot", record)
        plot_accuracy({f"method {i}": [0.1, 0.2] for i in range(7)}, ax=ax)
        assert len(set(styles)) == 7

    def test_nan_leaves_a_gap(self) -> None:
        line = lines_of(plot_accuracy({"resumed": [0.5, np.nan, 0.7]}))["resumed"]
        np.testing.assert_array_equal(np.isnan(np.asarray(line.get_ydata())), [False, True, False])

    def test_is_labeled_throughout(self) -> None:
        ax = plot_accuracy(CURVES, warmup_epochs=1, correction_epoch=2)
        assert ax.get_xlabel() == "epoch"
        assert "%" in ax.get_ylabel()
        assert legend_of(ax) == list(lines_of(ax))
        assert all(float(tick).is_integer() for tick in ax.get_xticks())

    @pytest.mark.parametrize(
        ("curves", "message"),
        [
            ({}, "curves must hold at least one method"),
            ({"a": []}, "curve 'a' must hold one accuracy an epoch"),
            ({"a": [0.5], "b": [50.0, 93.1]}, "curve 'b' must hold fractions .* got 50 to 93.1; divide"),
            ({"a": [0.5, -0.1]}, "curve 'a' must hold fractions"),
        ],
    )
    def test_refuses_what_is_no_curve(self, curves: dict[str, list[float]], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            plot_accuracy(curves)


class TestAxes:
    def test_draws_where_it_is_told_to(self) -> None:
        left, right = Figure().subplots(1, 2)
        assert plot_loss_distribution(two_groups()[0], ax=left) is left
        assert plot_accuracy({"a": [0.5, 0.6]}, ax=right) is right

    def test_without_axes_each_figure_is_a_new_one_that_can_be_saved(self) -> None:
        axes = [plot_accuracy({"a": [0.5, 0.6]}), plot_loss_distribution(two_groups()[0])]
        assert axes[0].figure is not axes[1].figure
        for ax in axes:
            assert isinstance(ax.figure, Figure)
            file = BytesIO()
            ax.figure.savefig(file, format="png")
            assert file.getvalue().startswith(b"\x89PNG")

    def test_without_matplotlib_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
        message = r"python -m pip install matplotlib"
        with pytest.raises(ImportError, match=message):
            plot_accuracy({"a": [0.5]})
        with pytest.raises(ImportError, match=message):
            plot_loss_distribution([1.0, 2.0])
