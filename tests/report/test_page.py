"""The page of a label report, as text: it is whole, small, and holds nothing that could run."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from label_reports import label_report

from mixnn_loader.report import page_data
from mixnn_loader.report.label_report import LabelReport

EVIL = "</script><script>alert(1)</script>"


class Parsed(HTMLParser):
    """Collects elements, and what stands in scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._open: str | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        del tag
        self._open = None

    def handle_data(self, data: str) -> None:
        if self._open == "script":
            self.scripts[-1] += data


def written(report: LabelReport, dataset: Any, path: Path, **arguments: Any) -> tuple[str, dict[str, Any]]:
    """Write the page; return its text and the data in it."""
    report.to_html(path / "labels.html", dataset, **arguments)
    text = (path / "labels.html").read_text(encoding="utf-8")
    return text, json.loads(Parsed(text).scripts[0])


def images(count: int, size: int = 8) -> list[tuple[np.ndarray, int]]:
    rng = np.random.default_rng(0)
    return [(rng.integers(0, 256, (size, size, 3), dtype=np.uint8), 0) for _ in range(count)]


def test_what_stands_in_it(tmp_path: Path) -> None:
    report = label_report(6, duplicates=[np.array([10, 40])])
    text, data = written(report, images(70), tmp_path)
    assert "About <strong>2</strong> of 6 labels are expected to be wrong" in text
    assert "(1 to 3). <strong>2</strong> are worth a look" in text
    assert [row["index"] for row in data["rows"]] == [10, 20, 30, 40, 50, 60]
    first = data["rows"][0]
    assert (first["given"], first["suggested"], first["clean"], first["events"]) == (0, 1, 0, None)
    assert (first["agreeing"], first["asked"]) == (1, 2)
    assert (first["events"], first["history"]) == (None, None)
    assert (data["rows"][1]["events"], data["rows"][1]["history"]) == pytest.approx((0.8, 0.1))
    assert first["neighbors"] == [{"index": 20, "given": 1}, {"index": 30, "given": 2}]
    assert sorted(data["shows"]) == ["10", "20", "30", "40", "50", "60"]
    assert all(what["image"].startswith("data:image/webp;base64,") for what in data["shows"].values())
    assert data["pairs"] == [[0, 1, 1], [1, 2, 1]]
    assert data["rates"] == pytest.approx([0.7, 0.5, 0.3])  # of given classes 0, 1, 2: the mean of 1 - P
    assert [member["path"] for member in data["duplicates"][0]] == ["folder/0.png", "folder/3.png"]


def test_issues_are_counted_as_far_as_they_are_on_the_page(tmp_path: Path) -> None:
    # The third of them stands behind one that is none.
    suggested = np.array([1, 2, 2, 1, 1, 2])
    text, data = written(label_report(6, suggested_labels=suggested), images(70), tmp_path)
    assert data["pairs"] == [[0, 1, 2], [1, 2, 1]]
    assert 'max="6" value="4"' in text
    assert "most suspicious samples." in text
    text, data = written(label_report(6, suggested_labels=suggested), images(70), tmp_path, top=2)
    assert data["pairs"] == [[0, 1, 1], [1, 2, 1]]
    assert 'max="2" value="2"' in text
    assert "<strong>3</strong> are worth a look" in text
    assert "has the 2 most suspicious samples; 2 of those worth a look are among them." in text
    text, _ = written(label_report(6, suggested_labels=np.array([0, 1, 2, 0, 1, 2])), images(70), tmp_path)
    assert 'max="6" value="1"' in text


def test_asks_nothing_of_anybody(tmp_path: Path) -> None:
    text, _ = written(label_report(6), images(70), tmp_path)
    elements = Parsed(text).elements
    for tag, attributes in elements:
        assert tag not in ("link", "iframe", "object", "embed", "form", "base"), tag
        assert "src" not in attributes, (tag, attributes)
        assert (attributes.get("href") or "#").startswith("#"), (tag, attributes)
    policy = next(a["content"] for t, a in elements if t == "meta" and a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)
    assert "url(" not in text
    assert "fetch(" not in text


@pytest.mark.parametrize("evil", [EVIL, "<!--<script>", "]]>", '"><img src=x onerror=alert(1)>', "\u2028", "&lt;b&gt;"])
def test_whatever_names_paths_and_texts_hold(tmp_path: Path, evil: str) -> None:
    report = label_report(3, class_names=[evil, "b", "c"], paths=[evil, "b", "c"])
    text, data = written(report, [(evil, 0)] * 40, tmp_path, title=evil)
    plain, _ = written(label_report(3, paths=["a", "b", "c"]), [("a", 0)] * 40, tmp_path)
    assert [tag for tag, _ in Parsed(text).elements] == [tag for tag, _ in Parsed(plain).elements]
    assert data["classes"][0] == data["rows"][0]["path"] == data["shows"]["10"]["text"] == evil
    assert not set("<>&") & set(Parsed(text).scripts[0])


