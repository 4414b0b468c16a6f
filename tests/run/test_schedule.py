"""Where a run is."""

from mixnn_loader.run.schedule import Epochs


def started(count: int, batches: int = 0) -> Epochs:
    """Begin some epochs, and give batches of the last, which runs."""
    epochs = Epochs()
    for _ in range(count):
        epochs.begin(epochs.record("mixing"))
    for _ in range(batches):
        epochs.count_batch()
    return epochs


def place(epochs: Epochs) -> tuple[int, int, int, bool]:
    return epochs.number, epochs.next, epochs.batch, epochs.is_within


def test_epochs_follow_one_another() -> None:
    epochs = Epochs()
    assert place(epochs) == (0, 0, 0, False)
    for number in range(3):
        record = epochs.record("warm-up")
        assert (record["epoch"], record["phase"], record["noise_rate"]) == (number, "warm-up", None)
        epochs.begin(record)
        assert place(epochs) == (number, number + 1, 0, True)
        assert epochs.count_batch() == 1
        assert place(epochs) == (number, number + 1, 1, True)
        epochs.end(record)
        assert place(epochs) == (number, number + 1, 0, False)
    assert [record["epoch"] for record in epochs.history] == [0, 1, 2]


def test_an_epoch_that_is_over_cannot_end_the_one_that_runs() -> None:
    epochs = started(2)
    epochs.end(epochs.history[0])
    assert epochs.is_within
    assert epochs.runs(epochs.history[1])
    assert not epochs.runs(epochs.history[0])


def test_a_state_within_an_epoch_goes_on_in_it() -> None:
    epochs = Epochs()
    epochs.load_state_dict(started(2, batches=3).state_dict(), within=True)
    assert place(epochs) == (1, 1, 3, True)
    assert epochs.stopped_within
    assert epochs.resume() is epochs.history[1]
    assert place(epochs) == (1, 2, 3, True)
    assert not epochs.stopped_within


def test_a_state_between_epochs_goes_on_with_the_next() -> None:
    before = started(2, batches=3)
    before.end(before.history[-1])
    epochs = Epochs()
    epochs.load_state_dict(before.state_dict(), within=False)
    assert place(epochs) == (2, 2, 0, False)


def test_setting_another_epoch_drops_the_rest_of_this_one() -> None:
    for number, kept in ((1, True), (0, False), (2, False)):
        epochs = Epochs()
        epochs.load_state_dict(started(2, batches=3).state_dict(), within=True)
        epochs.set(number)
        assert place(epochs) == (number, number, 3 if kept else 0, kept)


def test_a_state_is_a_copy() -> None:
    epochs = started(1)
    state = epochs.state_dict()
    epochs.history[0]["noise_rate"] = 0.5
    assert state["history"][0]["noise_rate"] is None
