"""What an epoch of a task draws: each sample once, or so many balanced batches."""

from collections import Counter

import torch
from torch import Tensor

from benchmarks.harness.recipes import Recipe
from benchmarks.harness.task import Task
from mixnn_loader.datasets.in_memory import InMemoryDataset

LABELS = torch.tensor([0] * 70 + [1] * 20 + [2] * 10)


def task(*, balanced_batches: int | None = None, workers: int = 0) -> Task:
    recipe = Recipe("mlp", 2, 1, 1, batch_size=6, balanced_batches=balanced_batches, workers=workers)
    data = InMemoryDataset(torch.arange(100.0).view(-1, 1), LABELS)
    return Task(data, data, LABELS, 3, (1,), recipe, 0.0, 0, torch.device("cpu"))


def drawn(made: Task, epoch: int = 0, subset: Tensor | None = None, batch_size: int | None = None) -> list[list[int]]:
    loader = made.batches(subset=subset, batch_size=batch_size)
    made.begin_epoch(epoch)
    return [batch.indices.tolist() for batch in loader]


def test_an_epoch_has_each_sample_once() -> None:
    made = task()
    assert made.epoch_size == 100
    assert sorted(index for batch in drawn(made) for index in batch) == list(range(100))


def test_balanced_batches_follow_the_given_labels() -> None:
    made = task(balanced_batches=5)
    batches = drawn(made)
    assert made.epoch_size == 30
    assert [len(batch) for batch in batches] == [6] * 5
    assert Counter(int(LABELS[index]) for batch in batches for index in batch) == {0: 10, 1: 10, 2: 10}
    assert drawn(made) == batches, "an epoch that is started again is the same"
    assert drawn(made, epoch=1) != batches


def test_batches_of_another_size_make_an_epoch_of_as_many_samples() -> None:
    assert [len(batch) for batch in drawn(task(balanced_batches=5), batch_size=15)] == [15, 15]


def test_of_few_selected_samples_an_epoch_is_no_longer_than_they_are_many() -> None:
    subset = torch.tensor([0, 1, 2, 3, 71, 72, 73, 91, 92, 93, 94, 95])
    batches = drawn(task(balanced_batches=5), subset=subset)
    assert [len(batch) for batch in batches] == [6, 6]
    assert {index for batch in batches for index in batch} <= set(subset.tolist())


def test_methods_and_the_users_loader_have_one_order() -> None:
    for balanced_batches in (None, 5):
        made = task(balanced_batches=balanced_batches)
        loader = made.plain_loader()
        made.begin_epoch(0)
        plain = [inputs.flatten().long().tolist() for inputs, _ in loader]
        assert drawn(made) == plain


def test_a_scan_is_in_eval_mode_and_leaves_the_network_as_it_was() -> None:
    images = InMemoryDataset(torch.rand(100, 1, 8, 8, generator=torch.Generator().manual_seed(0)), LABELS)
    recipe = Recipe("small-resnet", 2, 1, 1)
    made = Task(images, images, LABELS, 3, (1, 8, 8), recipe, 0.0, 0, torch.device("cpu"))
    learner = made.learner()
    before = {name: value.clone() for name, value in learner.network.state_dict().items()}
    scan = made.scan(learner, torch.tensor([7, 3]))
    assert all(part.training for part in learner.modules())
    for name, value in learner.network.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    learner.eval()
    with torch.no_grad():
        torch.testing.assert_close(scan.logits, learner(images.inputs[[7, 3]]))
    assert not scan.logits.requires_grad


def test_workers_change_no_order() -> None:
    assert drawn(task(workers=1)) == drawn(task())
