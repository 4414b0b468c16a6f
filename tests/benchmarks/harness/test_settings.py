"""What a run is made of."""

from typing import Any

import pytest

from benchmarks.harness.recipes import RECIPES, recipe_for
from benchmarks.harness.schedules import SCHEDULES, factor
from benchmarks.harness.settings import RunSettings, SettingError

KEY_OF = RunSettings("ce", "digits").key


@pytest.mark.parametrize(
    "change",
    [
        {"method": "mixnn"},
        {"dataset": "mnist"},
        {"noise": "pair"},
        {"rate": 0.2},
        {"seed": 1},
        {"epochs": 3},
        {"num_train": 100},
        {"recipe": {"lr": 0.1}},
        {"options": {"smoothing": 0.1}},
        {"watch_training": True},
    ],
)
def test_every_setting_tells_runs_apart(change: dict[str, Any]) -> None:
    assert RunSettings(**{"method": "ce", "dataset": "digits"} | change).key != KEY_OF


def test_equal_runs_have_equal_keys_however_they_are_written() -> None:
    assert RunSettings("ce", "digits", rate=0).key == RunSettings("ce", "digits", rate=0.0).key
    options = {"momentum": 0.8, "num_neighbors": 2}
    backwards = dict(reversed(options.items()))
    assert RunSettings("ce", "digits", options=options).key == RunSettings("ce", "digits", options=backwards).key


def test_keys_stay_what_they_are_from_version_to_version() -> None:
    # Results that are there already would be run again.
    assert KEY_OF == "6acb4a184ece4a63"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("rate", 1.0, "must lie in [0, 1), got 1.0"),
        ("rate", -0.1, "must lie in [0, 1), got -0.1"),
        ("rate", "0.4", "must be a number, got '0.4'"),
        ("seed", -1, "must be at least 0, got -1"),
        ("seed", None, "must be an integer, got None"),
        ("epochs", 0, "must be at least 1, got 0"),
        ("epochs", True, "must be an integer, got True"),
        ("num_train", 0, "must be at least 1, got 0"),
        ("method", 3, "must be a name, got 3"),
        ("recipe", "lr", "must be a table of names and values, got 'lr'"),
        ("watch_training", 1, "must be true or false, got 1"),
    ],
)
def test_refuses_what_cannot_be_run(name: str, value: Any, message: str) -> None:
    with pytest.raises(SettingError) as caught:
        RunSettings(**{"method": "ce", "dataset": "digits", name: value})
    assert (caught.value.name, caught.value.message) == (name, message)


class TestRecipe:
    def test_is_that_of_the_dataset_with_the_changes(self) -> None:
        settings = RunSettings("ce", "digits", epochs=7, num_train=50, recipe={"lr": 1, "network": "convnet"})
        recipe = recipe_for(settings)
        assert (recipe.epochs, recipe.num_train, recipe.lr, recipe.network) == (7, 50, 1, "convnet")
        assert recipe.batch_size == RECIPES["digits"].batch_size

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"learning_rate": 0.1}, "it has no learning_rate; it has balanced_batches, "),
            ({"lr": "fast"}, "lr must be int | float, got 'fast'"),
            ({"batch_size": 2.5}, "batch_size must be int, got 2.5"),
            ({"network": "resnet1000"}, "network must be one of mlp, .*, got 'resnet1000'"),
            ({"schedule": "up"}, "schedule must be one of constant, .*restarts, got 'up'"),
        ],
    )
    def test_refuses_what_is_in_no_recipe(self, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(SettingError, match=message.replace("|", r"\|")) as caught:
            recipe_for(RunSettings("ce", "digits", recipe=changes))
        assert caught.value.name == "recipe"

    def test_refuses_an_unknown_dataset(self) -> None:
        with pytest.raises(SettingError, match=r"dataset: must be one of digits, .* got 'imagenet'"):
            recipe_for(RunSettings("ce", "imagenet"))

    def test_the_papers_learning_rate_restarts_every_ten_epochs_from_its_height_to_nearly_its_floor(self) -> None:
        rates = [0.02 * factor("restarts", epoch, 300) for epoch in range(30)]
        assert rates[0] == rates[10] == rates[20] == pytest.approx(0.02)
        assert rates[5] == pytest.approx((0.02 + 0.001) / 2)
        assert 0.001 < min(rates) == rates[9] < 0.0016

    @pytest.mark.parametrize("schedule", SCHEDULES)
    def test_no_schedule_rises(self, schedule: str) -> None:
        factors = [factor(schedule, epoch, 40) for epoch in range(40)]
        assert factors[0] == 1
        assert factors == sorted(factors, reverse=True)
        assert min(factors) > 0
