"""Votes of the scan before are used once more only where nothing has changed that they depend on."""

import copy
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import SubsetRandomSampler
from toy import NUM_CLASSES, Points, mlp

from mixnn_loader import MixNNDataLoader, MixNNLoss, recipes
from mixnn_loader.method.credibility import Estimate, Evidence, VoteCredibility
from mixnn_loader.neighbors import ExactSearch
from mixnn_loader.run import standing_votes
from mixnn_loader.run.standing_votes import FEW, what_is_asked

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
        super().__init__(5)
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
    chosen = recipes.robust(epochs=EPOCHS) | {"scan_every": 1, "warmup_epochs": 1} | arguments
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
    def start() -> tuple[MixNNDataLoader, nn.Module, torch.optim.Optimizer]:
        model = mlp()
        loader = MixNNDataLoader(Points(60), model, batch_size=20, **recipes.features(EPOCHS) | {"scan_every": 1})
        return loader, model, torch.optim.SGD(model.parameters(), lr=0.3)

    def go_on(loader: MixNNDataLoader, model: nn.Module, optimizer: torch.optim.Optimizer, until: int) -> None:
        for epoch in range(loader.epoch, until):
            torch.manual_seed(epoch)  # of which dropout draws
            for batch in loader:
                optimizer.zero_grad()
                MixNNLoss()(model(batch.inputs), batch).backward()
                optimizer.step()

    whole, stopped, resumed = start(), start(), start()
    go_on(*whole, until=EPOCHS)
    go_on(*stopped, until=5)
    for place in range(3):
        one, other = cast(Any, resumed[place]), cast(Any, stopped[place])
        one.load_state_dict(copy.deepcopy(other.state_dict()))
    go_on(*resumed, until=EPOCHS)
    for name in ("clean_probability", "soft_targets", "losses"):
        torch.testing.assert_close(getattr(resumed[0], name), getattr(whole[0], name))


class MoreEachTime(VoteCredibility):
    """Asks more neighbors in each scan."""

    asked = 3

    def num_voters(self, num_samples: int, num_classes: int) -> int:
        """Return two more than the time before."""
        del num_samples, num_classes
        self.asked += 2
        return self.asked


def test_more_neighbors_are_searched_for() -> None:
    search = CountedSearch()
    train(*make(search=search, credibility=MoreEachTime(), feature_layer=inputs_as_they_are))
    assert search.count == EPOCHS - 1


@pytest.mark.parametrize("name", ["representations", "given_labels", "members", "usable", "k", "width"])
def test_whatever_votes_depend_on_is_seen_to_change(name: str) -> None:
    things: dict[str, Any] = {
        "representations": torch.randn(6, 4, generator=torch.Generator().manual_seed(0)),
        "given_labels": torch.tensor([0, 1, 2, 0, 1, 2]),
        "members": torch.tensor([0, 2, 4, 5]),
        "usable": torch.tensor([True, True, False, True]),
        "k": 2,
    }
    before = what_is_asked(**things)
    assert torch.equal(what_is_asked(**{name: copy.deepcopy(thing) for name, thing in things.items()}), before)
    changed: dict[str, Any] = {
        "representations": things["representations"] * torch.tensor([1, 1, 1, 1 + 1e-6]),
        "given_labels": torch.tensor([0, 1, 2, 1, 0, 2]),
        "members": torch.tensor([0, 2, 3, 5]),
        "usable": torch.tensor([True, True, True, False]),
        "k": 3,
    }
    if name == "width":
        things["representations"] = things["representations"].view(8, 3)
    else:
        things[name] = changed[name]
    assert not torch.equal(what_is_asked(**things), before)
