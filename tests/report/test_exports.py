"""What other tools get of a report."""

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from label_reports import label_report

from mixnn_loader.report import exports


def test_the_table(tmp_path: Path) -> None:
    report = label_report(6)
    table = report.to_pandas()
    assert table["index"].tolist() == report.indices.tolist()
    assert table["given_class"].tolist()[:4] == ["class 0", "class 1", "class 2", "class 0"]
    assert table["suggested_class"].tolist()[:2] == ["class 1", "class 2"]
    assert table["is_issue"].sum() == 2
    assert table["neighbors"][0] == "20 30"
    assert "path" not in label_report(6, paths=None).to_pandas()

    report.to_csv(tmp_path / "report.csv")
    read = pd.read_csv(tmp_path / "report.csv")
    assert list(read) == list(table)
    pd.testing.assert_frame_equal(read, table, check_dtype=False, rtol=1e-5)


def test_cleanlab_s_table_is_in_the_order_of_the_dataset() -> None:
    report = label_report(6)[[4, 0, 2, 1, 3, 5]]
    table = report.to_cleanlab()
    assert list(table) == ["is_label_issue", "label_score", "given_label", "predicted_label"]
    assert table.index.tolist() == [10, 20, 30, 40, 50, 60]
    assert table["is_label_issue"].tolist() == [True, True, False, False, False, False]
    np.testing.assert_allclose(table["label_score"], np.linspace(0, 1, 6), rtol=1e-6)
    assert table["predicted_label"].tolist() == [1, 2, 2, 0, 1, 2]


def test_json_holds_everything_and_no_nan(tmp_path: Path) -> None:
    report = label_report(6, duplicates=[np.array([10, 40])], class_names=['"', "ä", "</script>"])
    report.to_json(tmp_path / "report.json")
    read = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert read["class_names"] == ['"', "ä", "</script>"]
    assert read["wrong_labels_interval"] == [1, 3]
    assert read["duplicates"] == [[10, 40]]
    assert [row["index"] for row in read["rows"]] == [10, 20, 30, 40, 50, 60]
    assert read["rows"][0]["wrong_event_share"] is read["rows"][0]["label_probability"] is None
    assert read["rows"][1]["wrong_event_share"] == pytest.approx(0.8)
    assert read["rows"][1]["label_probability"] == pytest.approx(0.1)
    assert read["rows"][0]["neighbors"] == [20, 30]
    assert read["rows"][1]["clean_probability"] == pytest.approx(0.2)


def test_tasks_for_label_studio(tmp_path: Path) -> None:
    label_report(6).issues().to_label_studio(tmp_path / "tasks.json", prefix="/files/?d=")
    tasks = json.loads((tmp_path / "tasks.json").read_text(encoding="utf-8"))
    assert [task["data"]["image"] for task in tasks] == ["/files/?d=folder/0.png", "/files/?d=folder/1.png"]
    prediction = tasks[1]["predictions"][0]
    assert prediction["score"] == pytest.approx(0.8)
    assert prediction["result"][0]["value"] == {"choices": ["class 2"]}
    label_report(3, paths=None).to_label_studio(tmp_path / "tasks.json")
    assert json.loads((tmp_path / "tasks.json").read_text(encoding="utf-8"))[0]["data"]["image"] == "10"


def test_names_that_are_no_text_and_no_address(tmp_path: Path) -> None:
    report = label_report(3, paths=["a b/#1&x.png", "\udce9.png", "ä.png"])
    report.to_csv(tmp_path / "report.csv")
    assert b"\xe9.png" in (tmp_path / "report.csv").read_bytes()
    report.to_label_studio(tmp_path / "tasks.json")
    tasks = json.loads((tmp_path / "tasks.json").read_text(encoding="utf-8"))
    assert [task["data"]["image"] for task in tasks] == ["a%20b/%231%26x.png", "%E9.png", "%C3%A4.png"]


def test_numbers_have_as_many_digits_as_they_are_worth(tmp_path: Path) -> None:
    values = np.array([0.1, 1e-30, 0, 1, 123456.789, np.nan], dtype=np.float32)
    label_report(6, losses=values).to_csv(tmp_path / "report.csv")
    with (tmp_path / "report.csv").open(newline="") as file:
        texts = [row["loss"] for row in csv.DictReader(file)]
    assert texts == ["0.1", "1e-30", "0.0", "1.0", "123457.0", "nan"]


def test_files_are_written_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = label_report(50)
    for name in ("to_csv", "to_json", "to_label_studio"):
        getattr(report, name)(tmp_path / "whole")
        with monkeypatch.context() as patch:
            patch.setattr(exports, "_CHUNK", 7)
            getattr(report, name)(tmp_path / "parts")
        assert (tmp_path / "whole").read_bytes() == (tmp_path / "parts").read_bytes()


def test_an_empty_report(tmp_path: Path) -> None:
    empty = label_report(6)[:0]
    empty.to_csv(tmp_path / "report.csv")
    with (tmp_path / "report.csv").open(newline="") as file:
        assert len(list(csv.reader(file))) == 1
    empty.to_json(tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text())["rows"] == []
