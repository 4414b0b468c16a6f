"""Tables, with means and deviations that NumPy has too."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from result_lines import result_line

from benchmarks import table
from benchmarks.harness.lines import ACCURACY, lookup
from benchmarks.harness.published import PublishedRow, published_tables
from benchmarks.harness.results import append_result


def cells_of(markdown: str) -> dict[str, dict[str, str]]:
    """Read a Markdown table: row -> column -> cell."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown.splitlines() if line[:1] == "|"]
    header = rows[0][1:]
    return {row[0]: dict(zip(header, row[1:], strict=True)) for row in rows[2:]}


def write(path: Path, *lines: dict[str, Any]) -> str:
    for line in lines:
        append_result(path, line)
    return str(path)


LINES = [
    result_line(method, (50.0, accuracy), rate=rate, seed=seed)
    for method, rate, accuracies in (
        ("ce", 0.4, (60.0, 63.0)),
        ("mixnn", 0.4, (70.0, 79.0, 81.0)),
        ("ce", 0.0, (90.0,)),
    )
    for seed, accuracy in enumerate(accuracies)
]


def test_a_cell_is_the_mean_and_sample_deviation_over_the_seeds_and_says_so_where_they_are_fewer() -> None:
    cells = cells_of(table.tables(LINES, ACCURACY))
    assert list(cells) == ["ce", "mixnn"]
    assert list(cells["ce"]) == ["clean", "symmetric 40%"]
    assert cells["mixnn"]["symmetric 40%"] == f"{np.mean([70, 79, 81]):.2f} ± {np.std([70, 79, 81], ddof=1):.2f}"
    assert cells["ce"] == {"clean": "90.00", "symmetric 40%": f"61.50 ± {np.std([60, 63], ddof=1):.2f} (2 seeds)"}
    assert cells["mixnn"]["clean"] == "-"


def test_differences_are_of_the_same_seed() -> None:
    both = table.tables(LINES, ACCURACY, against="ce").split("\n\n")
    assert both[2] == f"**digits, 1347 samples, 2 epochs**: {ACCURACY}, less that of ce"
    assert cells_of(both[3]) == {"mixnn": {"symmetric 40%": f"13.00 ± {np.std([10, 16], ddof=1):.2f}"}}


def test_quotients_are_of_the_same_seed(tmp_path: Path, capsys: Any) -> None:
    assert table.main([write(tmp_path / "results.jsonl", *LINES), "--over", "ce"]) == 0
    title, cells = capsys.readouterr().out.split("\n\n")[2:]
    assert title == f"**digits, 1347 samples, 2 epochs**: {ACCURACY}, over that of ce"
    ratios = [70 / 60, 79 / 63]
    assert cells_of(cells) == {"mixnn": {"symmetric 40%": f"{np.mean(ratios):.2f} ± {np.std(ratios, ddof=1):.2f}"}}


def test_there_is_no_quotient_by_zero() -> None:
    lines = [result_line(method, (1.0, value), seed=seed) for seed in (0, 1) for method, value in RATES[seed].items()]
    both = table.tables(lines, ACCURACY, over="ce").split("\n\n")
    assert cells_of(both[3]) == {"mixnn": {"symmetric 40%": "2.00"}}


RATES = [{"ce": 0.0, "mixnn": 1.0}, {"ce": 1.0, "mixnn": 2.0}]


def test_datasets_recipes_and_options_are_kept_apart() -> None:
    lines = [
        result_line("mixnn", options={"momentum": 0.8, "correction_epoch": None}),
        result_line("mixnn", options={"momentum": 0.9}),
        result_line("mixnn", recipe={"lr": 0.1}),
        result_line("mixnn", dataset="mnist"),
        result_line("mixnn", (1.0,)),
    ]
    text = table.tables(lines, ACCURACY)
    assert re.findall(r"\*\*(.*?)\*\*", text) == [
        "digits, 1347 samples, 3 epochs",
        "digits, 1347 samples, 3 epochs, lr 0.1",
        "mnist, 1347 samples, 3 epochs",
        "digits, 1347 samples, 1 epochs",
    ]
    assert list(cells_of(text.split("\n\n")[1])) == [
        "mixnn (correction_epoch None, momentum 0.8)",
        "mixnn (momentum 0.9)",
    ]


def test_rates_that_differ_by_less_than_a_percent_have_columns_of_their_own() -> None:
    lines = [result_line(rate=rate) for rate in (0.38, 0.384, 0.9, 0.05)] + [result_line(noise="given")]
    columns = list(cells_of(table.tables(lines, ACCURACY))["ce"])
    assert columns == ["given labels", "symmetric 5%", "symmetric 38%", "symmetric 38.4%", "symmetric 90%"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("seconds", 3.0),
        ("cost.forward", 10.0),
        ("epochs.0.test.accuracy", 50.0),
        ("epochs.-1.training.memorized", 20.0),
        ("epochs.9.test.accuracy", None),
        ("epochs.test", None),
        ("labels.right", None),
        ("machine.torch", None),
        ("seconds.of.what", None),
    ],
)
def test_a_path_leads_to_a_number(path: str, value: float | None) -> None:
    assert lookup(result_line(), path) == value


