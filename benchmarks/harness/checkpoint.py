"""A run's state on disk, so that an interrupted run goes on where it was."""

from pathlib import Path
from typing import Any

import torch

from benchmarks.methods.protocol import Method


class Checkpoint:
    """One file, replaced after every epoch and removed at the end.

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
        temporary = self._path.with_suffix(".tmp")
        torch.save({"method": method.state_dict(), "progress": progress}, temporary)
        temporary.replace(self._path)

    def load(self, method: Method) -> dict[str, Any] | None:
        """Put a method back to where it was saved, and return the progress; None: there is nothing saved."""
        if self._path is None or not self._path.exists():
            return None
        state = torch.load(self._path, map_location="cpu", weights_only=True)
        method.load_state_dict(state["method"])
        progress: dict[str, Any] = state["progress"]
        return progress

    def remove(self) -> None:
        """Remove the file: the run is done."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
