"""A run's state on disk, so that an interrupted run goes on where it was."""

import os
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness.protocol import Method


class Checkpoint:
    """One file, replaced after every epoch; who has put the run's result away removes it.

    No generator's state is in it: every epoch starts from random streams of its own, see
    `benchmarks.harness.training.seed_everything` and `Task.begin_epoch`.

    Args:
        path: of the file; None: nothing is kept.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def save(self, method: Method, progress: dict[str, Any]) -> None:
        """Write the state after an epoch.

        Args:
            method: what is trained.
            progress: what the harness has measured so far, primitives.
        """
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # Where two processes make the same run, neither takes away what the other is writing.
        temporary = self._path.with_suffix(f".{os.getpid()}.tmp")
        torch.save({"method": method.state_dict(), "progress": progress}, temporary)
        temporary.replace(self._path)

    def load(self, method: Method) -> dict[str, Any] | None:
        """Put a method back to where it was saved, and return the progress; None: there is nothing saved.

        Raises:
            ValueError: the file is broken, or of another version of the method.
        """
        if self._path is None or not self._path.exists():
            return None
        try:
            state = torch.load(self._path, map_location="cpu", weights_only=True)
            method.load_state_dict(state["method"])
            progress: dict[str, Any] = state["progress"]
        except Exception as error:
            raise ValueError(
                f"cannot go on from {self._path}, which is broken or of another version of the method; remove it, and "
                "the run starts anew"
            ) from error
        return progress
