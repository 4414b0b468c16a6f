"""The example on audio: its table, that wrong labels are corrected, and what the network gets."""

import runpy
from typing import Any

import pytest
import torch
from comparisons import FOLDER, check_table, gain, run_command, table_of

NAME = "audio_spectrograms"
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def example() -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        return runpy.run_path(str(FOLDER / f"{NAME}.py"))


def test_prints_its_table(capsys: Capture) -> None:
    run_command(NAME, "--epochs", 2, "--samples", 128)
    check_table(table_of(capsys.readouterr().out))


def test_corrects_labels(capsys: Capture) -> None:
    run_command(NAME, "--epochs", 6, "--samples", 500, "--lr", 4e-3)
    assert gain(capsys.readouterr().out) > 10


def test_a_spectrogram_shows_the_pitch_however_loud_it_is(example: dict[str, Any]) -> None:
    time = torch.arange(example["LENGTH"]) / example["SAMPLE_RATE"]
    tone = (2 * torch.pi * 500 * time).sin()
    spectrogram = example["log_spectrogram"](tone)
    assert spectrogram.shape == (1, 33, 32)
    assert spectrogram.is_floating_point()
    assert spectrogram[0].mean(dim=1).argmax() == 500 * example["WINDOW"] / example["SAMPLE_RATE"]
    torch.testing.assert_close(example["log_spectrogram"](100 * tone).mean(), torch.tensor(0.0), rtol=0, atol=1e-5)


def test_kinds_of_sounds_go_where_their_names_say(example: dict[str, Any]) -> None:
    def pitches(kind: str) -> torch.Tensor:
        """Of each quarter of a sound, the frequency that is loudest."""
        waveform = example["make_waveform"](kind, torch.Generator().manual_seed(0))
        return (
            torch.stft(waveform, 500, hop_length=500, window=torch.hann_window(500), center=False, return_complex=True)
            .abs()
            .argmax(dim=0)
        )

    assert pitches("rising").diff().sum() > 10
    assert pitches("falling").diff().sum() < -10
    assert pitches("tone").diff().abs().max() <= 1
