"""What only a GPU shows: nothing waits for it in a batch, no copy is read too early, and no memory is held."""

import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

import numpy as np
import pytest
import torch
from gpu_memory import BATCH_BYTES, WEIGHT_BYTES, memory_during_steps
from torch import Tensor
from torch.utils.data import DataLoader
from toy import Points, mlp, tensors_of

from mixnn_loader import MixNNBatch, MixNNDataLoader, MixNNLoss, recipes
from mixnn_loader.neighbors import NeighborSource, Pairs
from mixnn_loader.neighbors.source import Sees

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


class NextRow(NeighborSource):
    """Pairs each row with those after it, and answers on a device of its own."""

    def __init__(self, sees: Sees, answers_on: str) -> None:
        self.sees: Sees = sees
        self._answers_on = answers_on

    def __repr__(self) -> str:
        return f"NextRow({self.sees!r}, {self._answers_on!r})"

    def pair(self, indices: Tensor, representations: Tensor | None, k: int, rng: np.random.Generator) -> Pairs:
        del rng
        assert indices.device.type == ("cuda" if self.sees == "batch" else "cpu")
        assert (representations is not None) == (self.sees == "batch")
        rows = torch.arange(len(indices), device=self._answers_on).unsqueeze(1)
        positions = (rows + torch.arange(1, k + 1, device=self._answers_on)) % len(indices)
        return Pairs(positions, torch.ones_like(positions, dtype=torch.bool))


SETTINGS: dict[str, Any] = {"warmup_epochs": 1, "correction_epoch": 2, "num_neighbors": 2, "momentum": 0.7}
MODES = pytest.mark.parametrize(
    "mode",
    [
        {},
        {"scan": "running"},
        {"neighbors": "batch"},
        {"neighbors": "batch", "scan": "running"},
        {"neighbors": "random", "weighting": "beta"},
        {"neighbors": "random-batch", "weighting": "uniform"},
        {"weighting": "beta", "correct_neighbors": False},
        {"num_neighbors": 0},
        {"neighbors": NextRow("nothing", "cpu"), "scan": "running"},
        {"neighbors": NextRow("nothing", "cuda")},
        {"neighbors": NextRow("batch", "cpu")},
        recipes.robust(epochs=4),
        recipes.fast(epochs=12),
    ],
    ids=str,
)


def keep_busy() -> None:
    """Queue some ten milliseconds of work: whatever is queued after it is not there for a while."""
    rows = torch.ones(4096, 4096, device="cuda") / 4096
    for _ in range(10):
        rows = rows @ rows


class Training:
    """A user's loop on the GPU, over the same samples as on the CPU."""

    def __init__(self, device: str, mode: dict[str, Any]) -> None:
        self.model = mlp().to(device)
        self.model.body[3] = torch.nn.Identity()  # dropout draws otherwise on a GPU
        plain = DataLoader(Points(), 8)
        self.loader = MixNNDataLoader(plain, self.model, **(SETTINGS | mode))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.criterion = MixNNLoss()

    def step(self, batch: MixNNBatch) -> None:
        loss = self.criterion(self.model(batch.inputs), batch.targets)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


@contextmanager
def no_waiting() -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Synchronization debug mode is a prototype")
            torch.cuda.set_sync_debug_mode("error")
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@MODES
def test_a_gpu_as_default_device(mode: dict[str, Any]) -> None:
    training = Training("cuda", mode)
    with torch.device("cuda"):
        for epoch in range(4):
            for batch in training.loader:
                training.step(batch)
            assert training.loader.epoch == epoch + 1


@MODES
def test_no_batch_waits_for_the_device(mode: dict[str, Any]) -> None:
    training = Training("cuda", mode)
    for epoch in range(4):
        batches = iter(training.loader)
        # The first two: epochs start with a scan, and the first step of all is watched.
        for _ in range(2):
            training.step(next(batches))
        for _ in range(2):
            with no_waiting():
                training.step(next(batches))
        for batch in batches:
            training.step(batch)
        assert training.loader.epoch == epoch + 1


