"""The report as a table of its own: parts, issues, expectations and corrected labels."""

import numpy as np
import pytest
from label_reports import label_report


def test_a_part_has_its_rows_and_the_numbers_of_all() -> None:
    report = label_report(6)
    for rows in (slice(1, 3), [1, 2], np.array([False, True, True, False, False, False])):
        part = report[rows]
        assert part.indices.tolist() == [20, 30]
        assert part.paths == ["folder/1.png", "folder/2.png"]
        assert part.neighbors.tolist() == report.neighbors[1:3].tolist()
        assert (part.num_samples, part.wrong_labels, part.noise_rate) == (6, 2.0, 2 / 6)
    assert len(report[[]]) == len(report[:0]) == 0
    assert report[3].indices.tolist() == [40]


def test_issues_are_those_for_which_another_class_is_likelier() -> None:
    report = label_report(6)
    assert report.issues().indices.tolist() == [10, 20]
    assert (report.issues().given_labels != report.issues().suggested_labels).all()


def test_says_how_many_labels_look_wrong() -> None:
    assert repr(label_report(6)) == "LabelReport(6 of 6 samples, about 2 (1 to 3) wrong labels, 2 issues)"


def test_expected_precision_is_the_mean_of_what_is_not_clean() -> None:
    report = label_report(5)
    assert [report.expected_precision(top) for top in (1, 2, 5)] == pytest.approx([1, 0.875, 0.5])
    for top in (0, 6):
        with pytest.raises(ValueError, match=rf"top must be in 1..5, the report's rows, got {top}"):
            report.expected_precision(top)


def test_the_interval_is_of_the_readings_and_of_what_they_come_to() -> None:
    report = label_report(5)  # readings are the root of P(clean), P(clean) and its square
    clean = np.linspace(0, 1, 5)
    for top in (1, 2, 5):
        low, high = 1 - np.sqrt(clean[:top]).mean(), 1 - (clean[:top] ** 2).mean()
        assert report.expected_precision_interval(top) == pytest.approx((low, high), abs=1e-6)
    above = label_report(5, readings=np.ones((5, 3), dtype=np.float32))
    assert above.expected_precision_interval(2) == pytest.approx((0, 0.875))
    with pytest.raises(ValueError, match=r"top must be in 1..5, the report's rows, got 6"):
        report.expected_precision_interval(6)


def test_the_row_of_an_index() -> None:
    assert label_report(6).row_of(40) == 3
    with pytest.raises(KeyError, match="no sample with dataset index 41"):
        label_report(6).row_of(41)


def test_corrected_labels_stand_at_their_dataset_index() -> None:
    report = label_report(6)  # the two issues have confidences of 1 and 0.8
    labels = report.corrected_labels()
    assert len(labels) == report.dataset_length == 70
    assert labels[[10, 20, 30, 40]].tolist() == [1, 2, 2, 0]
    assert (np.delete(labels, report.indices) == -1).all()
    assert report.corrected_labels(threshold=0.9)[[10, 20]].tolist() == [1, 1]
    assert report.corrected_labels(threshold=1)[[10, 20]].tolist() == [0, 1]
    with pytest.raises(ValueError, match=r"threshold must be in \[0, 1\], got 1.5"):
        report.corrected_labels(1.5)


def test_the_page_needs_rows() -> None:
    with pytest.raises(ValueError, match="no rows: there is nothing to show"):
        label_report(6)[:0].to_html("never.html", [])
    with pytest.raises(ValueError, match="top must be an integer >= 1, got 0"):
        label_report(6).to_html("never.html", [], top=0)


def test_the_page_is_of_the_report_s_dataset() -> None:
    with pytest.raises(ValueError, match=r"of a dataset of 70 samples, got one of 71; pass .* loader\.dataset"):
        label_report(6).to_html("never.html", [0] * 71)
