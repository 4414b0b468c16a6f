"""What the figures show: line data, bars and marks; not pixels."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from result_lines import result_line

from benchmarks import figures
from benchmarks.drawing.accuracy import draw_accuracy, draw_watched_accuracy
from benchmarks.drawing.confusion import draw_confusion
from benchmarks.drawing.correction import draw_correction
from benchmarks.drawing.gradients import draw_gradients
from benchmarks.drawing.losses import draw_losses
from benchmarks.drawing.neighbors import draw_neighbors
from benchmarks.drawing.representations import draw_representations, in_two_dimensions
from benchmarks.drawing.runs import NothingToDrawError, Run
from benchmarks.drawing.sensitivity import draw_sensitivity
from benchmarks.harness.results import append_result, samples_file

NOWHERE = Path("/no/such/file")


def run_of(method: str = "ce", *accuracies: float, samples: Path = NOWHERE, **about: Any) -> Run:
    return Run(result_line(method, accuracies or (50.0, 60.0, 70.0), **about), samples)


def lines_of(ax: Axes) -> dict[str, np.ndarray]:
    """Return the named lines' data, (2, n)."""
    return {str(line.get_label()): np.asarray(line.get_data()) for line in ax.get_lines()}


def points_of(ax: Axes) -> dict[str, np.ndarray]:
    """Return the named points with bars, (2, n)."""
    bars = [container for container in ax.containers if isinstance(container, ErrorbarContainer)]
    return {str(each.get_label()): np.asarray(each.lines[0].get_data()) for each in bars}


