"""What the command can be given, and what it says of the rest."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_files import save_image
from PIL import Image
from torchvision.datasets import ImageFolder

from mixnn_loader.command.samples import ImageFiles, Rows, UsageError, demo_samples, in_memory, read_samples


def folder(root: Path, *names: str) -> Path:
    for place, name in enumerate(names):
        save_image(root / name, 10 * place)
    return root


def test_a_folder_of_images(tmp_path: Path) -> None:
    folder(tmp_path, "cat/b.png", "cat/a.JPG", "dog/a.webp", ".hidden/a.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    found = read_samples(tmp_path)
    assert isinstance(found, ImageFiles)
    assert list(found.names) == ["cat/a.JPG", "cat/b.png", "dog/a.webp"]
    assert list(found.labels) == [0, 0, 1]
    assert list(found.class_names) == ["cat", "dog"]
    assert found.unreadable == {}
    images = in_memory(found, 8)
    assert images.inputs.shape == (3, 3, 8, 8)
    assert images.targets.tolist() == [0, 0, 1]
    assert (images.inputs[1, 0] == 0).all()  # cat/b.png was the first


def test_unreadable_images_are_left_out_and_listed(tmp_path: Path) -> None:
    folder(tmp_path, "cat/a.png", "cat/c.jpg", "dog/a.png")
    (tmp_path / "cat" / "b.png").write_bytes(b"no image")
    (tmp_path / "cat" / "d.jpg").write_bytes((tmp_path / "cat" / "c.jpg").read_bytes()[:-200])
    (tmp_path / "dog" / "e.png").touch()
    found = read_samples(tmp_path)
    assert isinstance(found, ImageFiles)
    assert list(found.names) == [
        Path(name).relative_to(tmp_path).as_posix() for name, _ in ImageFolder(tmp_path).samples
    ]
    assert [found.names[row] for row in found.readable] == ["cat/a.png", "cat/c.jpg", "dog/a.png"]
    assert list(found.unreadable) == [1, 3, 5]
    assert all(found.unreadable.values())


def test_a_table_whose_quote_is_not_closed(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text('path,label\n1.png,"a\n' + "2.png,b\n" * 20_000, encoding="utf-8")
    with pytest.raises(UsageError, match=r"after line 1: field larger .* quote not closed"):
        read_samples(table)


def test_a_table_of_paths(tmp_path: Path) -> None:
    folder(tmp_path / "images", "1.png", "2.png", "3.png")
    table = tmp_path / "labels.csv"
    table.write_text(
        '\ufeffpath,label,more\nimages/1.png,"b, c",x\nimages/2.png,a,y\nimages/4.png,a,z\n,,\n', encoding="utf-8"
    )
    found = read_samples(table)
    assert isinstance(found, ImageFiles)
    assert list(found.names) == ["images/1.png", "images/2.png", "images/4.png"]
    assert (list(found.labels), list(found.class_names)) == ([1, 0, 0], ["a", "b, c"])
    assert list(found.unreadable) == [2]


@pytest.mark.parametrize(
    ("labels", "class_names", "expected"),
    [
        ("2 11 0", [str(number) for number in range(12)], [2, 11, 0]),
        ("1000000 2 30", ["2", "30", "1000000"], [2, 0, 1]),
        ("02 1 2", ["02", "1", "2"], [0, 1, 2]),
        ("b a b", ["a", "b"], [1, 0, 1]),
    ],
)
def test_numbers_as_labels_keep_their_meaning(
    tmp_path: Path, labels: str, class_names: list[str], expected: list[int]
) -> None:
    folder(tmp_path, "x.png")
    (tmp_path / "labels.csv").write_text("path,label\n" + "".join(f"x.png,{label}\n" for label in labels.split()))
    found = read_samples(tmp_path / "labels.csv")
    assert list(found.class_names) == class_names
    assert list(found.labels) == expected


def test_images_below_the_folder_of_a_class_and_of_other_modes(tmp_path: Path) -> None:
    folder(tmp_path, "a/1.png", "a/below/2.png", "b/1.png")
    Image.fromarray(np.linspace(0, 65535, 16).reshape(4, 4).astype(np.uint16)).save(tmp_path / "b" / "deep.png")
    found = read_samples(tmp_path)
    assert isinstance(found, ImageFiles)
    assert list(found.names) == ["a/1.png", "a/below/2.png", "b/1.png", "b/deep.png"]
    pixels = in_memory(found, 4).inputs[3]
    assert (int(pixels.min()), int(pixels.max())) == (0, 255)
    assert len(set(pixels.flatten().tolist())) > 10


def test_columns_that_say_nothing_and_rows_that_are_not_finite(tmp_path: Path) -> None:
    features = np.random.default_rng(0).normal(size=(20, 3))
    features[:, 1] = 0.1
    np.savez(
        tmp_path / "features.npz", features=features.astype(np.float32), labels=(np.arange(20) % 2).astype(np.uint16)
    )
    found = read_samples(tmp_path / "features.npz")
    assert isinstance(found, Rows)
    assert (found.inputs[:, 1] == 0).all()
    assert found.inputs.abs().max() < 5
    features[7, 2] = np.nan
    np.savez(tmp_path / "features.npz", features=features, labels=np.arange(20) % 2)
    assert "must be finite, row 7 is not" in refused(tmp_path / "features.npz")


@pytest.mark.parametrize("ending", ["npz", "pt"])
def test_features(tmp_path: Path, ending: str) -> None:
    features, labels = np.random.default_rng(0).normal(3, [0.01, 100, 1], (20, 3)), np.arange(20) % 2
    file = tmp_path / f"features.{ending}"
    if ending == "npz":
        np.savez(file, features=features, labels=labels, class_names=["no", "yes"])
    else:
        torch.save(
            {"features": torch.tensor(features), "labels": torch.tensor(labels), "class_names": ["no", "yes"]}, file
        )
    found = read_samples(file)
    assert isinstance(found, Rows)
    assert found.labels.tolist() == labels.tolist()
    assert list(found.class_names) == ["no", "yes"]
    torch.testing.assert_close(found.inputs.mean(dim=0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(found.inputs.std(dim=0, unbiased=False), torch.ones(3), atol=1e-4, rtol=0)


def test_features_in_the_types_of_networks(tmp_path: Path) -> None:
    features = torch.arange(40.0).reshape(20, 2)
    for kept in (features.bfloat16(), features.half(), features.clone().requires_grad_()):
        torch.save({"features": kept, "labels": torch.arange(20) % 2}, tmp_path / "features.pt")
        found = read_samples(tmp_path / "features.pt")
        assert isinstance(found, Rows)
        torch.testing.assert_close(found.inputs, (features - features.mean(0)) / features.std(0, unbiased=False))


def refused(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        read_samples(path)
    return str(caught.value)


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    assert refused(tmp_path / "none") == f"{tmp_path / 'none'} does not exist"
    (tmp_path / "empty").mkdir()
    assert "must have a folder of images for each class; no file in it ends in .bmp, .jpeg" in refused(
        tmp_path / "empty"
    )
    loose = folder(tmp_path / "loose", "a.png", "b.png")
    assert "its 2 images are in no class's folder; for labels from elsewhere pass a .csv file" in refused(loose)
    deep = folder(tmp_path / "deep", "train/cat/a.png", "test/dog/a.png")
    assert "images further down, such as test/dog/a.png; pass the folder above the classes'" in refused(deep)
    one = folder(tmp_path / "one", "cat/a.png", "cat/b.png")
    assert "has samples of one class alone: there must be two or more" in refused(one)
    broken = tmp_path / "broken"
    for name in ("cat", "dog"):
        (broken / name).mkdir(parents=True)
        (broken / name / "a.png").touch()
    assert "none of the 2 images can be read; the first:" in refused(broken)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\n", r"must have the columns path and label, its first line has ['file', 'label']"),
        ("", "must have the columns path and label, its first line has []"),
        ("path,label\n", "has no rows below its first line"),
        ("path,label\na.png,cat\nb.png\n", "labels.csv, line 3: there must be a path and a label"),
        ("path,label\na.png,\n", "labels.csv, line 2: there must be a path and a label"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "labels.csv").write_text(text)
    assert message in refused(tmp_path / "labels.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"x": np.zeros((3, 2))}, "must hold features (N, d) and labels (N,) under these names, got ['x']"),
        (
            {"features": np.zeros((3, 2)), "labels": np.zeros(3)},
            "integers, got float64 (3, 2) and float64 (3,)",
        ),
        ({"features": np.zeros((3, 2)), "labels": np.zeros(4, int)}, "and int64 (4,)"),
        ({"features": np.zeros((3, 2, 1)), "labels": np.zeros(3, int)}, "got float64 (3, 2, 1)"),
        ({"features": np.zeros((0, 2)), "labels": np.zeros(0, int)}, "got float64 (0, 2)"),
        (
            {"features": np.zeros((3, 2)), "labels": np.array([0, -1, 1])},
            "labels of {} must be class indices 0..C-1, got -1 to 1",
        ),
        (
            {"features": np.zeros((3, 2)), "labels": np.arange(3), "class_names": ["a"]},
            "has 1 class_names, and a label 2",
        ),
        ({"features": np.zeros((3, 2)), "labels": np.ones(3, int)}, "has samples of one class alone"),
        (
            {"features": np.zeros((3, 2)), "labels": np.array(["a", "b", "c"])},
            "integers, got float64 (3, 2) and <U1 (3,)",
        ),
        ({"features": np.zeros((3, 2)), "labels": np.array([0, 1, 10**6])}, "got 0 to 1000000; encode them by"),
    ],
)
def test_features_that_cannot_be_used(tmp_path: Path, content: dict[str, Any], message: str) -> None:
    file = tmp_path / "features.npz"
    np.savez(file, **content)
    assert message.format(file) in refused(file)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for name in ("features.npz", "features.pt"):
        (tmp_path / name).write_bytes(b"nothing of that kind")
        assert f"{tmp_path / name} cannot be read" in refused(tmp_path / name)
    (tmp_path / "labels.txt").touch()
    assert "must be a folder with a folder of images a class, a .csv file" in refused(tmp_path / "labels.txt")


def test_the_demonstration_knows_what_is_wrong() -> None:
    samples = demo_samples()
    assert samples.true_labels is not None
    assert samples.inputs.shape == (1797, 1, 8, 8)
    assert (samples.labels != samples.true_labels).double().mean().item() == pytest.approx(0.1, abs=0.02)
