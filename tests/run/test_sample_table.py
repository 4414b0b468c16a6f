"""What is kept for every sample."""

import io
import math
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor

from mixnn_loader._utils.batch_indices import BatchIndices
from mixnn_loader.run.columns import Layout
from mixnn_loader.run.sample_table import SampleTable

NAMES = [
    "given_labels",
    "neighbor_pool",
    "losses",
    "times_asked",
    "wrong_events",
    "probability_sums",
    "log_clean_probability",
    "soft_targets",
    "averages",
    "representations",
    "last_batch",
    "unshared",
]

OTHER = torch.tensor([True, False, True])
"""Of which samples another class is predicted than the given one."""


def sample_table(num_samples: int, pool_size: int, num_classes: int | None = None, **arguments: Any) -> SampleTable:
    table = SampleTable(Layout(num_samples=num_samples, pool_size=pool_size, **arguments))
    if num_classes is not None:
        table.set_num_classes(num_classes)
    return table


def load(table: SampleTable, state: dict[str, Tensor | None], *, keep_representations: bool = True) -> None:
    table.prepared(state, keep_representations=keep_representations)()


def filled() -> SampleTable:
    """Four samples, a pool of two, three classes; the last sample has not been seen."""
    table = sample_table(4, 2, 3)
    table.record_labels(torch.tensor([2, 0, 1]), torch.tensor([1, 2, 0]))
    table.replace("neighbor_pool", torch.tensor([[1, 2], [0, 2], [0, 1], [-1, -1]]))
    table.losses[:3] = torch.tensor([0.1, 0.2, 0.3])
    table.log_clean_probability[:3] = torch.tensor([0.9, 0.5, 0.1])
    table.soft_targets[1] = torch.tensor([0.7, 0.2, 0.1])
    table.make_averages()[2] = torch.tensor([0.1, 0.0, 0.2])
    table.make_representations(2, torch.device("cpu")).copy_(torch.arange(8.0).reshape(4, 2))
    table.record_drawn(torch.tensor([2, 0]), rank=1, num_processes=2)
    return table


def assert_same(state: dict[str, Tensor | None], other: dict[str, Tensor | None]) -> None:
    assert sorted(state) == sorted(other) == sorted(NAMES)
    for name in NAMES:
        torch.testing.assert_close(state[name], other[name], rtol=0, atol=0, equal_nan=True)


def test_starts_with_nothing_known() -> None:
    state = sample_table(3, 2)
    assert state.given_labels.tolist() == [-1, -1, -1]
    assert state.neighbor_pool.tolist() == [[-1, -1]] * 3
    assert state.losses.isnan().all()
    assert state.log_clean_probability.isnan().all()
    with pytest.raises(RuntimeError, match=r"soft_targets are not there before the first batch.* num_classes="):
        _ = state.soft_targets


def test_a_first_label_gives_a_one_hot_target() -> None:
    state = sample_table(4, 0, 3)
    state.record_labels(torch.tensor([2, 0]), torch.tensor([1, 2]))
    assert state.given_labels.tolist() == [2, -1, 1, -1]
    assert state.soft_targets.tolist() == [[0, 0, 1], [0, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_a_label_seen_again_leaves_the_corrected_target() -> None:
    state = filled()
    state.record_labels(torch.tensor([1, 3]), torch.tensor([0, 2]))
    torch.testing.assert_close(state.soft_targets[1], torch.tensor([0.7, 0.2, 0.1]))
    assert state.soft_targets[3].tolist() == [0, 0, 1]


def test_a_changed_label_is_named() -> None:
    with pytest.raises(ValueError, match=r"label of dataset index 2 was 1 and is now 0.* scan_dataset"):
        filled().check_labels(torch.tensor([0, 2, 1]), torch.tensor([2, 0, 1]))


def test_the_number_of_classes_may_be_told_again_but_not_changed() -> None:
    state = filled()
    before = state.state_dict()
    state.set_num_classes(3)
    assert_same(state.state_dict(), before)
    with pytest.raises(ValueError, match=r"output is 5 wide, the soft targets are over 3 classes.* num_classes"):
        state.set_num_classes(5)


def test_to_moves_what_batches_are_made_of() -> None:
    state = filled()
    state.to(torch.device("meta"))
    on_meta = [name for name in NAMES if getattr(state, name).device.type == "meta"]
    history = ["losses", "times_asked", "wrong_events", "probability_sums"]
    assert on_meta == [*history, "log_clean_probability", "soft_targets", "averages", "representations"]


def test_round_trip_through_a_file() -> None:
    state, file = filled(), io.BytesIO()
    torch.save(state.state_dict(), file)
    file.seek(0)
    loaded = sample_table(4, 2)
    load(loaded, torch.load(file, weights_only=True))
    assert_same(loaded.state_dict(), state.state_dict())


def test_round_trip_of_a_run_that_has_not_begun() -> None:
    state = filled()
    saved = sample_table(4, 2).state_dict()
    load(state, saved)
    assert state.given_labels.tolist() == [-1] * 4
    assert state.losses.isnan().all()


def test_a_state_shares_no_memory_with_the_run() -> None:
    state = filled()
    saved = state.state_dict()
    untouched = deepcopy(saved)
    state.soft_targets.zero_()
    state.losses.zero_()
    assert_same(saved, untouched)
    load(state, saved)
    state.soft_targets.zero_()
    state.given_labels.zero_()
    assert_same(saved, untouched)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ((5, 2, 3), "a run over 4 samples, this loader has 5"),
        ((4, 1, 3), "a run over 2 neighbors a sample, this loader has 1"),
        ((4, 2, 7), "a run over 3 classes, this loader has 7"),
    ],
)
def test_a_state_of_another_run_is_refused(other: Any, message: str) -> None:
    loader = sample_table(*other)
    before = loader.state_dict()
    with pytest.raises(ValueError, match=message):
        load(loader, filled().state_dict())
    assert_same(loader.state_dict(), before)


