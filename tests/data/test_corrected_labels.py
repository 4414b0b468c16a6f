"""Datasets with other labels."""

import pickle
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from mixnn_loader import CorrectedLabels

PAIRS = [("a", 0), ("b", 1), ("c", 2), ("d", 0)]


def samples_of(dataset: CorrectedLabels) -> list[Any]:
    return [dataset[place] for place in range(len(dataset))]


def test_other_labels_and_fewer_samples() -> None:
    corrected = CorrectedLabels(PAIRS, torch.tensor([2, -1, -1, 1]), drop=[1])
    assert samples_of(corrected) == [("a", 2), ("c", 2), ("d", 1)]
    assert corrected.indices.tolist() == [0, 2, 3]
    assert corrected.new_labels.tolist() == [2, -1, 1]
    assert corrected[-1] == ("d", 1)
    assert corrected.__getitems__([2, 0]) == [("d", 1), ("a", 2)]
    assert PAIRS == [("a", 0), ("b", 1), ("c", 2), ("d", 0)]


@pytest.mark.parametrize("drop", [None, [], [3, 0, 3], np.array([True, False, False, True]), torch.tensor([0, 3])])
def test_ways_to_leave_samples_out(drop: Any) -> None:
    expected = 4 if drop is None or len(drop) == 0 else 2
    assert len(CorrectedLabels(PAIRS, [0, 1, 2, 3], drop=drop)) == expected


def test_samples_of_other_kinds() -> None:
    Triple = namedtuple("Triple", "image label path")
    for sample, expected in (
        (["a", 0, "p"], ["a", 5, "p"]),
        (Triple("a", 0, "p"), Triple("a", 5, "p")),
        ({"image": "a", "label": 0}, {"image": "a", "label": 5}),
        ({"x": "a", "labels": 0}, {"x": "a", "labels": 5}),
    ):
        found = CorrectedLabels([sample], [5])[0]
        assert found == expected
        assert type(found) is type(sample)
    assert CorrectedLabels([(0, "a")], [5], label_key=0)[0] == (5, "a")
    assert CorrectedLabels([{"y": 0}], [5], label_key="y")[0] == {"y": 5}
    with pytest.raises(TypeError, match=r"mappings with the keys \['x', 'y'\]; pass label_key="):
        CorrectedLabels([{"x": "a", "y": 0}], [5])[0]
    with pytest.raises(TypeError, match="a tuple, list or mapping with a label in it, got Tensor"):
        CorrectedLabels([torch.zeros(3)], [5])[0]


def test_goes_through_workers_and_pickle() -> None:
    dataset = TensorDataset(torch.arange(8.0), torch.zeros(8, dtype=torch.int64))
    corrected = CorrectedLabels(dataset, np.arange(8), drop=[3])
    for workers in (0, 2):
        batches = list(DataLoader(pickle.loads(pickle.dumps(corrected)), batch_size=3, num_workers=workers))
        values, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
        assert values.tolist() == labels.tolist() == [0, 1, 2, 4, 5, 6, 7]


@pytest.mark.parametrize("kind", [torch.tensor, np.int64, np.int32, int])
def test_labels_of_any_kind_go_into_one_batch(kind: Any) -> None:
    dataset = [(torch.zeros(2), kind(label)) for label in range(4)]
    corrected = CorrectedLabels(dataset, [-1, 9, -1, 7])
    (batch,) = DataLoader(corrected, batch_size=4)
    assert batch[1].tolist() == [0, 9, 2, 7]
    mappings = CorrectedLabels([{"x": 0.0, "label": kind(label)} for label in range(4)], [-1, 9, -1, 7])
    (batch,) = DataLoader(mappings, batch_size=4)
    assert batch["label"].tolist() == [0, 9, 2, 7]


def test_decisions_on_another_dataset_are_refused(tmp_path: Path) -> None:
    class Files(list[tuple[str, int]]):
        paths = (Path("a/1.png"), Path("a/2.png"), Path("b/1.png"))

    dataset = Files([("x", 0), ("y", 0), ("z", 1)])
    for path in ("a/2.png", "photos/a/2.png", "2.png", ""):
        file = decisions(tmp_path, f"index,path,new,decision\n1,{path},1,accept\n")
        assert samples_of(CorrectedLabels.from_csv(dataset, file))[1] == ("y", 1)
    file = decisions(tmp_path, "index,path,new,decision\n1,a/1.png,1,accept\n")
    with pytest.raises(ValueError, match=r"line 2: sample 1 is a/2.png in the dataset, and a/1.png in the file"):
        CorrectedLabels.from_csv(dataset, file)


