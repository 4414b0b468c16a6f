"""Human labels of CIFAR, on files like the published ones."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_files import save_image
from official_files import write_cifar
from torchvision.datasets import CIFAR10, CIFAR100

from mixnn_loader.datasets import (
    CIFAR10N_LABEL_SETS,
    CIFAR100N_LABEL_SETS,
    cifar10n,
    cifar100n,
    human_labels,
)

TRUE = [3, 9, 0, 2, 1, 5]
SETS_10 = {
    "aggre_label": [3, 9, 0, 2, 1, 4],
    "worse_label": [0, 9, 0, 2, 7, 4],
    "random_label1": [3, 9, 0, 2, 7, 4],
    "random_label2": [0, 9, 0, 2, 1, 5],
    "random_label3": [3, 9, 0, 2, 1, 4],
}
TRUE_100 = [3, 99, 0, 2, 1, 50]


def write_labels(file: Path, clean: list[int], sets: dict[str, list[int]], *, by_old_numpy: bool = True) -> None:
    """Write a file of human labels as pickled arrays; NumPy 1, which the published ones are of, had other names."""
    torch.save({"clean_label": np.array(clean), **{name: np.array(labels) for name, labels in sets.items()}}, file)
    if not by_old_numpy:
        return
    with zipfile.ZipFile(file) as archive:
        parts = {entry: archive.read(entry) for entry in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Official files of both datasets with their human labels."""
    write_cifar(monkeypatch, CIFAR10, tmp_path, TRUE, [0])
    write_cifar(monkeypatch, CIFAR100, tmp_path, TRUE_100, [0])
    write_labels(tmp_path / "CIFAR-10_human.pt", TRUE, SETS_10)
    noisy = {"noisy_label": [3, 99, 0, 2, 1, 51], "noisy_coarse_label": [0] * 6}
    write_labels(tmp_path / "CIFAR-100_human.pt", TRUE_100, noisy)
    return tmp_path


def test_every_label_set_goes_with_the_images(root: Path) -> None:
    keys = dict(zip(CIFAR10N_LABEL_SETS, SETS_10, strict=True))
    for label_set, key in keys.items():
        dataset = cifar10n(root, label_set)
        assert dataset.targets.tolist() == SETS_10[key], label_set
        assert dataset.inputs.shape == (6, 3, 32, 32)
    assert cifar10n(root).targets.tolist() == SETS_10["worse_label"]
    assert CIFAR100N_LABEL_SETS == ("noisy",)
    assert cifar100n(root).targets.tolist() == [3, 99, 0, 2, 1, 51]


@pytest.mark.parametrize("by_old_numpy", [False, True])
def test_files_of_any_numpy_are_read_without_running_what_is_in_them(tmp_path: Path, by_old_numpy: bool) -> None:
    file = tmp_path / "CIFAR-10_human.pt"
    write_labels(file, TRUE, SETS_10, by_old_numpy=by_old_numpy)
    assert (b"numpy.core.multiarray" in file.read_bytes()) == by_old_numpy
    found = human_labels(file, "aggre", torch.tensor(TRUE))
    assert found.dtype == torch.int64
    assert found.tolist() == SETS_10["aggre_label"]


def test_other_pickled_objects_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "CIFAR-10_human.pt"
    torch.save({"clean_label": Path("anything")}, file)
    with pytest.raises(ValueError, match="is not as it was published") as refused:
        human_labels(file, "aggre", torch.tensor(TRUE))
    assert "Unsupported global" in str(refused.value.__cause__)


def test_labels_in_another_order_than_the_images_are_refused(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for label in range(10):
            save_image(tmp_path / split / str(label) / "0.png", red=label)
    write_labels(tmp_path / "CIFAR-10_human.pt", [0, 1, 2, 3, 4, 6, 5, 7, 8, 9], {"worse_label": [0] * 10})
    with pytest.raises(ValueError, match=r"CIFAR-10_human\.pt is in another order .* 2 of 10 images, .* at index 5"):
        cifar10n(tmp_path)


def test_another_number_of_labels(root: Path) -> None:
    with pytest.raises(ValueError, match="6 clean and 6 aggre labels for 5 images"):
        human_labels(root / "CIFAR-10_human.pt", "aggre", torch.tensor(TRUE[:5]))


def test_unknown_label_sets_and_other_files(root: Path) -> None:
    with pytest.raises(ValueError, match=r"label_set must be one of 'aggre', 'worse'.* got 'noisy'"):
        cifar10n(root, "noisy")
    with pytest.raises(ValueError, match="label_set must be one of 'noisy', got 'worse'"):
        cifar100n(root, "worse")
    with pytest.raises(ValueError, match="has no label set 'noisy' with clean_label; it has aggre, worse, random1"):
        human_labels(root / "CIFAR-10_human.pt", "noisy", torch.tensor(TRUE))
    other: Any = [1, 2]
    torch.save(other, root / "CIFAR-100_human.pt")
    with pytest.raises(ValueError, match="holds a list; expected the file of human labels"):
        cifar100n(root)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"PK\x03\x04cut off"])
def test_a_damaged_file_names_the_layout(content: bytes, root: Path) -> None:
    (root / "CIFAR-10_human.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"CIFAR-10_human\.pt is not as it was published; expected the file of human"):
        cifar10n(root)


def test_a_missing_file_names_the_layout(root: Path) -> None:
    (root / "CIFAR-10_human.pt").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"CIFAR-10_human\.pt does not exist; expected the file of human labels"
    ):
        cifar10n(root)


def test_labels_go_by_rank_within_a_class_where_the_images_come_class_after_class(tmp_path: Path) -> None:
    true = [1, 0, 1, 0, 2]
    given = [7, 5, 8, 6, 9]  # the first image of class 1 was labeled 7, the second 8, and so on
    write_labels(tmp_path / "CIFAR-10_human.pt", true, {"aggre_label": given})
    images = torch.tensor([0, 0, 1, 1, 2])
    found = human_labels(tmp_path / "CIFAR-10_human.pt", "aggre", images, by_rank=True)
    assert found.tolist() == [5, 6, 7, 8, 9]
    in_another_order = torch.tensor([2, 1, 0, 0, 1])
    found = human_labels(tmp_path / "CIFAR-10_human.pt", "aggre", in_another_order, by_rank=True)
    assert found.tolist() == [9, 7, 5, 6, 8]
    for of_another_class in ([0, 0, 1, 1, 1], [0, 0, 0, 1, 2]):
        with pytest.raises(ValueError, match="is in another order than the images"):
            human_labels(tmp_path / "CIFAR-10_human.pt", "aggre", torch.tensor(of_another_class), by_rank=True)