def test_of_several_figures_there_are_several_tables(tmp_path: Path, capsys: Any) -> None:
    results = write(tmp_path / "results.jsonl", result_line(), result_line("mixnn"))
    assert table.main([results, "--figure", "seconds", "cost.plain_trainings", "--method", "mixnn"]) == 0
    text = capsys.readouterr().out
    assert re.findall(r"epochs\*\*: (\S+)", text) == ["seconds", "cost.plain_trainings"]
    assert "| ce |" not in text


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--figure", "figures.first"], "no run has the figure figures.first; it has actual_noise_rate, cost.forward"),
        (["--method", "elr"], "there is no run of elr; there are runs of ce"),
        (["--against", "elr"], "there is no elr without options to compare with"),
        (["--paper", "VI"], "argument --paper: invalid choice: 'VI'"),
    ],
)
def test_what_is_not_there_is_a_usage_error(flags: list[str], message: str, tmp_path: Path, capsys: Any) -> None:
    results = write(tmp_path / "results.jsonl", result_line())
    with pytest.raises(SystemExit) as caught:
        table.main([results, *flags])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_a_method_to_compare_with_that_lacks_a_figure_is_compared_by_the_others(tmp_path: Path, capsys: Any) -> None:
    results = write(tmp_path / "results.jsonl", result_line("ce"), result_line("elr", right=(60.0, 70.0, 80.0)))
    assert table.main([results, "--against", "ce", "--figure", "labels.right", ACCURACY]) == 0
    printed = capsys.readouterr().out
    assert "labels.right, less that of ce" not in printed
    assert f"{ACCURACY}, less that of ce" in printed


def test_a_file_that_is_not_there_is_a_usage_error(tmp_path: Path, capsys: Any) -> None:
    with pytest.raises(SystemExit):
        table.main([str(tmp_path / "none.jsonl")])
    assert "none.jsonl" in capsys.readouterr().err


def test_one_dataset_without_the_method_to_compare_with_does_not_hide_another() -> None:
    lines = [*LINES, result_line("mixnn", dataset="mnist")]
    assert table.tables(lines, ACCURACY, against="ce").count("less that of ce") == 1


class TestPaper:
    def test_its_rows_stand_below_ours_of_the_same_dataset_method_and_options(self) -> None:
        lines = [
            result_line("mixnn", (92.0,), dataset="paper-cifar10"),
            result_line("mixnn", (88.0,), dataset="paper-cifar10", options={"weighting": "uniform"}),
            result_line("elr", (91.0,), dataset="paper-cifar10"),
        ]
        rows = [
            PublishedRow("cifar10", "mixnn", {"symmetric 40%": 92.89}, ACCURACY),
            PublishedRow("cifar10", "mixnn", {"symmetric 40%": 88.79}, ACCURACY, {"weighting": "uniform"}),
            PublishedRow("cifar10", "ce", {"symmetric 40%": 81.88, "symmetric 80%": 53.82}, ACCURACY),
            PublishedRow("cifar100", "ce", {"symmetric 40%": 48.2}, ACCURACY),
        ]
        ours, others = table.tables(lines, ACCURACY, published=rows).split("**cifar100**")
        cells = cells_of(ours)
        assert list(cells) == [
            "mixnn",
            "mixnn, published",
            "mixnn (weighting uniform)",
            "mixnn, published (weighting uniform)",
            "elr",
            "ce, published",
        ]
        assert cells["mixnn"] == {"symmetric 40%": "92.00", "symmetric 80%": "-"}
        assert cells["mixnn, published (weighting uniform)"]["symmetric 40%"] == "88.79"
        assert cells["ce, published"] == {"symmetric 40%": "81.88", "symmetric 80%": "53.82"}
        assert cells_of(others) == {"ce, published": {"symmetric 40%": "48.20"}}

    def test_it_is_printed_whole_beside_results_of_other_datasets(self, tmp_path: Path, capsys: Any) -> None:
        results = write(tmp_path / "results.jsonl", result_line("mixnn", right=(60.0, 80.0, 90.0)), result_line("ce"))
        assert table.main([results, "--paper", "V"]) == 0
        text = capsys.readouterr().out
        assert text.startswith("Table V, training labels that are right after correction. Published: Lu & He 2021")
        ours, cifar10, cifar100 = re.split(r"\*\*cifar100?\*\*", text)
        assert cells_of(ours) == {"mixnn": {"symmetric 40%": "90.00"}}
        assert cells_of(cifar10)["mixnn, published"]["symmetric 40%"] == "95.25"
        assert cells_of(cifar100)["mixnn, published"]["symmetric 80%"] == "52.45"

    def test_an_ablation_has_the_forms_that_the_paper_has(self, tmp_path: Path, capsys: Any) -> None:
        forms: tuple[dict[str, Any], ...] = (
            {},
            {"weighting": "beta"},
            {"correction_epoch": None},
            {"num_neighbors": 3},
            {"momentum": 0.5},
        )
        results = write(tmp_path / "results.jsonl", *(result_line("mixnn", options=form) for form in forms))
        assert table.main([results, "--paper", "IV"]) == 0
        ours = capsys.readouterr().out.split("**cifar10**")[0]
        assert list(cells_of(ours)) == ["mixnn", "mixnn (weighting beta)", "mixnn (correction_epoch None)"]

    def test_each_of_its_figures_has_its_own_rows(self, tmp_path: Path, capsys: Any) -> None:
        results = write(tmp_path / "results.jsonl", result_line("mixnn"))
        assert table.main([results, "--paper", "III"]) == 0
        first, fifth = capsys.readouterr().out.split("figures.last.top5, as published", maxsplit=1)
        assert "75.39" in first
        assert "90.71" not in first
        assert "90.71" in fifth

    def test_all_that_is_published_is_in_percent_and_of_a_source(self) -> None:
        for published in published_tables().values():
            assert "20" in published.source
            assert published.rows
            for row in published.rows:
                assert row.figure in published.figures
                assert published.methods is None or row.method in published.methods
                assert all(10 < value < 100 for value in row.values.values())