def write_samples(path: Path, num_classes: int = 3, count: int = 60, width: int = 5) -> Path:
    rng = np.random.default_rng(0)
    true = np.arange(count) % num_classes
    given, corrected = true.copy(), true.copy()
    given[:20] = (given[:20] + 1) % num_classes
    corrected[:5] = given[:5]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path,
        true=true,
        given=given,
        corrected=corrected,
        epochs=np.array([1, 5]),
        losses=(rng.normal(1, 0.2, (2, count)) + 4 * (true != given)).astype(np.float32),
        shown=np.arange(0, count, 2),
        representations=rng.normal(size=(2, count // 2, width)).astype(np.float32),
    )
    return path


class TestAccuracy:
    def test_a_line_is_the_mean_over_the_seeds_and_the_shade_their_range(self) -> None:
        runs = [run_of("ce", 50.0, 60.0, seed=0), run_of("ce", 54.0, 70.0, seed=1), run_of("elr", 40.0, 80.0)]
        (ax,) = draw_accuracy(runs).axes
        np.testing.assert_allclose(lines_of(ax)["ce"], [[0, 1], [52, 65]])
        np.testing.assert_allclose(lines_of(ax)["elr"], [[0, 1], [40, 80]])
        (shade,) = ax.collections
        heights = np.asarray(shade.get_paths()[0].vertices)[:, 1]
        assert (heights.min(), heights.max()) == (50, 70)

    def test_runs_of_another_length_are_in_another_panel(self) -> None:
        long = run_of("ce", 50.0, 60.0, 70.0)
        long_axes, short_axes = draw_accuracy([long, run_of("ce", 20.0, 30.0, epochs=2)]).axes
        assert short_axes.get_title() == "digits, 2 epochs, symmetric 40%"
        np.testing.assert_allclose(lines_of(long_axes)["ce"], [[0, 1, 2], [50, 60, 70]])

    def test_a_seed_that_was_run_watched_and_unwatched_counts_once(self) -> None:
        runs = [run_of("ce", 50.0), run_of("ce", 50.0, watched=True), run_of("ce", 80.0, seed=1)]
        (ax,) = draw_accuracy(runs).axes
        np.testing.assert_allclose(lines_of(ax)["ce"], [[0], [65]])

    def test_each_task_has_a_panel(self) -> None:
        axes = draw_accuracy([run_of(), run_of(rate=0.8), run_of(dataset="mnist"), run_of(rate=0.0)]).axes
        assert [ax.get_title() for ax in axes] == [
            "digits, symmetric 40%",
            "digits, symmetric 80%",
            "mnist, symmetric 40%",
            "digits, clean",
        ]

    def test_runs_of_other_lengths_are_cut_to_the_shortest(self) -> None:
        (ax,) = draw_accuracy([run_of("ce", 1.0, 2.0, 3.0, seed=0), run_of("ce", 3.0, 4.0, seed=1)]).axes
        np.testing.assert_allclose(lines_of(ax)["ce"], [[0, 1], [2, 3]])

    def test_where_mixnn_starts_to_mix_and_to_correct_is_marked(self) -> None:
        def marks(*runs: Run) -> list[str]:
            (ax,) = draw_accuracy(runs).axes
            return [name for name in ax.get_legend_handles_labels()[1] if " = " in name]

        assert marks(run_of("mixnn")) == ["W = 1", "$E_s$ = 2"]
        assert marks(run_of("ce")) == []
        assert marks(run_of("mixnn", options={"correction_epoch": None})) == ["W = 1"]
        others = [run_of("mixnn"), run_of("mixnn", options={"warmup_epochs": 0})]
        assert marks(*others) == ["W = 0 to 1", "$E_s$ = 2"]
        (ax,) = draw_accuracy([run_of("mixnn")]).axes
        assert [float(lines_of(ax)[name][0][0]) for name in ("W = 1", "$E_s$ = 2")] == [1, 2]

    def test_figure_7a_is_of_watched_runs(self) -> None:
        (ax,) = draw_watched_accuracy([run_of("ce"), run_of("mixnn", watched=True)]).axes
        assert "ce" not in lines_of(ax)

    def test_its_foot_says_what_it_is_of(self) -> None:
        figure = draw_accuracy([run_of(seed=0), run_of(seed=2)])
        assert figure.get_supxlabel() == "2 runs of 3 epochs, seeds 0 2; a processor, torch 2.14, 2026-11-25"


def test_gradients_are_of_right_and_of_wrong_labels() -> None:
    (ax,) = draw_gradients([run_of("ce", watched=True), run_of("elr")]).axes
    clean = np.exp(-np.arange(3))
    np.testing.assert_allclose(lines_of(ax)["ce, right labels"], [np.arange(3), clean])
    np.testing.assert_allclose(lines_of(ax)["ce, wrong labels"], [np.arange(3), 1 - clean / 4])
    assert len(lines_of(ax)) == 2


def test_correction_is_beside_the_share_as_given() -> None:
    run = run_of("mixnn", watched=True, right=(60.0, 70.0, 90.0))
    (ax,) = draw_correction([run, run_of("ce", watched=True)]).axes
    np.testing.assert_allclose(lines_of(ax)["mixnn"], [[0, 1, 2], [60, 70, 90]])
    np.testing.assert_allclose(lines_of(ax)["as given"][1], 60)
    assert "ce" not in lines_of(ax)


def test_neighbors_have_three_curves_of_which_two_start_at_k_0() -> None:
    runs = [
        *(run_of("mixnn", 10.0 * k, options={"num_neighbors": k}, rate=0.4) for k in (0, 1, 2)),
        *(run_of("mixnn", 5.0 * k, options={"num_neighbors": k, "weighting": "uniform"}) for k in (1, 2)),
        *(run_of("mixnn", 50.0 + k, options={"num_neighbors": k, "weighting": "uniform"}, rate=0.0) for k in (1, 2)),
        run_of("mixnn", 50.0, options={"num_neighbors": 0}, rate=0.0),
        run_of("mixnn", 99.0, options={"num_neighbors": 2, "momentum": 0.5}),
        run_of("mixnn", 4.0, options={"num_neighbors": 2, "weighting": "uniform"}, seed=1),
        run_of("ce", 98.0),
    ]
    (ax,) = draw_neighbors(runs).axes
    points = points_of(ax)
    np.testing.assert_allclose(points["weighted"], [[0, 1, 2], [0, 10, 20]])
    np.testing.assert_allclose(points["averaged"], [[0, 1, 2], [0, 5, 7]])
    np.testing.assert_allclose(points["averaged, labels all right"], [[0, 1, 2], [50, 51, 52]])


def test_sensitivity_has_a_panel_an_option_and_a_curve_a_noise() -> None:
    runs = [
        *(
            run_of("mixnn", 100 * value, options={"momentum": value}, rate=rate)
            for value in (0.5, 0.9)
            for rate in (0.4, 0.6)
        ),
        run_of("mixnn", 70.0, options={"warmup_epochs": 5}),
        run_of("mixnn", 71.0, options={"correction_epoch": None}),
        run_of("mixnn", 72.0, options={"warmup_epochs": 5, "momentum": 0.5}),
    ]
    momentum, warmup = draw_sensitivity(runs).axes
    assert set(points_of(momentum)) == {"symmetric 40%", "symmetric 60%"}
    np.testing.assert_allclose(points_of(momentum)["symmetric 60%"], [[0.5, 0.9], [50.0, 90.0]])
    assert warmup.get_xlabel().startswith("W")
    np.testing.assert_allclose(points_of(warmup)["symmetric 40%"], [[5], [70]])


class TestSamples:
    def test_losses_are_drawn_after_warm_up_and_at_the_end_of_the_first_seed(self, tmp_path: Path) -> None:
        path = write_samples(tmp_path / "run.npz")
        axes = draw_losses([run_of("ce", samples=path, seed=1), run_of("ce", samples=path, seed=0), run_of("elr")]).axes
        assert [ax.get_title().splitlines() for ax in axes] == [
            ["ce, digits, symmetric 40%", "after 2 epochs"],
            ["ce, digits, symmetric 40%", "after 6 epochs"],
        ]
        wrong = next(bars for bars in axes[0].containers if bars.get_label() == "wrong labels")
        assert sum(bar.get_width() * bar.get_height() for bar in wrong) == pytest.approx(20 / 60)

    def test_confusion_is_of_labels_as_given_and_as_corrected(self, tmp_path: Path) -> None:
        run = run_of("mixnn", samples=write_samples(tmp_path / "run.npz"))
        given, corrected = draw_confusion([run]).axes
        assert corrected.get_title() == "digits, symmetric 40%\ncorrected by mixnn"
        matrix = np.asarray(given.images[0].get_array())
        np.testing.assert_allclose(matrix.sum(axis=1), 100)
        np.testing.assert_allclose(np.diag(matrix), [100 * 13 / 20, 100 * 13 / 20, 100 * 14 / 20])
        np.testing.assert_allclose(np.diag(np.asarray(corrected.images[0].get_array())), [90, 90, 95])
        assert [text.get_text() for text in given.texts[:3]] == ["65", "35", "0"]

    def test_titles_and_labels_of_a_single_row_are_within_the_picture(self, tmp_path: Path) -> None:
        run = run_of("elr", epochs=9, samples=write_samples(tmp_path / "run.npz", num_classes=10))
        figure = draw_confusion([run])
        figure.draw_without_rendering()
        foot = max(text.get_window_extent().y1 for text in figure.texts)
        for ax in figure.axes:
            assert ax.title.get_window_extent().y1 <= figure.bbox.y1
            assert ax.xaxis.label.get_window_extent().y0 >= foot

    def test_with_many_classes_the_cells_have_no_numbers(self, tmp_path: Path) -> None:
        path = write_samples(tmp_path / "run.npz", num_classes=20)
        assert len(draw_confusion([run_of("mixnn", samples=path)]).axes[0].texts) == 0

    def test_representations_are_marked_where_the_label_is_wrong(self, tmp_path: Path) -> None:
        run = run_of("ce", samples=write_samples(tmp_path / "run.npz"))
        axes = draw_representations([run]).axes
        assert len(axes) == 2
        right, wrong = axes[0].collections
        assert [np.shape(marks.get_offsets()) for marks in (right, wrong)] == [(20, 2), (10, 2)]

    def test_clusters_stay_clusters_in_two_dimensions(self) -> None:
        generator = torch.Generator().manual_seed(0)
        labels = np.arange(90) % 3
        rows = 8 * torch.eye(3, 6)[labels] + torch.randn(90, 6, generator=generator)
        places = in_two_dimensions(rows.numpy())
        assert places.shape == (90, 2)
        distances = np.linalg.norm(places[:, None] - places[None], axis=2)
        np.fill_diagonal(distances, np.inf)
        assert (labels[distances.argmin(axis=1)] == labels).mean() > 0.95
        np.testing.assert_array_equal(places, in_two_dimensions(rows.numpy()))


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (draw_watched_accuracy, "--watch-training"),
        (draw_gradients, "--watch-training"),
        (draw_correction, "of methods that correct labels"),
        (draw_neighbors, "several num_neighbors"),
        (draw_sensitivity, "one of the options momentum"),
        (draw_losses, "--watch-training"),
        (draw_confusion, "--watch-training"),
        (draw_representations, "--watch-training"),
    ],
)
def test_says_what_runs_it_takes(draw: Callable[[list[Run]], Figure], message: str) -> None:
    with pytest.raises(NothingToDrawError, match=message):
        draw([run_of("ce"), run_of("mixnn")])


