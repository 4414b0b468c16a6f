"""Features of a frozen backbone, and the check that human labels go with the images."""

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benchmarks import extract_features
from mixnn_loader.datasets import InMemoryDataset


class Blocks(nn.Module):
    """Averages 32 x 32 images over quarters: maps (B, 3, 2, 2)."""

    def extract_features(self, images: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(images, 2)


def test_representations_are_averages_over_positions_of_scaled_images() -> None:
    images = torch.randint(256, (7, 3, 32, 32), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    found = extract_features.represent(Blocks(), InMemoryDataset(images, torch.zeros(7, dtype=torch.int64)), 32)
    assert found.dtype == torch.float16
    torch.testing.assert_close(found.float(), (images.float().mean(dim=(2, 3)) - 127) / 128, atol=1e-3, rtol=0)


def test_labels_that_go_with_the_images_agree_more_than_shuffled_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(900) % 3
    leans = torch.randint(1, 3, (900,), generator=generator)  # to which other class an image is like
    like = nn.functional.one_hot(labels, 3) + 0.5 * nn.functional.one_hot((labels + leans) % 3, 3)
    inputs = like + 0.05 * torch.randn(900, 3, generator=generator)
    given = torch.where(torch.arange(900) < 600, (labels + leans) % 3, labels)
    ours, by_chance = extract_features.agreement(inputs, labels, given)
    assert ours > 0.9
    assert by_chance == pytest.approx(0.5, abs=0.1)


def test_packages_that_are_missing_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(SystemExit):
        extract_features.main(["--data-dir", str(tmp_path), "--output", str(tmp_path / "features.pt")])
    assert "pip install efficientnet_lite_pytorch" in capsys.readouterr().err
