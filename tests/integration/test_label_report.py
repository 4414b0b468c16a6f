"""The loader's report on labels: against NumPy, at any time, from any number of processes, and without a trace."""

import copy
import warnings
from collections.abc import Iterator
from functools import partial
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from integration.processes import results_of
from integration.test_votes import representations, shares
from judgment_reference import judgment
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, Sampler, Subset, SubsetRandomSampler
from toy import MLP, NUM_CLASSES, Points, mlp

from mixnn_loader import CorrectedLabels, LabelReport, MixNNDataLoader, MixNNLoss, recipes
from mixnn_loader.method.judgment import Judgment, judge
from mixnn_loader.method.votes import num_voters

UNTRAINED = "no batch of this loader has been trained on"
pytestmark = pytest.mark.filterwarnings(f"ignore:{UNTRAINED}")

EPOCHS = 6
KINDS: dict[str, dict[str, Any]] = {
    "robust": recipes.robust(EPOCHS),
    "paper": {**recipes.paper(EPOCHS), "search": "exact"},
    "batch": {"epochs": EPOCHS, "neighbors": "batch", "scan": "running"},
}


class Training:
    """A small training, step by step."""

    def __init__(self, arguments: dict[str, Any], points: Points | None = None) -> None:
        torch.manual_seed(0)
        self.points, self.model = Points(60) if points is None else points, mlp()
        self.loader = MixNNDataLoader(
            self.points, self.model, batch_size=16, shuffle=True, num_classes=NUM_CLASSES, **arguments
        )
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)

    def epochs(self, count: int, looks: Any = None) -> None:
        """Train, and call ``looks`` before each step and after each epoch."""
        criterion = MixNNLoss()
        for _ in range(count):
            for inputs, targets in self.loader:
                if looks is not None:
                    looks()
                loss = criterion(self.model(inputs), targets)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
            if looks is not None:
                looks()


NAMES = ("class_names", "paths", "duplicates", "representations")
"""Attributes that are no numbers, or not asked for."""


def columns(report: LabelReport) -> dict[str, Any]:
    return {name: value for name, value in vars(report).items() if name not in NAMES}


