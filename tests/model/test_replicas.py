"""The buffers of several processes, and models that none of them has whole."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from integration.processes import results_of
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from toy import Points, mlp

from mixnn_loader import MixNNDataLoader
from mixnn_loader._utils.processes import Processes
from mixnn_loader.model.replicas import buffers_of_first


def with_buffers(rank: int, size: int) -> list[Tensor]:
    del size
    norm = nn.BatchNorm1d(2)
    norm(torch.randn(6, 2, generator=torch.Generator().manual_seed(rank)))
    before = [buffer.clone() for buffer in norm.buffers()]
    with buffers_of_first(norm, Processes()):
        inside = [buffer.clone() for buffer in norm.buffers()]
    assert all(torch.equal(a, b) for a, b in zip(before, norm.buffers(), strict=True))
    return [*inside, *before]


def test_the_first_process_lends_its_buffers(tmp_path: Path) -> None:
    first, second = results_of(with_buffers, 2, tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(first[:3], second[:3], strict=True))
    assert all(torch.equal(a, b) for a, b in zip(first[:3], first[3:], strict=True))
    assert not torch.equal(second[0], second[3])


def shard(rank: int, size: int) -> list[str]:
    del rank, size
    messages = []
    mesh = dist.device_mesh.init_device_mesh("cpu", (1,))
    part = nn.Sequential(mlp())
    fully_shard(part.get_submodule("0.head"), mesh=mesh)
    sharded: list[Any] = [FullyShardedDataParallel(mlp(), device_id=torch.device("cpu")), fully_shard(mlp(), mesh=mesh)]
    for model in [*sharded, part]:
        with pytest.raises(TypeError) as caught:
            MixNNDataLoader(Points(), model)
        messages.append(str(caught.value))
    later = mlp()
    loader = MixNNDataLoader(Points(), later, batch_size=8)
    fully_shard(later.head, mesh=mesh)
    with pytest.raises(TypeError) as caught:
        next(iter(loader))
    return [*messages, str(caught.value)]


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_sharded_models_are_refused(tmp_path: Path) -> None:
    [messages] = results_of(shard, 1, tmp_path)
    for message in messages:
        assert "sharded by FSDP" in message
        assert "use DistributedDataParallel" in message
    assert "'0.head'" in messages[2]
    assert "'head'" in messages[3]
