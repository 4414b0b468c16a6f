"""Every dataset of the benchmarks, on small copies of its files, and a run on each kind."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_files import save_image
from official_files import write_cifar, write_mnist
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import CIFAR10, CIFAR100

from benchmarks.harness.data import DATASETS, Data, load
from benchmarks.harness.recipes import RECIPES, Recipe
from benchmarks.harness.settings import RunSettings
from benchmarks.harness.training import given_labels, train_and_measure

Write = Callable[..., None]
"""``(root, monkeypatch) -> None``."""

PLAIN = Recipe("mlp", epochs=1, warmup_epochs=1, correction_epoch=1)


def no_files(_: Path, __: pytest.MonkeyPatch) -> None:
    """What comes with a package."""


def mnist_files(name: str) -> Write:
    def write(root: Path, _: pytest.MonkeyPatch) -> None:
        images = np.random.default_rng(0).integers(256, size=(12, 28, 28), dtype=np.uint8)
        write_mnist(root / name / "raw", images, [2, 0, 1] * 4, "train")
        write_mnist(root / name / "raw", images[:3], [0, 1, 2], "t10k")

    return write


def cifar_files(kind: type[CIFAR10], number: int) -> Write:
    def write(root: Path, patch: pytest.MonkeyPatch) -> None:
        labels = [2, 0, 1] * 4
        write_cifar(patch, kind, root, labels, [0, 1, 2])
        sets = {"worse_label": [1] * 12, "aggre_label": [0] * 12, "noisy_label": [2] * 12}
        parts = {"clean_label": labels, **sets}
        torch.save({name: np.array(part) for name, part in parts.items()}, root / f"CIFAR-{number}_human.pt")

    return write


def cifar_folder(root: Path, _: pytest.MonkeyPatch) -> None:
    for label in range(10):
        for split, count in (("train", 2), ("test", 1)):
            for number in range(count):
                save_image(root / split / str(label) / f"{number}.png", red=10 * label + number, size=(32, 32))


def clothing1m_files(root: Path, _: pytest.MonkeyPatch) -> None:
    keys = [f"images/{number % 10}/{number}.jpg" for number in range(14)]
    for number, key in enumerate(keys):
        save_image(root / key, red=number, size=(300, 260))
    lines = [f"{key} {number % 3}" for number, key in enumerate(keys)]
    (root / "noisy_label_kv.txt").write_text("\n".join(lines[:12]))
    (root / "clean_label_kv.txt").write_text("\n".join(lines[12:]))
    (root / "noisy_train_key_list.txt").write_text("\n".join(keys[:12]))
    (root / "clean_test_key_list.txt").write_text("\n".join(keys[12:]))


def webvision_files(root: Path, _: pytest.MonkeyPatch) -> None:
    (root / "info").mkdir(parents=True)
    train = [f"google/q{number:04}/a.jpg {number // 4}" for number in range(12)]
    (root / "info/train_filelist_google.txt").write_text("\n".join(train))
    (root / "info/val_filelist.txt").write_text("val1.jpg 0\nval2.jpg 1\n")
    (root / "info/synsets.txt").write_text("\n".join(f"n{label:08} name" for label in range(50)))
    for number, line in enumerate(train):
        save_image(root / line.split()[0], red=number, size=(256, 320))
    for name in ("val1", "val2"):
        save_image(root / "val_images_256" / f"{name}.jpg", red=0, size=(256, 256))
    for label in range(50):  # the paper's classes have to be there
        save_image(root / "ilsvrc12" / f"n{label:08}" / "v.JPEG", red=label, size=(8, 8))


def animal10n_files(root: Path, _: pytest.MonkeyPatch) -> None:
    for number in range(12):
        save_image(root / "training" / f"{number % 3}_{number:04}.jpg", red=number, size=(64, 64))
    for label in range(3):
        save_image(root / "testing" / f"{label}_0000.jpg", red=label, size=(64, 64))


def food_files(root: Path, _: pytest.MonkeyPatch) -> None:
    release, header = root / "Food-101N_release", "class_name/key"
    keys = [f"{'abc'[number // 5]}/{number}.jpg" for number in range(13)]
    for number, key in enumerate(keys):
        save_image(release / "images" / key, red=number, size=(320, 320))
    (release / "meta").mkdir()
    (release / "meta/classes.txt").write_text("class_name\na\nb\nc\n")
    (release / "meta/imagelist.tsv").write_text("\n".join([header, *keys]))
    (release / "meta/verified_train.tsv").write_text(f"{header}\tverification_label\n{keys[0]}\t0\n")
    (release / "meta/verified_val.tsv").write_text(f"{header}\tverification_label\n{keys[1]}\t1\n{keys[2]}\t0\n")
    tests = {name: [f"{name}/1"] for name in "abc"}
    for key in "abc":
        save_image(root / "food-101/images" / key / "1.jpg", red=0, size=(300, 300))
    (root / "food-101/meta").mkdir()
    (root / "food-101/meta/test.json").write_text(json.dumps(tests))


def feature_file(root: Path, _: pytest.MonkeyPatch) -> None:
    root.rmdir()
    labels = torch.arange(12) % 3
    parts = {"train": torch.randn(12, 5), "labels": labels, "test": torch.randn(3, 5), "test_labels": labels[:3]}
    torch.save(parts | {"given": labels.flip(0)}, root)


CASES: dict[str, tuple[Write, int, tuple[int, ...]]] = {
    "digits": (no_files, 1347, (1, 8, 8)),
    "mnist": (mnist_files("MNIST"), 12, (1, 28, 28)),
    "fashion-mnist": (mnist_files("FashionMNIST"), 12, (1, 28, 28)),
    "cifar10": (cifar_files(CIFAR10, 10), 12, (3, 32, 32)),
    "cifar100": (cifar_files(CIFAR100, 100), 12, (3, 32, 32)),
    "cifar10n": (cifar_files(CIFAR10, 10), 12, (3, 32, 32)),
    "cifar100n": (cifar_files(CIFAR100, 100), 12, (3, 32, 32)),
    "clothing1m": (clothing1m_files, 12, (3, 224, 224)),
    "webvision-mini": (webvision_files, 12, (3, 227, 227)),
    "animal10n": (animal10n_files, 12, (3, 64, 64)),
    "food101n": (food_files, 12, (3, 224, 224)),
    "features": (feature_file, 12, (5,)),
}
"""Dataset -> what writes its files, N, and the shape of an input."""

ARE_NOISY = {"clothing1m", "webvision-mini", "animal10n", "food101n"}
"""As they are: nobody knows which labels are wrong."""


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Data]:
    """``(name, **changes of the recipe) -> dataset`` on files that are written for it."""

    def make(name: str, write: Write | None = None, **changes: Any) -> Data:
        root = tmp_path / "data"
        root.mkdir()
        (write or CASES[name][0])(root, monkeypatch)
        return load(name, root, PLAIN.with_changes(changes))

    return make


def test_every_dataset_has_a_case_and_a_recipe() -> None:
    assert set(CASES) == set(DATASETS)
    assert {name.removeprefix("paper-") for name in RECIPES} == set(DATASETS)


@pytest.mark.parametrize("name", CASES)
def test_parts_go_together(name: str, loaded: Callable[..., Data]) -> None:
    data = loaded(name)
    _, count, shape = CASES[name]
    labels = torch.cat([part for _, part in DataLoader(data.train, 500)])
    scanned = torch.cat([part for _, part in DataLoader(data.scan, 500)])
    assert data.shape == shape
    assert data.labels.dtype == torch.int64
    assert len(data.labels) == count
    assert torch.equal(labels, data.labels)
    assert torch.equal(scanned, data.labels)
    for images in (data.train, data.scan, data.test, *data.more_tests.values()):
        inputs, label = images[0]
        assert inputs.shape == shape
        assert inputs.dtype == torch.float32
        assert 0 <= label < data.num_classes
    assert data.are_true == (name not in ARE_NOISY)
    if name in ARE_NOISY:
        assert data.given is not None
        assert torch.equal(data.given, data.labels)


@pytest.mark.parametrize("name", CASES)
def test_the_number_of_training_samples(name: str, loaded: Callable[..., Data]) -> None:
    data = loaded(name, num_train=7)
    assert len(data.train) == len(data.scan) == len(data.labels) == 7  # type: ignore[arg-type]  # torch does not say that a dataset has a length
    assert [data.scan[row][1] for row in range(7)] == data.labels.tolist()
    assert len(set(data.labels.tolist())) > 1, "and not those of one class"
    assert data.given is None or len(data.given) == 7


def test_an_image_folder_is_taken_for_cifar10(loaded: Callable[..., Data]) -> None:
    data = loaded("cifar10", cifar_folder)
    assert data.labels.tolist() == [label for label in range(10) for _ in range(2)]


def test_few_images_of_a_folder_are_always_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cifar_folder(tmp_path, monkeypatch)
    first, second = (load("cifar10", tmp_path, PLAIN.with_changes({"num_train": 8})) for _ in range(2))
    assert torch.equal(first.labels, second.labels)
    assert len(set(first.labels.tolist())) > 4
    reds = [made.scan.inputs[:, 0, 0, 0].tolist() for made in (first, second)]  # type: ignore[attr-defined]  # in memory here
    assert reds[0] == reds[1]


def test_the_label_set_is_an_option(loaded: Callable[..., Data]) -> None:
    data = loaded("cifar10n", label_set="aggre")
    assert data.given is not None
    assert data.given.tolist() == [0] * 12
    assert data.labels.tolist() == [2, 0, 1] * 4
    settings = RunSettings("ce", "cifar10n", noise="given")
    assert torch.equal(given_labels(settings, data), data.given)


def test_noise_is_not_added_to_what_is_noisy_as_it_is(loaded: Callable[..., Data]) -> None:
    data = loaded("animal10n")
    assert torch.equal(given_labels(RunSettings("ce", "animal10n", noise="given"), data), data.labels)
    with pytest.raises(ValueError, match="noisy as they are; pass --noise given"):
        given_labels(RunSettings("ce", "animal10n", noise="symmetric"), data)


def test_second_test_sets(loaded: Callable[..., Data]) -> None:
    webvision = loaded("webvision-mini")
    assert list(webvision.more_tests) == ["ilsvrc12"]
    assert [label for _, label in (webvision.more_tests["ilsvrc12"][row] for row in range(50))] == list(range(50))


def test_food_that_tests_is_not_trained_on(loaded: Callable[..., Data]) -> None:
    data = loaded("food101n")
    assert data.labels.tolist() == [0] * 4 + [1] * 5 + [2] * 3
    verified = data.more_tests["verified"]
    assert len(verified) == 1  # type: ignore[arg-type]  # torch does not say that a dataset has a length
    assert verified[0][1] == 0


def test_photographs_are_augmented_in_training_only(tmp_path: Path, loaded: Callable[..., Data]) -> None:
    data = loaded("clothing1m")
    pixels = np.random.default_rng(0).integers(256, size=(256, 256, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "data/images/0/0.jpg")
    middle = (data.scan[0][0] * torch.tensor([0.3113, 0.3192, 0.3214]).view(3, 1, 1)).numpy()
    middle = 255 * (middle + np.reshape([0.6959, 0.6537, 0.6371], (3, 1, 1)))
    file = np.asarray(Image.open(tmp_path / "data/images/0/0.jpg")).transpose(2, 0, 1)
    np.testing.assert_allclose(middle, file[:, 16:240, 16:240], atol=0.01)
    drawn = [data.train[0][0] for _ in range(4)]
    assert not torch.equal(drawn[0], drawn[1])
    assert len({tensor.numpy().tobytes() for tensor in drawn}) == 4


def test_a_run_on_files_that_are_noisy_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clothing1m_files(tmp_path, monkeypatch)
    changes = {"network": "convnet", "batch_size": 4, "epochs": 2, "workers": 0, "balanced_batches": 2}
    line = train_and_measure(RunSettings("ce", "clothing1m", noise="given", recipe=changes), tmp_path)
    assert len(line["epochs"]) == 2
    assert line["actual_noise_rate"] is None
    assert line["cost"]["backward"] == 2 * 2 * 4
    assert line["cost"]["plain_trainings"] == pytest.approx(1)
    assert "top5" in line["figures"]["last"], "of fourteen classes"
    json.dumps(line)


def test_further_test_sets_have_figures_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def with_another(root: Path | None, recipe: Recipe) -> Data:
        data = DATASETS["digits"](root, recipe)
        few = data.test.first(100)  # type: ignore[attr-defined]  # in memory here
        return dataclasses.replace(data, more_tests={"few": few, "same": data.test})

    monkeypatch.setitem(DATASETS, "mnist", with_another)
    changes = {"network": "mlp", "num_train": 300, "epochs": 2}
    line = train_and_measure(RunSettings("ce", "mnist", rate=0.2, recipe=changes))
    figures = line["figures"]
    assert set(figures) == {"last", "mean_of_last_10", "oracle", "few", "same"}
    assert figures["same"] == {name: figures[name] for name in ("last", "mean_of_last_10", "oracle")}
    assert figures["few"]["last"] == line["epochs"][1]["more_tests"]["few"]
    assert figures["few"]["last"]["nll"] != figures["last"]["nll"]


@pytest.mark.parametrize("name", sorted(set(CASES) - {"digits"}))
def test_without_a_folder(name: str) -> None:
    with pytest.raises(ValueError, match="pass --data-dir"):
        load(name, None, PLAIN)


@pytest.mark.parametrize("name", sorted(set(CASES) - ARE_NOISY))
def test_held_out_samples_are_those_that_are_not_trained_on(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, count, _ = CASES[name]
    root = tmp_path / "data"
    root.mkdir()
    write(root, monkeypatch)
    whole, part = (
        load(name, root, PLAIN.with_changes(changes)) for changes in ({}, {"num_train": count - 5, "held_out": True})
    )
    trained, held_out, everything = (_sorted_rows(data) for data in (part.scan, part.test, whole.scan))
    assert (len(trained), len(held_out)) == (count - 5, 5)
    assert sorted(trained + held_out) == everything
    assert part.given is None or len(part.given) == count - 5


def _sorted_rows(data: Any) -> list[tuple[float, ...]]:
    """Inputs without their normalization, which is that of the samples trained on, and labels."""
    inputs, labels = data.inputs.float(), data.targets
    return sorted((*row.flatten().tolist(), int(label)) for row, label in zip(inputs, labels, strict=True))


@pytest.mark.parametrize("name", CASES)
def test_what_cannot_be_held_out(name: str, loaded: Callable[..., Data]) -> None:
    reason = "needs training samples with true labels" if name in ARE_NOISY else "needs a num_train below"
    with pytest.raises(ValueError, match=f"held_out {reason}"):
        loaded(name, held_out=True)


FEATURES: dict[str, Any] = {
    "train": torch.zeros(4, 3), "labels": torch.tensor([0, 1, 0, 1]), "test": torch.zeros(2, 3),
    "test_labels": torch.tensor([0, 1]),
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": torch.zeros(4)}, r"train must be \(N, d\), N at least 1, got \(4,\)"),
        ({"test": torch.zeros(0, 3)}, r"test must be \(N, d\), N at least 1, got \(0, 3\)"),
        ({"test": torch.zeros(2, 5)}, "same number of features, got 3 and 5"),
        ({"labels": torch.tensor([0, 1])}, "train and labels must have the same length, got 4 and 2"),
        ({"given": torch.tensor([0, 1])}, "train and given must have the same length, got 4 and 2"),
        ({"labels": torch.zeros(4)}, "labels must be class indices"),
        ({"given": torch.tensor([0, -1, 0, 1])}, "given must be class indices"),
        ({"labels": [0, 1, 0, 1]}, "it has no labels"),
    ],
)
def test_a_file_of_features_that_is_not_like_that(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    file = tmp_path / "features.pt"
    torch.save(FEATURES | changes, file)
    with pytest.raises(ValueError, match=message):
        load("features", file, PLAIN)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04cut off"])
def test_a_file_that_is_no_file_of_features(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "features.pt"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=f"{file} is not a file of torch.save with tensors alone"):
        load("features", file, PLAIN)
    with pytest.raises(ValueError, match=f"and {tmp_path} is a folder"):
        load("features", tmp_path, PLAIN)
