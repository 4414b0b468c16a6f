"""Tables as spreadsheets write them."""

from pathlib import Path

import pytest

from mixnn_loader._utils.csv_rows import csv_rows


def test_rows_have_the_line_they_end_in(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    file.write_text('\ufeffa,b,c\r\n1,"two\nlines",3\r\n,,\r\n\r\n4\r\n5,6,7,8\r\n,,,9\r\n', encoding="utf-8")
    assert list(csv_rows(file, ["b", "a"])) == [
        (3, {"a": "1", "b": "two\nlines", "c": "3"}),
        (6, {"a": "4", "b": None, "c": None}),
        (7, {"a": "5", "b": "6", "c": "7"}),
    ]


def test_names_all_columns_that_there_must_be(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    file.write_text("a\n1\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"table\.csv must have the columns a, b and c, its first line has \['a'\]"):
        next(csv_rows(file, ["a", "b", "c"]))
