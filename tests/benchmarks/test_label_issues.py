"""How label reports are judged, and that the command compares what it says."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score, roc_auc_score

from benchmarks.harness.settings import RunSettings
from benchmarks.label_issues import COLUMNS, WAYS, judged, main


def test_figures_are_scikit_learn_s() -> None:
    rng = np.random.default_rng(0)
    is_wrong = rng.random(300) < 0.3
    suspicion = rng.normal(size=300) + is_wrong
    flagged = suspicion > 0.5
    found = judged(suspicion, flagged, is_wrong)
    assert found["auroc"] == pytest.approx(100 * roc_auc_score(is_wrong, suspicion))
    assert found["average_precision"] == pytest.approx(100 * average_precision_score(is_wrong, suspicion))
    assert found["precision"] == pytest.approx(100 * precision_score(is_wrong, flagged))
    assert found["recall"] == pytest.approx(100 * recall_score(is_wrong, flagged))
    assert found["f1"] == pytest.approx(100 * f1_score(is_wrong, flagged))
    order = np.argsort(-suspicion)
    assert found["first_hundred"] == pytest.approx(100 * is_wrong[order[:100]].mean())


def test_where_no_label_is_wrong_there_is_nothing_to_find() -> None:
    found = judged(np.arange(10.0), np.arange(10) > 8, np.zeros(10, dtype=bool))
    assert found["flagged"] == 10
    assert found["precision"] == 0
    assert found["auroc"] is found["average_precision"] is found["recall"] is found["f1"] is None
    assert judged(np.arange(10.0), np.zeros(10, dtype=bool), np.zeros(10, dtype=bool))["precision"] is None


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.label_issues.CELLS", [("symmetric", 0.0), ("pair", 0.2)])
    output = tmp_path / "labels.jsonl"
    flags = ["--dataset", "digits", "--epochs", "3", "--num-train", "300", "--output", str(output)]
    main(flags)
    text = output.read_text()
    clean, pair = map(json.loads, text.splitlines())
    assert clean["actual_noise_rate"] == 0
    assert clean["ways"]["report"]["auroc"] is None
    assert 0.1 < pair["actual_noise_rate"] < 0.3
    assert list(pair["ways"]) == list(WAYS)
    for way in pair["ways"].values():
        assert way["auroc"] > 60
    assert pair["ways"]["cleanlab, 5 folds"]["trainings"] == pytest.approx(4, rel=0.25)  # four fifths, five times
    assert 0.8 < pair["ways"]["report"]["trainings"] < 1.5
    main(flags)  # what is there is not measured again
    assert output.read_text() == text
    main(["--table", str(output)])
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 2 + 2 * len(WAYS)
    assert all(row.count("|") == len(COLUMNS) + 5 for row in rows)


def test_some_cells_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []

    def measure(settings: RunSettings, *_: object) -> dict[str, object]:
        measured.append((settings.noise, settings.rate))
        return {"key": settings.key, "ways": {"report": {}}}

    monkeypatch.setattr("benchmarks.label_issues.measure", measure)
    for number, flags in enumerate((["--noise", "pair"], ["--rates", "0.2", "0.4"], ["--noise", "symmetric"])):
        main([*flags, "--output", str(tmp_path / f"{number}.jsonl")])
    every = [("symmetric", rate) for rate in (0.0, 0.05, 0.1, 0.2, 0.4)]
    assert measured == [("pair", 0.2), ("symmetric", 0.2), ("symmetric", 0.4), ("pair", 0.2), *every]
    with pytest.raises(SystemExit):
        main(["--noise", "pair", "--rates", "0.4"])
    assert "--rates of these cells are 0.2, got [0.4]" in capsys.readouterr().err