TRIPLES = [("a", 7, 0), ("b", 8, 1), ("c", 9, 0)]
"""Inputs, a number of something else, and the label."""


@pytest.mark.parametrize("kind", [int, np.int64, torch.tensor])
def test_another_part_than_the_label_is_not_replaced(kind: Any) -> None:
    triples = [(name, kind(other), kind(label)) for name, other, label in TRIPLES]
    with pytest.raises(ValueError, match=r"part 1 of sample 0 is .*7.*, and its given label was 0: pass label_key="):
        CorrectedLabels(triples, [1, -1, -1], given=[0, 1, 0])[0]
    corrected = CorrectedLabels(triples, [1, -1, -1], given=[0, 1, 0], label_key=2)
    assert [tuple(map(str, map(as_number, sample))) for sample in samples_of(corrected)] == [
        ("a", "7", "1"),
        ("b", "8", "1"),
        ("c", "9", "0"),
    ]
    coarse = [{"image": "a", "label": "animal", "target": 0}]
    with pytest.raises(ValueError, match="part 'label' of sample 0 is 'animal', and its given label was 0"):
        CorrectedLabels(coarse, [1], given=[0])[0]
    assert CorrectedLabels(coarse, [1], given=[0], label_key="target")[0]["target"] == 1


def as_number(value: Any) -> Any:
    return value if isinstance(value, str) else int(value)


def test_decisions_on_samples_with_other_labels_are_refused(tmp_path: Path) -> None:
    file = decisions(tmp_path, "index,given,new,decision\n0,0,1,accept\n1,0,0,keep\n2,,1,accept\n3,0,,unsure\n")
    corrected = CorrectedLabels.from_csv(PAIRS, file)
    assert corrected[0] == ("a", 1)
    assert corrected[2] == ("c", 1)  # the file does not say what was given
    assert corrected[3] == ("d", 0)
    with pytest.raises(ValueError, match=r"part 1 of sample 1 is 1, and its given label was 0: .* the dataset that"):
        corrected[1]
    with pytest.raises(ValueError, match="sample 1"):
        corrected.__getitems__([0, 1])


class Report:
    """Of three of four samples, by suspicion."""

    indices = np.array([2, 0, 3])
    given_labels = np.array([2, 0, 0])
    dataset_length = 4

    def corrected_labels(self, threshold: float = 0.5) -> Any:
        return np.array([0, -1, 1 if threshold < 0.9 else 2, 0])


def test_takes_what_a_report_suggests() -> None:
    assert samples_of(CorrectedLabels.from_report(PAIRS, Report())) == [("a", 0), ("b", 1), ("c", 1), ("d", 0)]
    assert samples_of(CorrectedLabels.from_report(PAIRS, Report(), threshold=0.9)) == PAIRS
    with pytest.raises(ValueError, match=r"of a dataset of 4 samples, got one of 3; pass .* loader\.dataset"):
        CorrectedLabels.from_report(PAIRS[:3], Report())
    others = [("a", 1), *PAIRS[1:]]
    with pytest.raises(ValueError, match="part 1 of sample 0 is 1, and its given label was 0"):
        CorrectedLabels.from_report(others, Report())[0]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([0, 1],), ValueError, r"one class index for each of the 4 samples, got \(2,\)"),
        (([0, 1, 2, -2],), ValueError, "class indices or -1, got -2"),
        (([0.5, 1, 2, 3],), TypeError, "labels must be integers, got float64"),
        (([0, 1, 2, 3], [4]), ValueError, r"dataset indices in 0..3, got 4"),
        (([0, 1, 2, 3], np.array([True])), ValueError, r"a mask of length 4, or indices, got a mask of shape \(1,\)"),
        (([0, 1, 2, 3], ["a"]), TypeError, "drop must be integers"),
    ],
)
def test_wrong_arguments(arguments: tuple[Any, ...], error: type[Exception], message: str) -> None:
    labels, *drop = arguments
    with pytest.raises(error, match=message):
        CorrectedLabels(PAIRS, labels, drop=drop[0] if drop else None)


