"""Fixtures that several test files share."""

import os
from collections.abc import Callable, Iterator

import pytest
import torch

from mixnn_loader import MixNNTargets

# pomegranate brings in a package that compiles functions when it is imported, and that are never called: three seconds
# in every process that a test starts.
os.environ.setdefault("NUMBA_DISABLE_JIT", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # in the processes that tests start; see `one_thread`

MakeTargets = Callable[[int, int, int], MixNNTargets]


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """The models are tiny: threads cost more than they bring, and tests that run side by side fight over them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    # The first backward pass starts a thread for every kind of device that there is, and fake tensors, which compilers
    # use, add one: a process with such threads cannot be forked.
    leaf = torch.ones(1, requires_grad=True)
    torch.autograd.grad(leaf.sum(), leaf)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failure PyTorch waits five seconds for a worker that does not end by itself."""
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.5)


@pytest.fixture
def generator() -> torch.Generator:
    """Random numbers of the test's own."""
    return torch.Generator().manual_seed(0)


@pytest.fixture
def make_targets(generator: torch.Generator) -> MakeTargets:
    """``(batch_size, num_neighbors, num_classes) -> targets``, soft ones with uneven weights."""

    def make(batch_size: int, num_neighbors: int, num_classes: int) -> MixNNTargets:
        shape = (batch_size, num_neighbors + 1)
        return MixNNTargets(
            soft_targets=torch.randn(*shape, num_classes, generator=generator).softmax(dim=-1),
            weights=torch.randn(shape, generator=generator).softmax(dim=-1),
            labels=torch.randint(num_classes, (batch_size,), generator=generator),
            groups=torch.randint(100, (batch_size, num_neighbors + 1), generator=generator),
        )

    return make