def test_texts_and_tables_have_rows(tmp_path: Path) -> None:
    _, data = written(label_report(3), [("a text", 0)] * 40, tmp_path)
    assert data["shows"]["20"] == {"text": "a text"}
    _, data = written(label_report(3), [{"age": 7, "label": 1}] * 40, tmp_path)
    assert data["shows"]["20"] == {"text": "age: 7"}
    _, data = written(label_report(3), [(np.arange(3.0), 0)] * 40, tmp_path)
    assert data["shows"]["20"] == {"text": "0, 1, 2"}


def test_the_most_suspicious_and_their_neighbors(tmp_path: Path) -> None:
    _, data = written(label_report(6), images(70), tmp_path, top=2, neighbors=1)
    assert [row["index"] for row in data["rows"]] == [10, 20]
    assert sorted(data["shows"]) == ["10", "20", "30"]
    assert len(data["rows"][0]["neighbors"]) == 1
    _, data = written(label_report(6), images(70), tmp_path, neighbors=0)
    assert data["rows"][0]["neighbors"] == []


def test_a_thousand_suspects_take_less_than_twenty_megabytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (224, 224, 3), dtype=np.uint8)  # nothing is harder to compress

    class Noise:
        def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
            return np.roll(noise, index, axis=0), 0

    neighbors = 10 * rng.permutation(10_000).reshape(1000, 10)
    losses = rng.random(1000).astype(np.float32)
    report = label_report(1000, neighbors=neighbors, neighbor_labels=neighbors % 3, losses=losses)
    report.to_html(tmp_path / "labels.html", Noise())
    assert (tmp_path / "labels.html").stat().st_size < 20_000_000


def test_the_quality_of_pictures_falls_only_where_it_has_to(monkeypatch: pytest.MonkeyPatch) -> None:
    data = images(100, size=112)
    sizes = []
    for most in (10_000_000, 450_000, 1):
        monkeypatch.setattr(page_data, "MOST_BYTES", most)
        shown = page_data.shows(list(range(40)), list(range(40, 100)), data)
        assert len(shown) == 100
        sizes.append(sum(len(what["image"]) for what in shown.values()))
    assert 450_000 < sizes[0] < 10_000_000
    assert sizes[2] < sizes[1] < 1.2 * 450_000


def test_a_part_of_a_report_tells_nothing_of_all_samples(tmp_path: Path) -> None:
    report = label_report(6, duplicates=[np.array([10, 20]), np.array([10, 60])])
    _, data = written(report.issues(), images(70), tmp_path)
    assert data["rates"] is data["losses"] is None
    assert [[member["index"] for member in group] for group in data["duplicates"]] == [[10, 20]]
    assert len(data["rows"]) == 2


def test_a_sample_without_neighbors(tmp_path: Path) -> None:
    nobody = np.empty((3, 0), dtype=np.int64)
    report = label_report(3, neighbors=nobody, neighbor_labels=nobody, agreement=np.zeros(3, dtype=np.float32))
    _, data = written(report, images(40), tmp_path)
    assert (data["rows"][0]["agreeing"], data["rows"][0]["asked"]) == (0, 0)


def test_which_part_of_a_sample_is_shown(tmp_path: Path) -> None:
    _, data = written(label_report(3), [(7, "the text", 0)] * 40, tmp_path, input_key=1)
    assert data["shows"]["10"] == {"text": "the text"}


@pytest.mark.parametrize("value", [0.0, 2.5])
def test_losses_are_counted_of_issues_and_of_others(value: float) -> None:
    losses = np.array([value, 0, value / 2, value, np.nan, np.inf], dtype=np.float32)
    report = label_report(6, losses=losses)
    counts = page_data.loss_distribution(report)
    assert counts is not None
    assert counts["largest"] == value
    known, bins = np.isfinite(losses), page_data.BINS
    places = np.minimum(losses[known] / max(value, 1e-9) * bins, bins - 1).astype(int)
    for name, is_meant in (("issues", report.is_issue[known]), ("others", ~report.is_issue[known])):
        assert counts[name] == np.bincount(places[is_meant], minlength=bins).tolist()
    assert page_data.loss_distribution(label_report(6, losses=np.full(6, np.nan, dtype=np.float32))) is None


def test_a_report_s_name_tells_it_from_others() -> None:
    assert page_data.report_id(label_report(6)) == page_data.report_id(label_report(6))
    assert page_data.report_id(label_report(6)) != page_data.report_id(label_report(9))
    assert page_data.report_id(label_report(6)) != page_data.report_id(label_report(6, given_labels=np.zeros(6, int)))
