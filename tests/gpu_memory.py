"""What is allocated on the GPU while a model trains: asked in a process of its own, where nothing else has been."""

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from toy import NUM_CLASSES

from mixnn_loader import MixNNDataLoader, MixNNLoss

WIDTH, ROWS = 2**18, 8
BATCH_BYTES = WIDTH * ROWS * 4
WEIGHT_BYTES = WIDTH * NUM_CLASSES * 4


def memory_during_steps(mode: dict[str, Any], num_workers: int) -> list[int]:
    """Train for three epochs of four batches; return the bytes after steps, when the loop has let go of its batch.

    The first step of an epoch is left out: the loader may have copied its inputs, to compare what the model gets.
    """
    labels = torch.arange(4 * ROWS) % NUM_CLASSES
    plain = DataLoader(TensorDataset(torch.randn(len(labels), WIDTH), labels), ROWS, num_workers=num_workers)
    model = torch.nn.Linear(WIDTH, NUM_CLASSES).cuda()
    loader = MixNNDataLoader(plain, model, warmup_epochs=1, num_neighbors=1, feature_layer=features, **mode)
    held = []
    for _ in range(3):
        for inputs, targets in loader:  # not enumerate: it would keep the batch
            loss = MixNNLoss()(model(inputs), targets)
            loss.backward()
            model.zero_grad(set_to_none=True)
            del loss, inputs, targets
            if loader.batch > 1:
                held.append(torch.cuda.memory_allocated())
    return held


def features(model: torch.nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Give representations that take no memory to speak of."""
    logits: Tensor = model(inputs)
    return logits, inputs[:, :4]
