"""placeholder until the data branch is merged."""

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    return tensor.to(device, dtype) if dtype is not None else tensor.to(device)
