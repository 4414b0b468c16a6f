"""Random numbers that leave the user's alone."""

import io
import random

import numpy as np
import pytest
import torch

from mixnn_loader._utils.random_state import RandomState, derived_rng, forked_random_state, kept_random_state

PLACES = [(0, 0), (0, 1), (1, 0), (1, 1), (0, 0, 1), (10, 0)]


def global_draws() -> tuple[list[float], list[float], list[float]]:
    """Two numbers of each global stream."""
    return [random.random(), random.gauss(0, 1)], np.random.standard_normal(3).tolist(), torch.randn(3).tolist()


def test_a_place_has_one_stream() -> None:
    first, again = (derived_rng(5, 3, 7).random(4).tolist() for _ in range(2))
    assert first == again


def test_places_and_seeds_have_different_streams() -> None:
    assert len({derived_rng(*place, 7).random() for place in PLACES}) == len(PLACES)


def test_the_global_streams_go_on_as_if_nothing_had_been_drawn() -> None:
    with forked_random_state(1):  # gives back the streams that the test itself reseeds
        random.seed(2)
        np.random.seed(2)
        torch.manual_seed(2)
        expected = [global_draws(), global_draws()]
        random.seed(2)
        np.random.seed(2)
        torch.manual_seed(2)
        before = global_draws()
        with forked_random_state(3):
            inside = global_draws()
        assert [before, global_draws()] == expected
        assert all(drawn != usual for drawn, usual in zip(inside, expected[1], strict=True))


def test_the_global_streams_go_on_after_an_exception() -> None:
    states = random.getstate(), np.random.get_state(legacy=False), torch.get_rng_state()

    def fail() -> None:
        with forked_random_state(3):
            global_draws()
            raise RuntimeError("a worker crashed")

    with pytest.raises(RuntimeError, match="a worker crashed"):
        fail()
    assert random.getstate() == states[0]
    np.testing.assert_equal(np.random.get_state(legacy=False), states[1])
    assert torch.equal(torch.get_rng_state(), states[2])


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1])
def test_a_seed_gives_the_same_numbers_each_time(seed: int) -> None:
    with forked_random_state(seed):
        first = global_draws()
    global_draws()
    with forked_random_state(seed):
        assert global_draws() == first


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_stream_of_the_gpu_goes_on_too() -> None:
    with torch.random.fork_rng(devices=[0]):
        torch.cuda.manual_seed(2)
        expected = [torch.rand(1, device="cuda").item() for _ in range(2)]
        torch.cuda.manual_seed(2)
        before = torch.rand(1, device="cuda").item()
        with forked_random_state(3):
            inside = torch.rand(1, device="cuda").item()
        assert [before, torch.rand(1, device="cuda").item()] == expected
        with forked_random_state(3):
            assert torch.rand(1, device="cuda").item() == inside != expected[1]


def test_cuda_is_not_started_where_nobody_has(monkeypatch: pytest.MonkeyPatch) -> None:
    def started() -> None:
        raise AssertionError("workers that are forked from here on could not use CUDA")

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    for name in ("is_available", "device_count", "current_device", "init"):
        monkeypatch.setattr(torch.cuda, name, started)
    with forked_random_state(1):
        global_draws()


def test_forks_nest() -> None:
    with forked_random_state(1):
        expected = global_draws()
    with forked_random_state(1):
        with forked_random_state(2):
            global_draws()
        assert global_draws() == expected


@pytest.mark.parametrize("num_gauss", [0, 1])
def test_a_state_goes_through_a_file(num_gauss: int) -> None:
    with kept_random_state():
        for _ in range(num_gauss):  # of each two that are drawn, the second is kept for the next call
            random.gauss(0, 1)
            np.random.standard_normal()
        file = io.BytesIO()
        torch.save(RandomState.now().state_dict(), file)
        expected = global_draws()
        file.seek(0)
        RandomState.from_state_dict(torch.load(file, weights_only=True)).restore()
        assert global_draws() == expected


def test_what_is_kept_is_as_if_nothing_had_been_drawn() -> None:
    with kept_random_state():
        expected = global_draws()
    with kept_random_state():
        random.seed(1)
        global_draws()
    with kept_random_state():
        assert global_draws() == expected
