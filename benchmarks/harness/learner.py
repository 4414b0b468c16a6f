"""A network and what trains it."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from benchmarks.harness.networks import Network


class Learner(nn.Module):
    """A network with its optimizer and schedule; its state holds all three.

    Args:
        network: what is trained.
        optimizer: of the network's parameters.
        scheduler: of the optimizer's learning rate, a step an epoch.
        bfloat16: run the network under bfloat16 autocast.

    Attributes:
        network: as above.
        optimizer: as above.
        scheduler: as above.
    """

    def __init__(self, network: Network, optimizer: Optimizer, scheduler: LRScheduler, *, bfloat16: bool) -> None:
        super().__init__()
        self.network = network
        self.optimizer = optimizer
        self.scheduler = scheduler
        self._bfloat16 = bfloat16

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits (B, C), float32."""
        return self.logits_and_representations(inputs)[0]

    def logits_and_representations(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (B, C) and representations (B, d), both float32."""
        with torch.autocast(inputs.device.type, dtype=torch.bfloat16, enabled=self._bfloat16):
            representations = self.network.represent(inputs)
            logits = self.network.head(representations)
        return logits.float(), representations.float()

    def stage_outputs(self, inputs: Tensor) -> list[Tensor]:
        """Return what each stage of the network gives, float32; the last one the representations."""
        with torch.autocast(inputs.device.type, dtype=torch.bfloat16, enabled=self._bfloat16):
            outputs = self.network.stage_outputs(inputs)
        return [output.float() for output in outputs]

    def step(self, loss: Tensor) -> None:
        """Take a step down the gradient of a loss."""
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer.step()

    def set_lr(self, lr: float) -> None:
        """Train at a learning rate other than the schedule's, until the schedule's next step."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def get_extra_state(self) -> dict[str, Any]:
        """Return the state of optimizer and schedule."""
        return {"optimizer": self.optimizer.state_dict(), "scheduler": self.scheduler.state_dict()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take over what `get_extra_state` returned."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