def test_given_labels_are_one_a_sample() -> None:
    with pytest.raises(ValueError, match=r"given must hold one class index for each of the 4 samples, got \(1,\)"):
        CorrectedLabels(PAIRS, [0, 1, 2, 3], given=[0])


def decisions(tmp_path: Path, text: str) -> Path:
    (tmp_path / "decisions.csv").write_text(text, encoding="utf-8")
    return tmp_path / "decisions.csv"


def test_reads_decisions(tmp_path: Path) -> None:
    file = decisions(
        tmp_path,
        '\ufeffindex,path,given,new,decision\r\n0,"a, ""b"".png",0,2,accept\r\n'
        "1,,1,1,keep\r\n2,,2,,unsure\r\n3,,0,1,other\r\n",
    )
    assert samples_of(CorrectedLabels.from_csv(PAIRS, file)) == [("a", 2), ("b", 1), ("c", 2), ("d", 1)]
    assert samples_of(CorrectedLabels.from_csv(PAIRS, file, unsure="drop")) == [("a", 2), ("b", 1), ("d", 1)]
    assert samples_of(CorrectedLabels.from_csv(PAIRS, decisions(tmp_path, "decision,index,new\n"))) == PAIRS
    assert samples_of(CorrectedLabels.from_csv(PAIRS, decisions(tmp_path, "decision,index,new\n,,\n\n,,,,\n"))) == PAIRS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('index,new,decision\n0,1,"keep\n' + "1,1,keep\n" * 20_000, "after line 1: field larger .* quote not closed"),
        ('index,new,"decision\n0,1,keep\n', "after line .: unexpected end of data; is a quote not closed"),
        ('index,new,decision\n0,1,"keep\n1,1,keep\n', "after line .: unexpected end of data; is a quote not closed"),
        ("index,new\n0,1\n", r"must have the columns index, new and decision, its first line has \['index', 'new'\]"),
        ("", r"must have the columns index, new and decision, its first line has \[\]"),
        ("index,new,decision\n,1,accept\n", "line 2: index, new and given must be integers, got '', '1' and None"),
        ("index,new,decision\n0\n", "line 2: decision must be one of accept, keep, other, unsure, got None"),
        ("index,new,decision\n0,1,agree\n", "line 2: decision must be one of accept, keep, other, unsure, got 'agree'"),
        ("index,new,decision\n0,1,accept\n0,2,other\n", "line 3: there are two decisions for index 0"),
        (
            "index,new,decision\n0,cat,accept\n",
            "line 2: index, new and given must be integers, got '0', 'cat' and None",
        ),
        ("index,given,new,decision\n0,cat,1,keep\n", "must be integers, got '0', '1' and 'cat'"),
        ("index,new,decision\n4,1,accept\n", "line 2: no index of the 4 samples or no class index: 4 and 1"),
        ("index,new,decision\n0,-1,accept\n", "line 2: no index of the 4 samples or no class index: 0 and -1"),
    ],
)
def test_wrong_files(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CorrectedLabels.from_csv(PAIRS, decisions(tmp_path, text))


def test_a_file_in_another_encoding(tmp_path: Path) -> None:
    file = tmp_path / "decisions.csv"
    file.write_bytes("index,path,new,decision\n0,café.png,1,keep\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"decisions\.csv must be UTF-8: .* position"):
        CorrectedLabels.from_csv(PAIRS, file)


def test_names_that_are_no_text_come_back_from_a_browser(tmp_path: Path) -> None:
    class Files(list[tuple[str, int]]):
        paths = (Path("caf\udce9.png"), Path("b.png"))  # texts are taken for files where there are such files

    dataset = Files([("x", 0), ("y", 0)])
    file = decisions(tmp_path, "index,path,new,decision\n0,caf\ufffd.png,1,accept\n")
    assert samples_of(CorrectedLabels.from_csv(dataset, file)) == [("x", 1), ("y", 0)]
    file = decisions(tmp_path, "index,path,new,decision\n0,tea\ufffd.png,1,accept\n")
    with pytest.raises(ValueError, match="sample 0 is caf"):
        CorrectedLabels.from_csv(dataset, file)


def test_wrong_choice(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unsure must be"):
        CorrectedLabels.from_csv(PAIRS, tmp_path / "none.csv", unsure="forget")  # type: ignore[arg-type]
