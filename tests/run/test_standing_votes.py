"""Neighbors are asked again only where others would be asked, or would say something else."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import SubsetRandomSampler
from toy import NUM_CLASSES, Points, mlp

from mixnn_loader import MixNNDataLoader, MixNNLoss, recipes
from mixnn_loader.method.credibility import Estimate, Evidence, VoteCredibility
from mixnn_loader.neighbors import ExactSearch
from mixnn_loader.run import standing_votes
from mixnn_loader.run.standing_votes import FEW

EPOCHS = 8


class CountedSearch:
    """Exact search that counts how often it is asked."""

    def __init__(self) -> None:
        self.count = 0

    def search(self, representations: Tensor, k: int, queries: Tensor | None = None) -> Tensor:
        self.count += 1
        return ExactSearch().search(representations, k, queries)


class Spoiling(VoteCredibility):
    """Does to what it gets what it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def estimate(self, evidence: Evidence, warn: Any) -> Estimate:
        """Remember the votes, and put others in their place."""
        assert evidence.votes is not None
        self.seen.append(evidence.votes.clone())
        answer = super().estimate(evidence, warn)
        evidence.votes.zero_()
        return answer


def inputs_as_they_are(model: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Logits, and the inputs in place of representations."""
    return model(inputs), inputs


def make(**arguments: Any) -> tuple[MixNNDataLoader, nn.Module]:
    """A loader by the recipe, which asks in every epoch after the first, and its model."""
    model = mlp()
    chosen = recipes.robust(epochs=EPOCHS) | {"scan_every": 1} | arguments
    return MixNNDataLoader(Points(60), model, batch_size=20, **chosen), model


def train(loader: MixNNDataLoader, model: nn.Module, epochs: int = EPOCHS) -> MixNNDataLoader:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    for _ in range(epochs):
        for batch in loader:
            loss = MixNNLoss()(model(batch.inputs), batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return loader


def test_representations_that_change_are_searched_each_time() -> None:
    search = CountedSearch()
    train(*make(search=search))
    assert search.count == EPOCHS - 1


@pytest.mark.parametrize(("few", "searches"), [(FEW, 1), (60 * NUM_CLASSES, 1), (60 * NUM_CLASSES - 1, 2)])
def test_representations_that_stay_are_searched_until_that_is_seen(
    few: int, searches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standing_votes, "FEW", few)
    search = CountedSearch()
    loader = train(*make(search=search, feature_layer=inputs_as_they_are))
    assert search.count == searches
    assert [record["search"] for record in loader.history] == [None] + ["CountedSearch"] * (EPOCHS - 1)


def test_votes_that_stand_are_those_that_would_be_given() -> None:
    kept, asked = Spoiling(), Spoiling()
    loader = train(*make(credibility=kept, feature_layer=inputs_as_they_are))
    wiggled = [0]

    def inputs_moved(model: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
        wiggled[0] += 1  # in each batch
        return model(inputs), inputs * (1 + 1e-6 * wiggled[0])  # as near to each other, and never the same

    again = train(*make(credibility=asked, feature_layer=inputs_moved))
    assert len(kept.seen) == len(asked.seen) == EPOCHS - 1
    for one, other in zip(kept.seen, asked.seen, strict=True):
        assert torch.equal(one, other)
    torch.testing.assert_close(loader.soft_targets, again.soft_targets)


@pytest.mark.parametrize("scan_every", [1, 3])
def test_others_who_are_asked_are_searched_for(scan_every: int) -> None:
    search, sampler = CountedSearch(), SubsetRandomSampler(range(40))
    loader, model = make(sampler=sampler, search=search, feature_layer=inputs_as_they_are, scan_every=scan_every)
    train(loader, model, 4)
    before = search.count
    sampler.indices = range(60)
    train(loader, model, 4)
    assert search.count > before
    assert not loader.clean_probability.isnan().any()


def test_a_resumed_run_gives_the_same() -> None:
    whole = train(*make(feature_layer=inputs_as_they_are))
    stopped = train(*make(feature_layer=inputs_as_they_are), epochs=5)
    loader, model = make(feature_layer=inputs_as_they_are)
    loader.load_state_dict(stopped.state_dict())
    train(loader, model, EPOCHS - 5)
    torch.testing.assert_close(loader.clean_probability, whole.clean_probability)