def assert_same(one: LabelReport, other: LabelReport) -> None:
    for name, value in columns(one).items():
        np.testing.assert_array_equal(value, columns(other)[name], err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_says_what_the_neighbors_say_now(kind: str) -> None:
    training = Training(KINDS[kind])
    training.epochs(EPOCHS)
    report = training.loader.label_report(neighbors=4)

    labels = training.points.labels.numpy()
    directions = representations(training.model, training.points)
    votes = shares(directions, labels, num_voters(60, NUM_CLASSES))
    with torch.no_grad():
        logits = copy.deepcopy(training.model).eval()(training.points.inputs)
    predictions = logits.double().softmax(dim=1).numpy()
    history = np.empty(60)
    history[report.indices] = report.label_probability
    posterior, each = judgment(votes, labels, predictions, history)
    clean = posterior[np.arange(60), labels]
    by_index = report.indices.argsort()
    assert report.indices[by_index].tolist() == list(range(60))
    np.testing.assert_allclose(report.clean_probability[by_index], clean, atol=1e-4)
    np.testing.assert_allclose(report.confidence[by_index], posterior.max(axis=1), atol=1e-4)
    assert report.suggested_labels[by_index].tolist() == posterior.argmax(axis=1).tolist()
    assert (np.diff(report.clean_probability) >= 0).all()
    np.testing.assert_allclose(report.readings[by_index], each, atol=1e-4)
    first = 1 - np.column_stack([each, clean])[report.indices[:9]].mean(axis=0)
    np.testing.assert_allclose(report.expected_precision_interval(9), (first.min(), first.max()), atol=1e-4)
    assert report.wrong_labels == pytest.approx(float((1 - clean).sum()), abs=0.01)
    wrong = (1 - np.column_stack([each, clean])).sum(axis=0)
    np.testing.assert_allclose(report.wrong_labels_interval, (wrong.min(), wrong.max()), atol=0.01)

    distances = np.linalg.norm(directions[:, None] - directions[None], axis=2) + 9 * np.eye(60)
    nearest = np.sort(distances, axis=1)[:, :4]
    found = np.take_along_axis(distances, report.neighbors[by_index], axis=1)
    np.testing.assert_allclose(found, nearest, atol=1e-5)
    assert (report.neighbor_labels == labels[report.neighbors]).all()
    agreeing = (report.neighbor_labels == report.suggested_labels[:, None]).mean(axis=1)
    np.testing.assert_allclose(report.agreement, agreeing, rtol=1e-6)

    losses = nn.functional.cross_entropy(logits, training.points.labels, reduction="none").numpy()
    np.testing.assert_allclose(report.losses, losses[report.indices], rtol=1e-4, atol=1e-6)


def test_finds_the_wrong_labels() -> None:
    points = Points(300)
    training = Training({"epochs": 20, **recipes.robust(20)}, points)
    training.epochs(20)
    report = training.loader.label_report()
    is_wrong = (points.labels != points.true_labels).numpy()[report.indices]
    assert (report.is_issue == is_wrong).mean() > 0.95
    assert is_wrong[: is_wrong.sum()].mean() > 0.9
    right_suggestions = report.suggested_labels == points.true_labels.numpy()[report.indices]
    assert right_suggestions[is_wrong].mean() > 0.9
    assert abs(report.wrong_labels - is_wrong.sum()) < 10
    assert report.transition.argmax(axis=1).tolist() == [0, 1, 2]
    # A fifth of the labels was made the next one.
    off_diagonal = report.transition - np.diag(report.transition.diagonal())
    assert off_diagonal.argmax(axis=1).tolist() == [1, 2, 0]


def test_labels_whose_probability_is_the_same_are_in_the_order_of_suspicion(monkeypatch: pytest.MonkeyPatch) -> None:
    suspicion = torch.rand(60, generator=torch.Generator().manual_seed(0))

    def rounded(*evidence: torch.Tensor) -> Judgment:
        found = judge(*evidence)
        return found._replace(probabilities=torch.full_like(found.probabilities, 1 / NUM_CLASSES), suspicion=suspicion)

    monkeypatch.setattr("mixnn_loader.run.make_report.judge", rounded)
    training = Training(KINDS["robust"])
    training.epochs(1)
    report = training.loader.label_report()
    assert report.indices.tolist() == suspicion.argsort(descending=True).tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_the_training_goes_on_as_if_it_had_not_been_asked(kind: str) -> None:
    asked = Training(KINDS[kind])
    asked.loader.label_report()
    asked.epochs(3, asked.loader.label_report)
    plain = Training(KINDS[kind])
    plain.epochs(3)
    for one, other in zip(asked.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(one, other)
    one, other = asked.loader.state_dict()["samples"], plain.loader.state_dict()["samples"]
    for name, rows in one.items():
        torch.testing.assert_close(rows, other[name], rtol=0, atol=0, equal_nan=True, msg=name)


def test_after_resuming_it_is_the_same() -> None:
    training, resumed = Training(KINDS["robust"]), Training(KINDS["robust"])
    training.epochs(3)
    resumed.model.load_state_dict(training.model.state_dict())
    resumed.loader.load_state_dict(training.loader.state_dict())
    assert_same(training.loader.label_report(), resumed.loader.label_report())
    report = training.loader.label_report(representations=True)
    assert report.wrong_event_share.max() > 0
    expected = representations(training.model, training.points)[report.indices]
    assert report.representations is not None
    np.testing.assert_allclose(report.representations, expected, atol=1e-5)


def test_the_history_is_of_what_was_predicted() -> None:
    training = Training({"epochs": EPOCHS, "warmup_epochs": 1, "neighbors": "random"})
    training.epochs(1)
    report = training.loader.label_report()
    assert np.isnan([report.wrong_event_share, report.label_probability]).all()
    wrong, given = torch.zeros(60), torch.zeros(60)
    for epoch in range(1, 5):
        model = copy.deepcopy(training.model).eval()
        with torch.no_grad():
            logits = model(training.points.inputs)
        wrong += logits.argmax(dim=1) != training.points.labels
        given += logits.softmax(dim=1)[torch.arange(60), training.points.labels]
        training.epochs(1)
        report = training.loader.label_report()
        np.testing.assert_allclose(report.wrong_event_share, (wrong / epoch).numpy()[report.indices])
        np.testing.assert_allclose(report.label_probability, (given / epoch).numpy()[report.indices], rtol=1e-4)
    assert 0 < wrong.sum() < 60 * 4


def test_only_training_data_is_reported() -> None:
    points, model = Points(60), mlp()
    members = list(range(0, 60, 2))
    torch.manual_seed(0)
    loader = MixNNDataLoader(Subset(points, members), model, batch_size=8, shuffle=True)
    assert sorted(loader.label_report().indices.tolist()) == list(range(30))
    sampler = SubsetRandomSampler(members)
    loader = MixNNDataLoader(points, model, batch_size=8, sampler=sampler)
    report = loader.label_report()
    assert sorted(report.indices.tolist()) == members
    assert set(report.neighbors.flatten().tolist()) <= set(members)


def test_files_names_and_twins_of_the_dataset() -> None:
    class Files(Points):
        classes = ("left", "right", "up")

        def __init__(self) -> None:
            super().__init__(40)
            self.paths = [Path(f"{index}.png") for index in range(40)]
            self.inputs[31], self.labels[31], self.labels[8] = self.inputs[8], 0, 1

    torch.manual_seed(0)
    points, model = Files(), mlp()
    members = list(range(5, 40))
    loader = MixNNDataLoader(points, model, batch_size=8, sampler=SubsetRandomSampler(members))
    report = loader.label_report()
    assert report.paths == [f"{index}.png" for index in report.indices]
    assert report.class_names == ["left", "right", "up"]
    assert [8, 31] in [group.tolist() for group in report.duplicates]
    assert len(report.corrected_labels()) == report.dataset_length == 40
    assert (report.corrected_labels()[:5] == -1).all()
    assert len(CorrectedLabels(points, report.corrected_labels())) == 40


def test_where_the_layer_says_nothing_nobody_is_like_another() -> None:
    model = mlp()
    with torch.no_grad():
        dict(model.named_parameters())["body.0.bias"].fill_(-100)
    report = MixNNDataLoader(Points(30), model, batch_size=8).label_report()
    assert report.duplicates == []


def test_what_is_not_finite_is_left_out() -> None:
    points = Points(60)
    points.inputs[7] = torch.nan
    training = Training(KINDS["robust"], points)
    with pytest.warns(UserWarning, match="1 of 60 samples have a NaN or infinite loss or representation; the report"):
        report = training.loader.label_report()
    assert 7 not in report.indices
    assert 7 not in report.neighbors
    assert (len(report), report.num_samples) == (59, 59)
    points.inputs[:] = torch.nan
    with pytest.raises(RuntimeError, match="no sample a finite loss and representation: there is nothing to report"):
        training.loader.label_report()


def test_a_report_before_any_training_says_so() -> None:
    model = mlp()
    loader = MixNNDataLoader(Points(), model, batch_size=20)
    with pytest.warns(UserWarning, match=UNTRAINED):
        loader.label_report()
    for batch in loader:
        MixNNLoss()(model(batch.inputs), batch)
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=UNTRAINED)
            loader.label_report()


def test_few_samples_and_wrong_arguments() -> None:
    model = mlp()
    loader = MixNNDataLoader(Points(3), model, batch_size=3, num_neighbors=0)
    report = loader.label_report(neighbors=50)
    assert report.neighbors.shape == (3, 2)
    for wrong in (0, -1, 2.5, None):
        with pytest.raises(ValueError, match="neighbors must be an integer >= 1"):
            loader.label_report(neighbors=wrong)  # type: ignore[arg-type]


class Stream(Sampler[int]):
    """Draws what comes, and cannot be copied."""

    def __init__(self) -> None:
        self._coming = (index for index in range(9))

    def __iter__(self) -> Iterator[int]:
        return self._coming


def test_one_sample_alone_and_none_at_all() -> None:
    report = MixNNDataLoader(Points(1), mlp(), batch_size=1, num_neighbors=0).label_report()
    assert report.neighbors.shape == (1, 0)
    assert report.clean_probability[0] == pytest.approx(float(np.exp(-report.losses[0])), rel=1e-4)
    loader = MixNNDataLoader(DataLoader(Points(9), sampler=Stream(), batch_size=3), mlp())
    with pytest.raises(
        RuntimeError, match=r"nothing to report before the first epoch: nothing has been drawn yet.*members= does"
    ):
        loader.label_report()


def _of_two(rank: int, size: int) -> dict[str, Any]:
    torch.manual_seed(0)
    points, model = Points(60), mlp()
    sampler: Any = DistributedSampler(points, size, rank)
    loader = MixNNDataLoader(points, model, batch_size=8, sampler=sampler, **KINDS["robust"])
    return columns(loader.label_report())


def test_several_processes_get_the_report_of_one(tmp_path: Path) -> None:
    one = MixNNDataLoader(Points(60), mlp(), batch_size=8, **KINDS["robust"]).label_report()
    for part in results_of(_of_two, 2, tmp_path):
        for name, value in columns(one).items():
            np.testing.assert_allclose(part[name], value, err_msg=name, rtol=1e-5, atol=1e-6)


def _trained_by_two(rank: int, size: int, num_batches: int = 12) -> tuple[dict[str, Any], int]:
    """Train for so many batches of each process, four an epoch."""
    torch.manual_seed(0)
    points, model = Points(60), mlp()
    sampler: Any = DistributedSampler(points, size, rank, shuffle=False)
    loader = MixNNDataLoader(points, model, batch_size=8, sampler=sampler, **KINDS["batch"] | {"warmup_epochs": 1})
    optimizer, criterion = torch.optim.SGD(model.parameters(), lr=1e-9), MixNNLoss()
    for inputs, targets in islice(chain.from_iterable(repeat(loader)), num_batches):
        optimizer.zero_grad()
        criterion(model(inputs), targets).backward()
        optimizer.step()
    with torch.no_grad():
        other = model.eval()(points.inputs).argmax(dim=1) != points.labels
    before = loader.state_dict()["samples"]
    report = loader.label_report()
    for name, rows in loader.state_dict()["samples"].items():
        torch.testing.assert_close(rows, before[name], rtol=0, atol=0, equal_nan=True, msg=name)
    return columns(report), int(other.sum())


@pytest.mark.parametrize("num_batches", [12, 10], ids=["after an epoch", "within an epoch"])
def test_several_processes_know_the_whole_history(tmp_path: Path, num_batches: int) -> None:
    (one, wrong), (other, _) = results_of(partial(_trained_by_two, num_batches=num_batches), 2, tmp_path)
    assert not np.isnan(one["wrong_event_share"]).any()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)
    assert one["wrong_event_share"].sum() == pytest.approx(wrong, abs=6)  # only BatchNorm's averages change


def test_the_model_is_left_as_it_was() -> None:
    training = Training(KINDS["paper"])
    training.epochs(1)
    before = {name: value.clone() for name, value in training.model.state_dict().items()}
    training.model.train()
    training.loader.label_report()
    assert isinstance(training.model, MLP)
    assert training.model.training
    assert all(torch.equal(value, before[name]) for name, value in training.model.state_dict().items())