def test_predictions_are_taken_in_and_the_first_of_a_sample_counts() -> None:
    state = sample_table(4, 2, 3)
    state.record_predictions(
        BatchIndices(torch.tensor([2, 0, 2])), torch.tensor([0.1, 0.2, 0.3]), OTHER, torch.eye(3, 5)
    )
    torch.testing.assert_close(state.losses, torch.tensor([0.2, torch.nan, 0.1, torch.nan]), equal_nan=True)
    assert state.representations.tolist() == [[0, 1, 0, 0, 0], [0] * 5, [1, 0, 0, 0, 0], [0] * 5]

    state.record_predictions(
        BatchIndices(torch.tensor([3, 0])), torch.tensor([0.4, 0.5]), OTHER[:2], 2 * torch.eye(2, 5)
    )
    torch.testing.assert_close(state.losses, torch.tensor([0.5, torch.nan, 0.1, 0.4]), equal_nan=True)
    assert state.representations[[0, 3]].tolist() == [[0, 2, 0, 0, 0], [2, 0, 0, 0, 0]]
    assert state.representations[2].tolist() == [1, 0, 0, 0, 0]


def test_wrong_events_are_counted_once_a_batch_and_only_of_those_of_whom_something_is_said() -> None:
    state = sample_table(4, 2, 3)
    losses = torch.tensor([0.1, 0.2, 0.3])
    state.record_predictions(BatchIndices(torch.tensor([2, 0, 2])), losses, torch.tensor([True, False, False]))
    assert state.times_asked.tolist() == [1, 0, 1, 0]
    assert state.wrong_events.tolist() == [0, 0, 1, 0]
    state.record_predictions(
        BatchIndices(torch.tensor([0, 1, 2])),
        losses + 1,
        torch.tensor([True, True, True]),
        counts=torch.tensor([True, False, True]),
    )
    assert state.times_asked.tolist() == [2, 0, 2, 0]
    assert state.wrong_events.tolist() == [1, 0, 2, 0]
    sums = [math.exp(-0.2) + math.exp(-1.1), 0, math.exp(-0.1) + math.exp(-1.3), 0]
    torch.testing.assert_close(state.probability_sums, torch.tensor(sums))
    torch.testing.assert_close(state.losses, torch.tensor([1.1, torch.nan, 1.3, torch.nan]), equal_nan=True)


@pytest.mark.parametrize("loss", [torch.inf, torch.nan])
def test_a_loss_that_is_not_finite_spoils_no_sum(loss: float) -> None:
    state = sample_table(2, 0)
    for value in (0.5, loss, 0.25):
        state.record_predictions(BatchIndices(torch.tensor([0])), torch.tensor([value]), OTHER[:1])
    assert state.probability_sums.tolist() == pytest.approx([math.exp(-0.5) + math.exp(-0.25), 0])


def test_losses_alone_keep_no_representations() -> None:
    state = sample_table(4, 2, 3)
    state.record_predictions(BatchIndices(torch.tensor([1])), torch.tensor([0.1], dtype=torch.float64), OTHER[:1])
    assert not state.has("representations")
    assert state.losses.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_types_of_what_is_kept(dtype: torch.dtype) -> None:
    state = sample_table(4, 2, 3, target_dtype=dtype, representation_dtype=dtype)
    state.record_labels(torch.tensor([2, 0]), torch.tensor([1, 2]))
    state.record_predictions(
        BatchIndices(torch.tensor([2, 0])), torch.tensor([0.1, 0.2]), OTHER[:2], torch.tensor([[0.1], [0.2]])
    )
    assert {state.soft_targets.dtype, state.representations.dtype} == {dtype}
    assert state.soft_targets[2].tolist() == [0, 1, 0]
    assert torch.equal(state.representations.flatten(), torch.tensor([0.2, 0, 0.1, 0]).to(dtype))
    assert state.losses.dtype == state.log_clean_probability.dtype == torch.float32


