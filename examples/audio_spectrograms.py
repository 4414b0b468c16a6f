"""Audio: a small CNN on spectrograms, learned with cross-entropy and with MixNN; 40 % of the labels are wrong.

Spectrograms are floating-point tensors: they can be averaged, and nothing is needed but the two lines that always
change.

    python -m pip install -e ".[examples]"
    python examples/audio_spectrograms.py --seeds 0 1 2

The script makes the sounds, nothing is downloaded: half a second each, of six kinds, in noise. A transform of the
dataset makes spectrograms of them.
"""

import argparse
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from _compare import RECIPES, Run, Task, compare, fit, parse_arguments
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mixnn_loader import MixNNDataLoader, MixNNLoss
from mixnn_loader.noise import symmetric

SAMPLE_RATE, LENGTH, WINDOW, NUM_TEST = 4000, 2000, 64, 500
KINDS = ("tone", "rising", "falling", "vibrato", "pulses", "chord")


class Sounds(Dataset[tuple[Tensor, Tensor]]):
    """Waveforms with labels; the network gets what the transform makes of a waveform."""

    def __init__(self, waveforms: Tensor, labels: Tensor, transform: Callable[[Tensor], Tensor]) -> None:
        self.waveforms, self.labels, self.transform = waveforms, labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.transform(self.waveforms[index]), self.labels[index]


def log_spectrogram(waveform: Tensor) -> Tensor:
    """Waveform (2000,) -> how loud each frequency is at each time, (1, 33, 32), in floating point."""
    spectrum = torch.stft(waveform, WINDOW, hop_length=WINDOW, window=torch.hann_window(WINDOW), return_complex=True)
    levels = spectrum.abs().square().clamp(min=1e-3).log()
    return ((levels - levels.mean()) / levels.std()).unsqueeze(0)  # a sound is the same, however loud it is


class Classifier(nn.Module):
    """A small convolutional network."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, width, 5, stride=2, padding=2),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(2 * width, 4 * width, 3, padding=1),
            nn.BatchNorm2d(4 * width),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),  # a kind of sound does not depend on its pitch
            nn.Flatten(),
        )
        self.head = nn.Linear(4 * width, len(KINDS))

    def forward(self, spectrograms: Tensor) -> Tensor:
        """(B, 1, 33, 32) -> (B, C)."""
        logits: Tensor = self.head(self.body(spectrograms))
        return logits


def make_waveform(kind: str, generator: torch.Generator) -> Tensor:
    """Draw a sound of a kind, in noise: its pitch, how fast that changes, its phase and its loudness are random."""

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * torch.rand((), generator=generator).item()

    time = torch.arange(LENGTH) / SAMPLE_RATE
    pitch = torch.full((LENGTH,), uniform(300, 900))
    if kind in ("rising", "falling"):
        pitch = pitch + (1 if kind == "rising" else -1) * uniform(400, 1200) * (time - time[-1] / 2)
    elif kind == "vibrato":
        pitch = pitch + uniform(80, 160) * torch.sin(2 * math.pi * uniform(5, 10) * time)
    phase = 2 * math.pi * (pitch.cumsum(dim=0) / SAMPLE_RATE + uniform(0, 1))
    sound = phase.sin()
    if kind == "pulses":
        sound = sound * (0.5 + 0.5 * torch.sin(2 * math.pi * uniform(5, 10) * time))
    elif kind == "chord":
        sound = (sound + (1.26 * phase).sin() + (1.5 * phase).sin()) / 2
    return uniform(0.5, 1) * sound + 0.7 * torch.randn(LENGTH, generator=generator)


def make_sounds(seed: int, args: argparse.Namespace) -> Task:
    """Draw sounds and their labels."""
    generator = torch.Generator().manual_seed(seed)
    true_labels = torch.randint(len(KINDS), (args.samples + NUM_TEST,), generator=generator)
    waveforms = torch.stack([make_waveform(KINDS[label], generator) for label in true_labels.tolist()])

    known, unseen = slice(args.samples), slice(args.samples, None)
    given = symmetric(true_labels[known], 0.4, num_classes=len(KINDS), seed=seed).labels
    return Task(
        Sounds(waveforms[known], given, transform=log_spectrogram),
        Sounds(waveforms[unseen], true_labels[unseen], transform=log_spectrogram),
        given,
        true_labels[known],
    )


def train(method: str, task: Task, seed: int, args: argparse.Namespace) -> Run:
    """Train one network; both methods have the same initial weights and the same order."""
    torch.manual_seed(seed)
    model = Classifier().to(args.device)
    order = torch.Generator().manual_seed(seed)

    loader: Any = DataLoader(task.train, batch_size=64, shuffle=True, generator=order)
    criterion: nn.Module = nn.CrossEntropyLoss()
    if method == "MixNN":  # the two lines that change
        loader = MixNNDataLoader(loader, model, **RECIPES[args.recipe](epochs=args.epochs))
        criterion = MixNNLoss()
    return fit(model, loader, criterion, task, args)


def main(argv: Sequence[str] | None = None) -> None:
    """Train with both methods, and print the table."""
    compare(make_sounds, train, parse_arguments(argv, __doc__, epochs=22, samples=1200, lr=2e-3))


if __name__ == "__main__":
    main()