class TestCommand:
    @pytest.fixture
    def results(self, tmp_path: Path) -> Path:
        """Two watched runs, one with its samples."""
        path = tmp_path / "results.jsonl"
        line = result_line("mixnn", watched=True, right=(60.0, 70.0, 90.0))
        append_result(path, line)
        append_result(path, result_line("ce", watched=True))
        write_samples(samples_file(path, line["key"]))
        return path

    def test_draws_all_that_there_are_runs_for(self, results: Path, tmp_path: Path, capsys: Any) -> None:
        assert figures.main([str(results), "--output", str(tmp_path / "pictures")]) == 0
        drawn = {path.name for path in (tmp_path / "pictures").iterdir()}
        missing = {f"{figures.FIGURES[name].file}.png" for name in ("7c", "sensitivity")}
        assert drawn | missing == {f"{figure.file}.png" for figure in figures.FIGURES.values()}
        assert not drawn & missing
        assert all(path.read_bytes().startswith(b"\x89PNG") for path in (tmp_path / "pictures").iterdir())
        assert "figure 7c is left out: it is of runs of mixnn with several num_neighbors" in capsys.readouterr().err

    def test_one_that_was_asked_for_and_cannot_be_drawn_is_a_failure(self, results: Path, tmp_path: Path) -> None:
        flags = [str(results), "--output", str(tmp_path / "pictures"), "--figure"]
        assert figures.main([*flags, "7c", "9"]) == 1
        assert figures.main([*flags, "9"]) == 0
        assert figures.main([*flags, "9", "--method", "ce"]) == 1

    @pytest.mark.parametrize(
        "flags",
        [
            ["none.jsonl"],
            ["RESULTS", "--figure", "10"],
            ["RESULTS", "--output", "RESULTS"],
            ["RESULTS", "--output", "RESULTS/in"],
            ["RESULTS", "--method", "elr"],
        ],
    )
    def test_a_mistake_is_a_usage_error(self, flags: list[str], results: Path) -> None:
        with pytest.raises(SystemExit) as caught:
            figures.main([flag.replace("RESULTS", str(results)) for flag in flags])
        assert caught.value.code == 2


def test_a_method_looks_the_same_in_all_panels() -> None:
    runs = [run_of(name, rate=0.4) for name in ("ce", "elr", "mixnn")]
    runs += [run_of(name, rate=0.6) for name in ("mixnn", "elr")]
    first, second = draw_accuracy(runs).axes
    looks = [
        {str(line.get_label()): (line.get_color(), line.get_linestyle()) for line in ax.get_lines()}
        for ax in (first, second)
    ]
    assert all(looks[0][name] == looks[1][name] for name in ("elr", "mixnn"))
    assert len(set(looks[0].values())) == len(looks[0])