@pytest.mark.parametrize(
    ("device", "moved"),
    [
        (
            None,
            [
                "losses",
                "times_asked",
                "wrong_events",
                "probability_sums",
                "log_clean_probability",
                "soft_targets",
                "averages",
                "representations",
            ],
        ),
        (torch.device("cpu"), ["representations"]),
    ],
)
def test_representations_always_go_to_the_model(device: torch.device | None, moved: list[str]) -> None:
    state = sample_table(4, 2, 3, device=device)
    state.make_averages()
    state.record_predictions(BatchIndices(torch.tensor([0])), torch.tensor([0.1]), OTHER[:1], torch.ones(1, 5))
    state.record_drawn(torch.tensor([0]), rank=0, num_processes=2)
    state.to(torch.device("meta"))
    on_meta = [name for name in NAMES if getattr(state, name).device.type == "meta"]
    assert on_meta == moved


def test_a_state_that_is_broken_in_one_column_changes_nothing() -> None:
    table = filled()
    before = table.state_dict()
    broken = sample_table(4, 2, 3).state_dict() | {"losses": torch.zeros(3)}
    with pytest.raises(ValueError, match="the state's losses must have a row for each of the 4 samples"):
        load(table, broken)
    assert_same(table.state_dict(), before)


@pytest.mark.parametrize(
    "change",
    [
        {"probability_sums": torch.tensor([0.0, torch.inf, 0.0, 0.0])},
        {"probability_sums": torch.tensor([0.0, torch.nan, 0.0, 0.0])},
        {"probability_sums": torch.tensor([-0.1, 0.0, 0.0, 0.0])},
        {"probability_sums": torch.tensor([0.0, 0.0, 3.1, 0.0])},
        {"wrong_events": torch.tensor([4, 0, 0, 0], dtype=torch.int32)},
        {"wrong_events": torch.tensor([-1, 0, 0, 0], dtype=torch.int32)},
    ],
)
def test_a_history_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    state = filled().state_dict() | {"times_asked": torch.full((4,), 3, dtype=torch.int32)}
    load(sample_table(4, 2, 3), state | {"probability_sums": torch.full((4,), 3 + 1e-6)})
    with pytest.raises(ValueError, match="times_asked, wrong_events, probability_sums do not belong together"):
        load(sample_table(4, 2, 3), state | change)


@pytest.mark.parametrize("name", ["given_labels", "losses", "times_asked", "log_clean_probability", "last_batch"])
def test_a_column_that_is_always_there_must_not_be_missing(name: str) -> None:
    with pytest.raises(ValueError, match=f"the state's {name} must be a .*, got None; is the checkpoint whole"):
        load(sample_table(4, 2, 3), filled().state_dict() | {name: None})


def test_representations_are_left_out_where_they_are_not_needed() -> None:
    table = sample_table(4, 2)
    load(table, filled().state_dict(), keep_representations=False)
    assert not table.has("representations")
    assert table.has("soft_targets")


def test_batches_have_numbers_of_their_own_on_every_process() -> None:
    tables = [sample_table(6, 0) for _ in range(2)]
    for rank, table in enumerate(tables):
        for indices in ([0, 1], [2, 3], [1, 4]):
            table.record_drawn(torch.tensor(indices), rank, 2)
    assert [table.last_batch.tolist() for table in tables] == [[0, 4, 2, 2, 4, -1], [1, 5, 3, 3, 5, -1]]
    assert tables[0].take_unshared().tolist() == [0, 1, 2, 3, 4]
    assert tables[0].take_unshared().tolist() == []


def test_the_numbers_go_on_in_a_loaded_table() -> None:
    saved, table = sample_table(4, 0), sample_table(4, 0)
    for indices in ([0, 1], [1, 2]):
        saved.record_drawn(torch.tensor(indices), 0, 1)
    load(table, saved.state_dict())
    table.record_drawn(torch.tensor([2]), 0, 1)
    first, second, third, never = table.last_batch.tolist()
    assert first < second < third
    assert never == -1


def test_the_numbers_of_batches_do_not_run_away_over_many_stops() -> None:
    table = sample_table(4, 0)
    for _ in range(20):
        for _ in range(10):
            table.record_drawn(torch.tensor([1]), rank=7, num_processes=8)
        state, table = table.state_dict(), sample_table(4, 0)
        load(table, state)
    assert int(table.last_batch.max()) == 20 * 10 * 8 - 1
