"""Datasets of image files, on small trees made for each test."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from image_files import red_of, reds_and_labels, save_image
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import VisionDataset
from torchvision.transforms.functional import pil_to_tensor

from mixnn_loader.datasets import ImageList, ilsvrc_val, image_folder, in_memory_folder, webvision_mini


@pytest.fixture
def webvision(tmp_path: Path) -> Path:
    """Two training images of the first 50 classes and one beyond, two validation images and one beyond."""
    save_image(tmp_path / "google/q0001/a b.png", red=1)
    save_image(tmp_path / "google/q0050/c.png", red=2)
    save_image(tmp_path / "google/q0051/d.png", red=3)
    save_image(tmp_path / "val_images_256/val000001.png", red=4)
    save_image(tmp_path / "val_images_256/val000002.png", red=5)
    (tmp_path / "info").mkdir()
    (tmp_path / "info/train_filelist_google.txt").write_text(
        "google/q0001/a b.png 0\ngoogle/q0050/c.png 49\ngoogle/q0051/d.png 50\n\n"
    )
    (tmp_path / "info/val_filelist.txt").write_text("val000002.png 7\nval000003.png 999\nval000001.png 3\n")
    (tmp_path / "info/synsets.txt").write_text(
        "n01440764 tench, Tinca tinca\nn01443537 goldfish, Carassius auratus\nn01484850 great white shark\n"
    )
    return tmp_path


# --------------------------------------------------------------------------------------- ImageList


def test_image_list_pairs_images_with_labels(tmp_path: Path) -> None:
    paths = [save_image(tmp_path / f"{red}.png", red) for red in (10, 20, 30)]
    dataset = ImageList(paths, [2, 0, 1])
    assert reds_and_labels(dataset) == [(10, 2), (20, 0), (30, 1)]
    assert dataset.targets == [2, 0, 1]


def test_image_list_is_one_of_torchvision_and_says_so(tmp_path: Path) -> None:
    dataset = ImageList([save_image(tmp_path / "a.png", 1)], [0], transform=red_of)
    assert isinstance(dataset, VisionDataset)
    assert "Number of datapoints: 1" in repr(dataset)
    assert "red_of" in repr(dataset)


def test_image_list_takes_tensor_labels_as_plain_integers() -> None:
    labels: Any = torch.tensor([3])
    dataset = ImageList(["a.png"], labels)
    assert dataset.targets == [3]
    assert type(dataset.targets[0]) is int


def test_image_list_uses_the_given_loader_and_transform() -> None:
    dataset = ImageList(["ab", "abc"], [0, 1], loader=len, transform=lambda length: 10 * length)
    assert [dataset[0], dataset[1]] == [(20, 0), (30, 1)]


def test_image_list_with_another_transform_leaves_the_list_as_it_is() -> None:
    dataset = ImageList(["ab"], [3], loader=len, transform=lambda length: 10 * length)
    assert dataset.with_transform(None)[0] == (2, 3)
    assert dataset[0] == (20, 3)


def test_image_list_reads_gray_images_as_rgb(tmp_path: Path) -> None:
    Image.new("L", (4, 4), 9).save(tmp_path / "gray.png")
    image, _ = ImageList([tmp_path / "gray.png"], [0])[0]
    assert image.mode == "RGB"


def test_image_list_survives_pickling_and_batches_in_a_data_loader(tmp_path: Path) -> None:
    paths = [save_image(tmp_path / f"{red}.png", red) for red in (10, 20)]
    dataset = pickle.loads(pickle.dumps(ImageList(paths, [1, 0], transform=pil_to_tensor)))
    ((images, labels),) = DataLoader(dataset, batch_size=2)
    assert images.shape == (2, 3, 4, 4)
    assert images[:, 0, 0, 0].tolist() == [10, 20]
    assert labels.tolist() == [1, 0]


def test_image_list_with_too_few_labels() -> None:
    with pytest.raises(ValueError, match="same length, got 2 and 1"):
        ImageList(["a.png", "b.png"], [0])


def test_image_list_with_a_label_that_is_not_an_integer() -> None:
    labels: Any = [0.5]
    with pytest.raises(TypeError, match="float"):
        ImageList(["a.png"], labels)


# ---------------------------------------------------------------------------------- webvision_mini


def test_webvision_mini_train_keeps_the_first_fifty_classes_in_file_order(webvision: Path) -> None:
    assert reds_and_labels(webvision_mini(webvision, "train")) == [(1, 0), (2, 49)]


def test_webvision_mini_val_reads_the_resized_validation_images(webvision: Path) -> None:
    assert reds_and_labels(webvision_mini(str(webvision), "val")) == [(5, 7), (4, 3)]


def test_webvision_mini_num_classes(webvision: Path) -> None:
    assert webvision_mini(webvision, "train", num_classes=51).targets == [0, 49, 50]
    with pytest.raises(ValueError, match=r"val_filelist\.txt has no label below num_classes=3"):
        webvision_mini(webvision, "val", num_classes=3)


def test_webvision_mini_applies_the_transform(webvision: Path) -> None:
    assert webvision_mini(webvision, "train", red_of)[1] == (2, 49)


@pytest.mark.parametrize("line", ["google/q0002/b.png", "google/q0002/b.png one", "google/q0002/b.png -1"])
def test_webvision_mini_names_file_and_line_of_a_malformed_line(webvision: Path, line: str) -> None:
    filelist = webvision / "info/train_filelist_google.txt"
    filelist.write_text(f"google/q0001/a b.png 0\n{line}\n")
    with pytest.raises(ValueError, match=rf"train_filelist_google\.txt, line 2: .*got '{line}'"):
        webvision_mini(webvision, "train")


def test_webvision_mini_without_its_list_names_path_and_layout(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"val_filelist\.txt does not exist; expected WebVision 1\.0"):
        webvision_mini(tmp_path, "val")


def test_webvision_mini_without_its_images_names_path_and_layout(webvision: Path) -> None:
    (webvision / "google/q0001/a b.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"a b\.png does not exist; expected WebVision 1\.0"):
        webvision_mini(webvision, "train")


def test_webvision_mini_unknown_split(webvision: Path) -> None:
    split: Any = "test"
    with pytest.raises(ValueError, match=r"split must be .* got 'test'"):
        webvision_mini(webvision, split)


# -------------------------------------------------------------------------------------- ilsvrc_val


def test_ilsvrc_val_sorts_numbered_folders_as_numbers(tmp_path: Path) -> None:
    for label in range(52):
        save_image(tmp_path / str(label) / "image.png", red=label)
    assert reds_and_labels(ilsvrc_val(tmp_path)) == [(label, label) for label in range(50)]


def test_ilsvrc_val_maps_synset_folders_by_the_list(webvision: Path, tmp_path: Path) -> None:
    root = tmp_path / "ilsvrc"
    for red, name in enumerate(["n01484850/b.png", "n01443537/z.JPEG", "n01484850/a.png", "n01440764/c.png"]):
        save_image(root / name, red)
    save_image(root / "n09999999/other.png", red=99)
    (root / "n01440764/notes.txt").write_text("not an image")
    # The list decides, not the alphabet.
    synsets = webvision / "info/synsets.txt"
    synsets.write_text("\n".join(reversed(synsets.read_text().splitlines())))

    dataset = ilsvrc_val(root, red_of, synsets=synsets, num_classes=3)
    assert dataset.targets == [0, 0, 1, 2]
    assert [Path(path).name for path in dataset.paths] == ["a.png", "b.png", "z.JPEG", "c.png"]
    assert dataset[0] == (2, 0)


def test_ilsvrc_val_lists_a_class_by_file_name_whatever_the_order_on_disk(tmp_path: Path) -> None:
    names = [f"{7 * i % 30:02}.png" for i in range(30)]
    for name in names:
        save_image(tmp_path / "0" / name, red=0)
    paths = ilsvrc_val(tmp_path, num_classes=1).paths
    assert [Path(path).name for path in paths] == sorted(names)


def test_ilsvrc_val_by_synset_needs_the_list(tmp_path: Path) -> None:
    save_image(tmp_path / "n01440764/a.png", red=0)
    with pytest.raises(ValueError, match=r"pass synsets=info/synsets\.txt"):
        ilsvrc_val(tmp_path)


def test_ilsvrc_val_with_a_missing_class_names_its_folder(tmp_path: Path) -> None:
    save_image(tmp_path / "0/a.png", red=0)
    with pytest.raises(FileNotFoundError, match=r"1 does not exist; expected .*<root>/0 to <root>/49"):
        ilsvrc_val(tmp_path)


def test_ilsvrc_val_with_an_empty_class(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    with pytest.raises(FileNotFoundError, match="0 holds no image"):
        ilsvrc_val(tmp_path)


def test_ilsvrc_val_with_a_missing_root_or_list(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere does not exist; expected"):
        ilsvrc_val(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"synsets\.txt does not exist; expected"):
        ilsvrc_val(tmp_path, synsets=tmp_path / "synsets.txt")


def test_ilsvrc_val_with_a_short_or_broken_list(webvision: Path, tmp_path: Path) -> None:
    synsets = webvision / "info/synsets.txt"
    with pytest.raises(ValueError, match="at least num_classes=50 synsets, got 3"):
        ilsvrc_val(tmp_path, synsets=synsets)
    synsets.write_text("n01440764 tench\n\nn01443537 goldfish\n")
    with pytest.raises(ValueError, match=r"synsets\.txt, line 2"):
        ilsvrc_val(tmp_path, synsets=synsets, num_classes=3)


def test_ilsvrc_val_without_classes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="num_classes must be >= 1, got 0"):
        ilsvrc_val(tmp_path, num_classes=0)


# ------------------------------------------------------------------------------------ image_folder


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    save_image(tmp_path / "train/cat/1.png", red=1)
    save_image(tmp_path / "train/dog/2.png", red=2)
    save_image(tmp_path / "test/cat/3.png", red=3)
    save_image(tmp_path / "test/dog/4.png", red=4)
    return tmp_path


def test_image_folder_reads_the_split_asked_for(folders: Path) -> None:
    train, test = image_folder(folders, "train", red_of), image_folder(folders, "test", red_of)
    assert [train[0], train[1]] == [(1, 0), (2, 1)]
    assert [test[0], test[1]] == [(3, 0), (4, 1)]
    assert train.targets == [0, 1]
    assert train.classes == ["cat", "dog"]


@pytest.mark.parametrize("split", ["train", "test"])
def test_image_folder_with_classes_that_differ(folders: Path, split: Any) -> None:
    save_image(folders / "train/ape/5.png", red=5)
    save_image(folders / "test/yak/6.png", red=6)
    with pytest.raises(ValueError, match=r"only in train: \['ape'\], only in test: \['yak'\]"):
        image_folder(folders, split)


def test_image_folder_without_a_split(tmp_path: Path) -> None:
    save_image(tmp_path / "train/cat/1.png", red=1)
    with pytest.raises(FileNotFoundError, match=r"test does not exist; expected <root>/train/<class>"):
        image_folder(tmp_path, "train")


def test_image_folder_unknown_split(folders: Path) -> None:
    split: Any = "val"
    with pytest.raises(ValueError, match=r"split must be .* got 'val'"):
        image_folder(folders, split)


# -------------------------------------------------------------------------------- in_memory_folder


def test_in_memory_folder_is_one_tensor_class_after_class(folders: Path) -> None:
    save_image(folders / "train/cat/0.png", red=9)
    train = in_memory_folder(folders, "train")
    assert train.inputs.dtype == torch.uint8
    assert train.inputs.shape == (3, 3, 4, 4)
    assert train.inputs[:, 0, 0, 0].tolist() == [9, 1, 2]
    assert train.inputs[:, 1:].sum() == 0
    assert train.targets.tolist() == [0, 0, 1]
    assert in_memory_folder(folders, "test").inputs[:, 0, 0, 0].tolist() == [3, 4]


def test_in_memory_folder_transforms_whole_batches(folders: Path) -> None:
    train = in_memory_folder(folders, "train", lambda images: images.float().mean(dim=(1, 2, 3)))
    (second, label), (first, _) = train.__getitems__([1, 0])
    assert [first.item(), second.item()] == pytest.approx([1 / 3, 2 / 3])
    assert label == 1


def test_in_memory_folder_with_images_of_two_sizes(folders: Path) -> None:
    save_image(folders / "train/dog/3.png", red=1, size=(5, 4))
    with pytest.raises(ValueError, match=r"one size .* got \(3, 4, 4\) for sample 0 and \(3, 4, 5\) for sample 2"):
        in_memory_folder(folders, "train")
