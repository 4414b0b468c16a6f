"""Recipes: arguments that the loader takes, in proportion to the training, and that train."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from toy import Points, mlp
from toy_settings import DEFAULTS, settings

from mixnn_loader import MixNNDataLoader, MixNNLoss, recipes

Recipe = Callable[[int], dict[str, Any]]
RECIPES = [recipes.robust, recipes.fast, recipes.features, recipes.paper, recipes.released_code]


def _settings_of(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if name in DEFAULTS}


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("epochs", [1, 2, 3, 30, 300])
def test_the_loader_takes_it(recipe: Recipe, epochs: int) -> None:
    arguments = recipe(epochs)
    assert set(arguments) <= set(inspect.signature(MixNNDataLoader).parameters)
    if arguments.get("search") == "hnsw":
        pytest.importorskip("nmslib")
    loader = MixNNDataLoader(Points(), mlp(), batch_size=8, **arguments)
    made = settings(**{"scan_every": None, **_settings_of(arguments)})
    is_most = "at most " if arguments["warmup_epochs"] == "settled" and epochs > 1 else ""
    assert f"warm-up {is_most}{made.longest_warmup}," in repr(loader)


@pytest.mark.parametrize("recipe", RECIPES)
def test_phases_grow_with_the_training(recipe: Recipe) -> None:
    short, long = (settings(**{"scan_every": None, **_settings_of(recipe(epochs))}) for epochs in (120, 1200))
    assert long.longest_warmup == 10 * short.longest_warmup > 0
    firsts = [None if made.correction is None else max(made.longest_warmup, made.correction) for made in (short, long)]
    assert firsts[0] is not None
    assert firsts == [firsts[0], 10 * firsts[0]]
    assert firsts[0] < 120


def test_the_papers_numbers() -> None:
    paper = recipes.paper()
    assert (paper["warmup_epochs"], paper["correction_epoch"], paper["momentum"], paper["num_neighbors"]) == (
        *(10, 60),
        *(0.9, 1),
    )
    assert recipes.released_code()["neighbors"] == "batch"


@pytest.mark.parametrize(("recipe", "scans"), [(recipes.robust, 20), (recipes.fast, 8)])
def test_there_are_so_many_scans_at_most(recipe: Recipe, scans: int) -> None:
    made = []
    for epochs in range(1, 400):
        arguments = recipe(epochs)
        most = settings(**_settings_of(arguments)).longest_warmup
        made.append([len(range(warmup, epochs, arguments["scan_every"])) for warmup in (min(2, most), most)])
    assert max(soon for soon, _ in made) == scans
    assert min(late for _, late in made[60:]) > scans // 2


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("epochs", [0, 2.5, True])
def test_another_length_is_refused(recipe: Recipe, epochs: Any) -> None:
    with pytest.raises(ValueError, match="epochs must be an integer >= 1"):
        recipe(epochs)


def test_the_robust_one_corrects_wrong_labels() -> None:
    torch.manual_seed(0)
    points, model, epochs = Points(200), mlp(), 30
    loader = MixNNDataLoader(points, model, batch_size=20, shuffle=True, **recipes.robust(epochs))
    optimizer, criterion = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), MixNNLoss()
    for _ in range(epochs):
        for inputs, targets in loader:
            loss = criterion(model(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    given = (points.labels == points.true_labels).float().mean()
    corrected = (loader.soft_targets.argmax(dim=1) == points.true_labels).float().mean()
    assert given < 0.85
    assert corrected > 0.97
    assert loader.history[-1]["noise_rate"] is None or abs(loader.history[-1]["noise_rate"] - 0.2) < 0.05


def test_features_are_as_robust_among_the_inputs() -> None:
    changed = {name: value for name, value in recipes.features(40).items() if recipes.robust(40).get(name) != value}
    assert changed == {"feature_layer": recipes.by_inputs, "credibility": "vote-and-model"}
    model, images = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), torch.arange(36.0).view(3, 1, 3, 4)
    logits, representations = recipes.by_inputs(model, images)
    assert torch.equal(logits, model(images))
    assert torch.equal(representations, torch.arange(36.0).view(3, 12))
