"""MixNN with timm's loader and model, on pictures of digits of which 40 % have a wrong label.

`create_loader(..., use_prefetcher=False)` returns a DataLoader with timm's augmentation, which is wrapped as any other.
With the prefetcher it would be an object of timm's own, without what a wrapper has to know; MixNN's loader fetches
ahead itself where there are workers and a GPU. timm's Mixup stays out: the loader mixes.

    python -m pip install -e ".[examples]" timm
    python examples/timm_loader.py
"""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from _digits import noisy_digits, parser_of, show_result
from PIL import Image
from timm import create_model
from timm.data.loader import create_loader
from torch.utils.data import Dataset, TensorDataset

from mixnn_loader import MixNNDataLoader, MixNNLoss, recipes

SIZE = 16


class Pictures(Dataset[Any]):
    """Digits as pictures; timm's loader sets the transform."""

    def __init__(self, digits: TensorDataset) -> None:
        images, labels = digits.tensors
        self.images = (images.reshape(-1, 8, 8) * 255).to(torch.uint8).numpy()
        self.labels: list[int] = labels.tolist()
        self.transform: Any = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        picture = Image.fromarray(self.images[index]).convert("RGB").resize((SIZE, SIZE))
        return self.transform(picture), self.labels[index]


def main(argv: Sequence[str] | None = None) -> None:
    """Train, and print the test accuracy and the share of training labels that are right."""
    args = parser_of(__doc__).parse_args(argv)
    for seeded in (random.seed, np.random.seed, torch.manual_seed):  # timm's augmentation draws from all of them
        seeded(args.seed)
    digits = noisy_digits(args.seed)
    train_set: Any = Pictures(digits.train)  # timm takes any dataset of pictures, whatever its annotations say
    test_set: Any = Pictures(digits.test)
    common: dict[str, Any] = {"input_size": (3, 32, 32), "use_prefetcher": False, "persistent_workers": False}
    train = create_loader(train_set, batch_size=64, is_training=True, hflip=0, scale=(0.7, 1), num_workers=0, **common)
    test = create_loader(test_set, batch_size=len(test_set), num_workers=0, **common)

    model = create_model("test_resnet", num_classes=10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    loader = MixNNDataLoader(train, model, **recipes.robust(epochs=args.epochs), seed=args.seed)
    criterion = MixNNLoss()
    for _ in range(args.epochs):
        model.train()
        for inputs, targets in loader:
            loss = criterion(model(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    [(images, _)] = test
    show_result(model, loader, digits, images)


if __name__ == "__main__":
    main()
