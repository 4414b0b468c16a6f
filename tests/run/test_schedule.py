"""Which epoch comes."""

import pytest
import torch
from torch import Tensor
from toy_settings import settings

from mixnn_loader.run.schedule import Schedule


def schedule(warmup_epochs: int = 2) -> Schedule:
    return Schedule(settings(warmup_epochs=warmup_epochs, correction_epoch=4, neighbors="batch"))


def trained(count: int) -> Schedule:
    made = schedule()
    for _ in range(count):
        epoch = made.open()
        epoch.trained = 5
        made.finish(epoch)
    return made


def test_epochs_follow_one_another() -> None:
    made = trained(5)
    assert [record["epoch"] for record in made.history] == [0, 1, 2, 3, 4]
    assert [record["phase"] for record in made.history] == ["warm-up"] * 2 + ["mixing"] * 2 + ["correction"]
    assert (made.number, made.epoch, made.finished) == (5, None, 5)


def test_an_epoch_goes_on_until_it_is_finished() -> None:
    made = trained(1)
    epoch = made.open()
    epoch.trained = 2
    assert made.open() is epoch
    assert len(made.history) == 2


def test_a_look_leaves_no_trace_and_keeps_the_estimates() -> None:
    made = trained(1)
    epoch = made.open()
    epoch.record["noise_rate"] = 0.25
    made.withdraw(epoch)
    assert len(made.history) == 1
    assert made.open() is epoch
    assert made.history[-1]["noise_rate"] == 0.25


def test_an_epoch_that_is_dropped_cannot_finish_the_one_in_progress() -> None:
    made = trained(1)
    dropped = made.open()
    made.set(5)
    made.finish(dropped)
    assert (made.number, made.epoch) == (5, None)


@pytest.mark.parametrize(("number", "kept"), [(1, True), (0, False), (2, False)])
def test_setting_another_epoch_drops_the_one_in_progress(number: int, kept: bool) -> None:
    made = trained(1)
    epoch = made.open()
    made.set(number)
    assert made.number == number
    assert (made.epoch is epoch) is kept


@pytest.mark.parametrize("finished", [False, True])
def test_a_state_goes_on_where_it_was(finished: bool) -> None:
    made, loaded = trained(1), schedule()
    epoch = made.open()
    epoch.trained = 3
    epoch.pairs.add(torch.tensor([1.0, 4.0]))
    epoch.changes.add(torch.tensor([3.0, 5.0]))
    loaded.load_state_dict(made.state_dict(finished=finished), within=not finished)
    assert loaded.number == 1 + finished
    assert loaded.history == made.history
    if finished:
        assert loaded.epoch is None
    else:
        again = loaded.open()
        assert (again.number, again.trained) == (1, 3)
        assert (again.pairs.share(), again.changes.share()) == (0.25, 0.6)
        assert again.record is loaded.history[-1]
        assert len(loaded.history) == 2


def test_a_state_is_a_copy() -> None:
    made = trained(1)
    state = made.state_dict(finished=False)
    made.history[0]["noise_rate"] = 0.5
    assert state["history"][0]["noise_rate"] is None


def same(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one, other)


def start(made: Schedule, model: float) -> bool:
    return made.rewind(torch.tensor([model]), same)


def go_on(made: Schedule, *models: float) -> None:
    """Train an epoch from each model to another."""
    for number, model in enumerate(models, start=made.number):
        assert not start(made, model)
        made.open().trained = 5
        made.note_trained(torch.tensor([model + 0.05]))
        made.finish(made.open())
        assert made.number == number + 1


def test_a_model_that_is_put_back_puts_the_warm_up_back() -> None:
    made = schedule(warmup_epochs=5)
    go_on(made, 0.0, 0.1, 0.2)  # a search for a learning rate, of three epochs
    assert start(made, 0.0)
    assert (made.number, made.history, made.finished) == (0, [], 0)
    assert not start(made, 0.3)


def test_a_model_that_is_put_back_within_an_epoch() -> None:
    made = schedule()
    go_on(made, 0.0)
    assert not start(made, 0.1)
    made.open().trained = 5
    made.note_trained(torch.tensor([0.2]))
    assert start(made, 0.1)
    assert (made.number, made.epoch) == (1, None)


def test_of_many_short_passes_the_first_start_and_late_ones_are_known() -> None:
    def after(model: float) -> bool:
        made = schedule(warmup_epochs=5)
        for number in range(200):
            assert not start(made, float(number))
            made.open()
            made.note_trained(torch.tensor([number + 0.5]))
        return start(made, model)

    assert [after(model) for model in (0.0, 199.0, 150.0, 100.0)] == [True, True, True, False]


def test_a_model_that_never_changes_puts_nothing_back() -> None:
    made = schedule(warmup_epochs=5)
    for number in range(3):
        assert not start(made, 0.0)
        made.open().trained = 5
        made.finish(made.open())
        assert made.number == number + 1


@pytest.mark.parametrize("warmup_epochs", [0, 1])
def test_a_search_that_goes_beyond_warm_up_is_put_back_too(warmup_epochs: int) -> None:
    made = schedule(warmup_epochs)
    go_on(made, 0.0, 0.1, 0.2)
    assert start(made, 0.0)
    assert (made.number, made.history) == (0, [])


def test_an_epoch_after_warm_up_does_not_come_again() -> None:
    made = schedule(warmup_epochs=1)
    go_on(made, 0.0, 0.1, 0.2)
    assert not start(made, 0.1)
    assert made.number == 3


@pytest.mark.parametrize(("epoch", "is_put_back"), [(0, True), (2, False)])
def test_an_epoch_that_was_set_stays(epoch: int, is_put_back: bool) -> None:
    made = schedule()
    go_on(made, 0.0, 0.1, 0.2)
    made.set(epoch)
    assert start(made, 0.0) == is_put_back
    assert made.number == epoch