@MODES
@pytest.mark.parametrize("state_device", [None, "cpu"])
def test_no_copy_is_read_before_it_has_ended(mode: dict[str, Any], state_device: str | None) -> None:
    if state_device == "cpu":
        mode = {**mode, "state_device": "cpu"}

    def run(device: str, *, is_busy: bool) -> list[Tensor]:
        training = Training(device, mode)
        seen: list[Tensor] = []
        for _ in range(4):
            for batch in training.loader:
                training.step(batch)
                if is_busy:
                    keep_busy()
                seen += [rows.cpu() for rows in tensors_of(batch.targets).values()]
            seen += [training.loader.losses.cpu(), training.loader.soft_targets.cpu()]
        return seen

    for slow, usual in zip(run("cuda", is_busy=True), run("cuda", is_busy=False), strict=True):
        torch.testing.assert_close(slow, usual, rtol=0, atol=0, equal_nan=True)


def test_losses_that_travel_to_the_host_are_right() -> None:
    training = Training("cuda", {"scan": "running", "neighbors": "batch", "state_device": "cpu"})
    for _ in range(2):
        for batch in training.loader:
            training.model.eval()
            with torch.no_grad():
                inputs = Points().inputs[batch.targets.indices.cpu()].cuda()
                logits = training.model(inputs)
                expected = torch.nn.functional.cross_entropy(logits, batch.targets.labels, reduction="none")
            training.model.train()
            keep_busy()
            training.step(batch)
            indices = batch.targets.indices.cpu()
            if training.loader.history[-1]["phase"] != "warm-up":
                torch.testing.assert_close(training.loader.losses[indices], expected.cpu())


@MODES
def test_deterministic_algorithms(mode: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(mode=True)
    try:
        runs = []
        for _ in range(2):
            training = Training("cuda", mode)
            for _ in range(4):
                for batch in training.loader:
                    training.step(batch)
            runs.append([training.loader.soft_targets.cpu(), *map(torch.clone, training.model.parameters())])
    finally:
        torch.use_deterministic_algorithms(mode=False)
    for one, other in zip(*runs, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("representations", [False, True])
@pytest.mark.parametrize("mode", [{"neighbors": "batch"}, recipes.robust(epochs=4)], ids=str)
def test_label_report_is_that_of_the_cpu(mode: dict[str, Any], representations: bool) -> None:
    there, here = Training("cpu", mode), Training("cuda", mode)
    for _ in range(3):
        for batch in there.loader:
            there.step(batch)
    here.model.load_state_dict(there.model.state_dict())
    here.loader.load_state_dict(there.loader.state_dict())
    reports = [training.loader.label_report(4, representations=representations) for training in (there, here)]
    orders = [report.indices.argsort() for report in reports]
    for name, tolerance in (
        ("clean_probability", 1e-3),
        ("losses", 1e-3),
        ("confidence", 1e-3),
        ("suggested_labels", 0),
        ("wrong_event_share", 0),
        ("label_probability", 1e-4),
        ("neighbors", 0),
    ):
        own, expected = (getattr(report, name)[order] for report, order in zip(reports, orders, strict=True))
        np.testing.assert_allclose(own, expected, rtol=0, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("mode", [{}, {"neighbors": "batch"}], ids=str)
def test_no_memory_of_a_batch_is_held_during_the_step(
    mode: dict[str, Any], num_workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Products of matrices keep tens of MiB otherwise, in each stream.
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        held = pool.submit(memory_during_steps, mode, num_workers).result()
    # With workers the next batch is there already, with its neighbors twice the size.
    ahead = 2 * BATCH_BYTES if num_workers > 0 else 0
    assert len(held) == 6
    assert max(held) <= ahead + 2 * WEIGHT_BYTES + 2**20
