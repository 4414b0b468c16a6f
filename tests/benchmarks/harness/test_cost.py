"""Passes through networks are counted, and come to what the README says that each method costs."""

import pytest
import torch
from toy_task import toy

from benchmarks.harness.cost import Meter
from benchmarks.harness.settings import RunSettings
from benchmarks.harness.training import train_and_measure


def test_counts_samples_forward_and_backward() -> None:
    network = toy().task.network()
    network.meter = Meter()
    inputs = torch.zeros(6, 10)
    network(inputs).sum().backward()
    with torch.no_grad():
        network(inputs[:2])
    network(inputs[:3])  # never goes back
    assert (network.meter.forward, network.meter.backward) == (11, 6)
    assert network.meter.units == 11 + 2 * 6


def test_counts_nothing_while_paused_but_the_way_back_of_what_began_before() -> None:
    network = toy().task.network()
    meter = network.meter = Meter()
    loss = network(torch.zeros(6, 10)).sum()
    with meter.paused():
        network(torch.zeros(4, 10)).sum().backward()
        with meter.paused():
            pass
        network(torch.zeros(4, 10))
        loss.backward()
    assert (meter.forward, meter.backward) == (6, 6)
    network(torch.zeros(4, 10))
    assert meter.forward == 10


def test_all_networks_of_a_task_have_one_meter() -> None:
    task = toy().task
    for network in (task.network(), task.learner(member=1).network):
        network(torch.zeros(5, 10))
    assert task.meter.forward == 10


def test_a_scan_costs_a_forward_pass() -> None:
    task = toy(num_samples=400).task
    task.scan(task.learner())
    assert (task.meter.forward, task.meter.backward) == (400, 0)


@pytest.mark.parametrize("watched", [False, True])
def test_cross_entropy_costs_one_plain_training_watched_or_not(watched: bool) -> None:
    cost = cost_of("ce", epochs=4, watched=watched)
    assert cost == {"forward": 4 * 128, "backward": 4 * 128, "plain_trainings": 1}


# N = 128 samples, E = 9 epochs, W = 3 and E_s = 6. In an epoch: a step is 3 forward passes of each sample (1 forward, 2
# back), a scan is 1, and the predictions of step 4a are 1. The first batch of 64 is
# looked at twice more, which finds out at once what would fail later.
REHEARSAL = 2 * 64


def test_mixnn_costs_a_scan_an_epoch_from_the_end_of_warm_up_and_predictions_from_the_first_correction() -> None:
    cost = cost_of("mixnn", epochs=9)
    assert cost["backward"] == 9 * 128
    assert cost["forward"] == 9 * 128 + 6 * 128 + 3 * 128 + REHEARSAL
    an_epoch_of_correction = (3 + 1 + 1) / 3
    assert an_epoch_of_correction == pytest.approx(1.67, abs=0.01)


def test_with_a_running_scan_it_costs_one_scan_and_predictions_from_the_end_of_warm_up() -> None:
    cost = cost_of("mixnn-batch", epochs=9)
    assert cost["backward"] == 9 * 128
    assert cost["forward"] == 9 * 128 + 128 + 6 * 128 + REHEARSAL
    an_epoch_of_mixing = (3 + 1) / 3
    assert an_epoch_of_mixing == pytest.approx(1.33, abs=0.01)


def cost_of(method: str, epochs: int, *, watched: bool = False) -> dict[str, float]:
    settings = RunSettings(method, "digits", epochs=epochs, num_train=128, watch_training=watched)
    cost: dict[str, float] = train_and_measure(settings)["cost"]
    units = cost["forward"] + 2 * cost["backward"]
    assert cost["plain_trainings"] == pytest.approx(units / (3 * 128 * epochs))
    return cost
