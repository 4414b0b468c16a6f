"""Tokens and categories: a layer's output is mixed in the training step, as if the inputs had been it."""

import copy
import gc
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, Dataset
from toy import NUM_CLASSES

from mixnn_loader import MixNNDataLoader, MixNNLoss, recipes
from mixnn_loader.functional import Credibility, Estimate, Evidence

NUM_TOKENS, LENGTH, WIDTH, N, B = 12, 5, 6, 40, 8
MODES = pytest.mark.parametrize(
    "mode",
    [
        {"num_neighbors": 2},
        {"neighbors": "batch"},
        {"neighbors": "random", "weighting": "beta", "scan": "running"},
        recipes.robust(epochs=4),
    ],
    ids=["dataset", "batch", "random", "robust"],
)


class Texts(Dataset[Any]):
    """Token ids (5,), more often of a sample's class, or what an embedding gives for them (5, 6)."""

    def __init__(self, embedding: nn.Embedding | None = None) -> None:
        generator = torch.Generator().manual_seed(0)
        self.labels = torch.arange(N) % NUM_CLASSES
        self.ids = torch.randint(NUM_TOKENS, (N, LENGTH), generator=generator)
        self.ids[:, :3] = self.ids[:, :3] // NUM_CLASSES * NUM_CLASSES + self.labels[:, None]
        self.embedding = embedding

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> Any:
        rows = self.ids[index]
        if self.embedding is not None:
            with torch.no_grad():
                return self.embedding(rows), int(self.labels[index])
        return rows, int(self.labels[index])


class Classifier(nn.Module):
    """The mean over a text, and a hidden layer; tokens are embedded before."""

    def __init__(self, *, embeds: bool = True) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            embedding = nn.Embedding(NUM_TOKENS, WIDTH)
            self.body = nn.Sequential(nn.Linear(WIDTH, 8), nn.ReLU())
            self.head = nn.Linear(8, NUM_CLASSES)
        self.embedding: nn.Module = embedding if embeds else nn.Identity()

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(self.embedding(inputs).mean(dim=1)))
        return logits


def loader_of(model: nn.Module, data: Dataset[Any] | None = None, **arguments: Any) -> MixNNDataLoader:
    settings: dict[str, Any] = {"warmup_epochs": 1, "correction_epoch": 2, "mix_layer": "embedding"}
    plain = DataLoader(Texts() if data is None else data, B, shuffle=True, generator=torch.Generator().manual_seed(1))
    return MixNNDataLoader(plain, model, **(settings | arguments))


def step(model: Callable[[Any], Tensor], batch: Any, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    MixNNLoss()(model(batch.inputs), batch).backward()
    optimizer.step()


def trained(
    model: Any, loader: MixNNDataLoader, epochs: int = 4, parameters: list[nn.Parameter] | None = None
) -> list[Tensor]:
    """Train; return everything that is known at the end."""
    if parameters is None:
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9)
    for _ in range(epochs):
        for batch in loader:
            step(model, batch, optimizer)
    return [loader.losses, loader.soft_targets, loader.clean_probability, *parameters]


@MODES
def test_is_the_same_as_mixing_what_the_layer_gives(mode: dict[str, Any]) -> None:
    model, other = Classifier(), Classifier(embeds=False)
    assert isinstance(model.embedding, nn.Embedding)
    model.embedding.requires_grad_(requires_grad=False)  # else what it gives would change
    embedded = Texts(copy.deepcopy(model.embedding))
    own = trained(model, loader_of(model, **mode))
    expected = trained(other, loader_of(other, embedded, **(mode | {"mix_layer": None})))
    for one, two in zip(own, expected, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5, equal_nan=True)


@MODES
def test_a_batch_has_rows_for_what_the_layer_needs(mode: dict[str, Any]) -> None:
    model = Classifier()
    loader, texts = loader_of(model, **mode), Texts()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for epoch in range(2):
        for batch in loader:
            groups = batch.targets.groups
            is_beside = epoch > 0 and mode.get("neighbors", "dataset") in ("dataset", "random")
            rows = torch.cat([groups[:, 0], groups[:, 1:].flatten()]) if is_beside else groups[:, 0]
            assert torch.equal(batch.inputs, texts.ids[rows])
            assert batch.targets.mixed.shape == (len(groups), NUM_CLASSES)
            step(model, batch, optimizer)


@MODES
def test_the_embedding_is_trained_and_the_loader_goes_on_after_a_state(mode: dict[str, Any]) -> None:
    model = Classifier()
    before = copy.deepcopy(model.embedding.state_dict())
    loader = loader_of(model, **mode)
    trained(model, loader, 3)
    assert not torch.equal(before["weight"], model.embedding.state_dict()["weight"])
    other = copy.deepcopy(model)
    resumed = loader_of(other, **mode)
    resumed.load_state_dict(loader.state_dict())
    for one, two in zip(trained(model, loader, 1), trained(other, resumed, 1), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=0, equal_nan=True)


def hooks_of(model: nn.Module) -> list[Any]:
    names = ("_forward_hooks", "_forward_pre_hooks")
    return [hook for module in model.modules() for name in names for hook in vars(module)[name].values()]


def mixing(**arguments: Any) -> tuple[Classifier, MixNNDataLoader, torch.optim.Optimizer]:
    """A model and its loader after warm-up."""
    model = Classifier()
    loader = loader_of(model, **arguments)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for batch in loader:
        step(model, batch, optimizer)
    return model, loader, optimizer


@MODES
def test_outside_of_training_batches_the_model_is_as_it_was(mode: dict[str, Any]) -> None:
    model, loader, optimizer = mixing(**mode)
    assert hooks_of(model) == []
    twin = copy.deepcopy(model)
    batches = iter(loader)
    batch = next(batches)
    assert len(hooks_of(model)) >= 3
    model.eval()
    twin.eval()
    with torch.no_grad():
        assert torch.equal(model(batch.inputs), twin(batch.inputs))
    ids = Texts().ids[: len(batch.inputs)].clone()
    model.train()
    twin.train()
    assert torch.equal(model(ids), twin(ids))  # other data, as many, in the midst of a training step
    with torch.no_grad():  # an evaluation, for which the model was left in train mode
        assert torch.equal(model(ids), twin(ids))
    average = copy.deepcopy(model)  # as one makes for an average of its weights
    assert torch.equal(average(batch.inputs), twin(batch.inputs))
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    assert torch.equal(torch.load(buffer, weights_only=False)(batch.inputs), twin(batch.inputs))
    step(model, batch, optimizer)
    for batch in batches:
        step(model, batch, optimizer)
    del batch
    assert hooks_of(model) == []


@pytest.mark.parametrize("leave", ["break", "drop", "state"])
@pytest.mark.parametrize("trains", [False, True])
def test_nothing_is_left_on_the_model(leave: str, trains: bool) -> None:
    model, loader, optimizer = mixing()
    state = loader.state_dict()
    batches = iter(loader)
    batch = next(batches)
    if trains:
        step(model, batch, optimizer)
    del batch
    if leave == "state":
        loader.load_state_dict(state)
    elif leave == "break":
        batches.close()  # type: ignore[attr-defined]
    else:
        del loader, batches
        gc.collect()
    assert hooks_of(model) == []


def test_several_layers_and_a_module() -> None:
    class Table(nn.Module):
        """Two category columns, an embedding each, and numbers."""

        def __init__(self) -> None:
            super().__init__()
            self.columns = nn.ModuleList([nn.Embedding(4, 3), nn.Embedding(5, 3)])
            self.body = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
            self.head = nn.Linear(8, 2)

        def forward(self, rows: dict[str, Tensor]) -> Tensor:
            parts = [column(rows["category"][:, i]) for i, column in enumerate(self.columns)]
            logits: Tensor = self.head(self.body(torch.cat([*parts, rows["number"]], dim=1)))
            return logits

    class Rows(Dataset[Any]):
        def __len__(self) -> int:
            return 24

        def __getitem__(self, index: int) -> Any:
            category = torch.tensor([index % 4, index % 5])
            return {"category": category, "number": torch.tensor([index / 24, 1.0])}, index % 2

    for neighbors in ("dataset", "random-batch"):
        model = Table()
        layers = [model.columns[0], "columns.1"]
        loader = loader_of(model, Rows(), mix_layer=layers, neighbors=neighbors)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(2):
            for batch in loader:
                assert len(batch.inputs["number"]) == len(batch.targets)
                step(model, batch, optimizer)
        assert loader.history[1]["phase"] == "mixing"


class Checkpointed(Classifier):
    """Computes everything twice."""

    use_reentrant = False

    def forward(self, inputs: Tensor) -> Tensor:
        anchor = torch.ones(1, requires_grad=True)  # without an input that takes gradients nothing would be computed
        logits: Tensor = checkpoint(
            lambda rows, _: super(Checkpointed, self).forward(rows), inputs, anchor, use_reentrant=self.use_reentrant
        )
        return logits


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_under_checkpointing(use_reentrant: bool) -> None:
    model, other = Classifier(), Checkpointed()
    other.use_reentrant = use_reentrant
    expected = trained(model, loader_of(model))
    for one, two in zip(trained(other, loader_of(other)), expected, strict=True):
        torch.testing.assert_close(one, two, equal_nan=True)


def test_under_autocast() -> None:
    model = Classifier()

    def in_bfloat16(inputs: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits: Tensor = model(inputs)
        return logits

    loader = loader_of(model, mix_layer="body.0", mix="layer", autocast_dtype=torch.bfloat16)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        for batch in loader:
            step(in_bfloat16, batch, optimizer)
    assert loader.losses.isfinite().all()


def test_inside_of_distributed_data_parallel(tmp_path: Path) -> None:
    expected = trained(plain := Classifier(), loader_of(plain))
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        model = DistributedDataParallel(Classifier())
        found = trained(model, loader_of(model))
    finally:
        torch.distributed.destroy_process_group()
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two, equal_nan=True)


def test_images_can_be_mixed_at_a_hidden_layer() -> None:
    """Manifold mixup: the output of a layer is averaged, whatever the inputs are."""
    model = Classifier(embeds=False)
    embedded = Texts(nn.Embedding(NUM_TOKENS, WIDTH))
    seen = []
    model.head.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[0]) if model.training else None)
    loader = loader_of(model, embedded, mix_layer=model.body, mix="layer")
    trained(model, loader, 2)
    assert set(seen) == {B}


def test_a_training_step_that_passes_the_layer_by_is_told_of() -> None:
    model, loader, optimizer = mixing()
    model.eval()
    batches = iter(loader)
    own = next(batches)
    optimizer.zero_grad()
    MixNNLoss()(model(own.inputs)[: len(own.targets)], own).backward()
    with pytest.raises(RuntimeError, match=r"a batch was trained on that did not reach every layer"):
        next(batches)
    assert hooks_of(model) == []


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"mix_layer": "embeddings"},
            ValueError,
            r"mix_layer 'embeddings' is not in the model; its embeddings: 'embedd",
        ),
        ({"mix_layer": nn.Embedding(2, 2)}, ValueError, r"mix_layer Embedding is not one of the model's modules"),
        ({"mix_layer": []}, ValueError, r"mix_layer must name a layer, got none"),
        ({"mix_layer": ["body", "body.0"]}, ValueError, r"mix_layer has 'body' and a layer within it"),
        ({"mix_layer": ""}, ValueError, r"mix_layer '' is not in the model"),
        ({"mix_layer": 3}, TypeError, r"mix_layer must be a module of the model, its dotted name, or several, got 3"),
        ({"mix_layer": None, "mix": "layer"}, ValueError, r"no layer mixes its output; pass mix_layer="),
    ],
)
def test_a_layer_that_cannot_mix_is_refused_at_once(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        loader_of(Classifier(), **arguments)


def test_compiled_models_are_refused() -> None:
    with pytest.raises(ValueError, match=r"mix_layer= is for models that are not compiled"):
        loader_of(cast(nn.Module, torch.compile(Classifier(), backend="eager")))
    in_place = Classifier()
    in_place.compile(backend="eager")
    with pytest.raises(ValueError, match=r"mix_layer= is for models that are not compiled"):
        loader_of(in_place)


def test_what_a_layer_gives_is_checked_in_the_first_batch() -> None:
    class Tuples(Classifier):
        def __init__(self) -> None:
            super().__init__()
            self.recurrent = nn.GRU(WIDTH, WIDTH, batch_first=True)

        def forward(self, inputs: Tensor) -> Tensor:
            logits: Tensor = self.head(self.body(self.recurrent(self.embedding(inputs))[0].mean(dim=1)))
            return logits

    with pytest.raises(
        TypeError, match=r"output of mix_layer 'recurrent' must be a floating-point tensor .* got tuple"
    ):
        next(iter(loader_of(Tuples(), mix_layer="recurrent")))

    class Listed(Classifier):
        def __init__(self) -> None:
            super().__init__()
            self.others = nn.ModuleList([nn.Embedding(2, 2)])

    with pytest.raises(
        ValueError, match=r"mix_layer 'others' is not called .* of a ModuleList or ModuleDict its members"
    ):
        next(iter(loader_of(Listed(), mix_layer=["embedding", "others"])))

    class TimeFirst(Classifier):
        def forward(self, inputs: Tensor) -> Tensor:
            logits: Tensor = self.head(self.body(self.embedding(inputs.T).mean(dim=0)))
            return logits

    with pytest.raises(ValueError, match=r"a row for each of the 16 that the batch has, got shape \(5, 16, 6\)"):
        next(iter(loader_of(TimeFirst())))


class Masked(Classifier):
    """Pads are left out of the mean: by a mask that the model makes of the ids."""

    def forward(self, inputs: Tensor) -> Tensor:
        kept = (inputs > NUM_TOKENS // 2).float().unsqueeze(2)
        text = (kept * self.embedding(inputs)).sum(dim=1) / (kept.sum(dim=1) + 1)
        logits: Tensor = self.head(self.body(text))
        return logits


class TwoEmbeddings(Classifier):
    """A second embedding takes the same ids."""

    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Embedding(NUM_TOKENS, WIDTH)

    def forward(self, inputs: Tensor) -> Tensor:
        text = self.embedding(inputs).mean(dim=1) + self.second(inputs).mean(dim=1)
        logits: Tensor = self.head(self.body(text))
        return logits


@pytest.mark.parametrize("model", [Masked, TwoEmbeddings])
def test_inputs_that_pass_the_layer_by_are_told_of_in_the_first_batch(model: type[Classifier]) -> None:
    torch.manual_seed(0)
    with pytest.warns(UserWarning, match="mix_layer 'embedding' is not all that the inputs go by") as caught:
        next(iter(loader_of(model(), neighbors="random-batch")))
    named = "embedding ('second') of samples has to be named, too" in str(caught[0].message)
    assert named == (model is TwoEmbeddings)
    with pytest.raises(
        RuntimeError, match=r"cannot be called .* mixed in mix_layer 'embedding' .*must match.*='random-batch'"
    ):
        next(iter(loader_of(model(), neighbors="random")))


class Biased(TwoEmbeddings):
    """One class is far more likely than the others, and one is ruled out: small beside that, samples differ."""

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs) + torch.tensor([20.0, 0.0, *([-torch.inf] * (NUM_CLASSES - 2))])


class Unused(Classifier):
    """What the layer gives is thrown away."""

    def forward(self, inputs: Tensor) -> Tensor:
        self.embedding(inputs)
        logits: Tensor = self.head(self.body(inputs[:, :1].float().expand(-1, WIDTH)))
        return logits


class Random(Classifier):
    """Draws even in eval mode, and normalizes by the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(WIDTH, track_running_stats=False)

    def forward(self, inputs: Tensor) -> Tensor:
        text = nn.functional.dropout(self.embedding(inputs), training=True).mean(dim=1)
        logits: Tensor = self.head(self.body(self.norm(text)))
        return logits


@pytest.mark.parametrize("neighbors", ["random-batch", "random"])
def test_only_what_tells_samples_apart_counts(neighbors: str) -> None:
    torch.manual_seed(0)
    with pytest.warns(UserWarning, match="is not all that the inputs go by"):
        next(iter(loader_of(Unused(), neighbors=neighbors)))
    if neighbors == "random-batch":
        with pytest.warns(UserWarning, match="is not all that the inputs go by"):
            next(iter(loader_of(Biased(), neighbors=neighbors, num_classes=NUM_CLASSES)))
    next(iter(loader_of(Random(), neighbors=neighbors)))


class WithNumbers(Texts):
    """Token ids and numbers, to be prepared."""

    def __getitem__(self, index: int) -> Any:
        rows, label = super().__getitem__(index)
        return {"ids": rows, "numbers": rows.float()}, label


@MODES
def test_inputs_are_prepared_for_the_loader_s_own_passes(mode: dict[str, Any]) -> None:
    class Both(Classifier):
        def forward(self, inputs: Any) -> Tensor:
            text = self.embedding(inputs["ids"]).mean(dim=1) + inputs["numbers"].mean(dim=1, keepdim=True)
            logits: Tensor = self.head(self.body(text))
            return logits

    def halved(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return {**inputs, "numbers": inputs["numbers"] / 2}

    model = Both()
    loader = loader_of(model, WithNumbers(), prepare=halved, **mode)
    trained(lambda inputs: model(halved(inputs)), loader, parameters=list(model.parameters()))
    assert loader.history[-1]["phase"] == "correction"


def test_out_of_memory_stays_what_it_is() -> None:
    class Large(Classifier):
        calls = 0

        def forward(self, inputs: Tensor) -> Tensor:
            self.calls += 1
            if self.calls == 3:  # the scan, the neighbors alone, and now the mix
                raise torch.OutOfMemoryError("out of memory")
            return super().forward(inputs)

    with pytest.raises(torch.OutOfMemoryError, match=r"^out of memory$"):
        next(iter(loader_of(Large(), neighbors="random-batch", scan="running", num_classes=NUM_CLASSES)))


def test_layers_by_which_all_goes_are_not_warned_of() -> None:
    next(iter(loader_of(TwoEmbeddings(), neighbors="random-batch", mix_layer=["embedding", "second"])))
    next(iter(loader_of(TwoEmbeddings(), neighbors="random", mix_layer=["embedding", "second"])))
    next(iter(loader_of(Masked(), neighbors="random-batch", mix_layer="body")))  # all that matters is mixed there


def test_a_single_batch_can_be_trained_on() -> None:
    model, loader, optimizer = mixing()
    batch = next(iter(loader))
    step(model, batch, optimizer)
    batches = iter(loader)
    step(model, next(batches), optimizer)


@MODES
@pytest.mark.parametrize("ahead", [2, 3])
def test_batches_that_are_fetched_ahead_are_mixed_each_in_its_way(mode: dict[str, Any], ahead: int) -> None:
    found = []
    for group in (1, ahead):
        model = Classifier()
        model.embedding.requires_grad_(requires_grad=False)
        seen: list[Tensor] = []
        model.body.register_forward_pre_hook(
            lambda module, args, seen=seen: seen.append(args[0].detach().clone()) if module.training else None
        )
        loader = loader_of(model, **(mode | {"momentum": 1.0, "credibility": Unsure()}))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        for _ in range(3):
            batches = iter(loader)
            while some := [batch for _, batch in zip(range(group), batches, strict=False)]:
                for batch in some:
                    step(model, batch, optimizer)
        found.append(seen)
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_batches_that_are_parts_of_one_tensor_are_told_apart() -> None:
    texts, model = Texts(), Classifier()
    assert isinstance(model.embedding, nn.Embedding)
    loader = MixNNDataLoader(
        DataLoader(texts, B, collate_fn=lambda samples: as_slice(texts.ids, samples)),
        model,
        warmup_epochs=0,
        neighbors="random-batch",
        weighting="beta",
        mix_layer="embedding",
    )
    seen: list[Tensor] = []
    model.body.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()) if model.training else None)
    batches = list(loader)
    assert len({batch.inputs.untyped_storage().data_ptr() for batch in batches}) == 1
    for batch in batches:
        model(batch.inputs)
    for batch, found in zip(batches, seen, strict=True):
        own = nn.functional.embedding(batch.inputs, model.embedding.weight)
        places = batch.targets.neighbors - batch.targets.indices[0]
        weights = batch.targets.weights
        mixed = weights[:, :1, None] * own + weights[:, 1:, None] * own[places[:, 0]]
        torch.testing.assert_close(found, mixed.mean(dim=1))


def as_slice(everything: Tensor, samples: list[Any]) -> Any:
    """Collate samples that follow one another as a view of a tensor of all."""
    rows, labels = zip(*samples, strict=True)
    places = [row.storage_offset() // LENGTH for row in rows]
    follow = places == list(range(places[0], places[0] + len(places)))  # not in a scan, whose order is random
    return everything[places[0] : places[-1] + 1] if follow else torch.stack(rows), torch.tensor(labels)


class Unsure(Credibility):
    """Every label is as credible as any other, whatever the model says."""

    def estimate(self, evidence: Evidence, warn: Any) -> Estimate:
        del warn
        return Estimate(torch.full((len(evidence.losses),), -0.7), mixture=None)


@MODES
def test_a_batch_that_was_copied_is_told_of(mode: dict[str, Any]) -> None:
    model, loader, optimizer = mixing(**mode)
    batches = iter(loader)
    batch = next(batches)
    logits = model(batch.inputs.clone())
    if len(logits) > len(batch.targets):
        with pytest.raises(ValueError, match=r"a row for each sample and each of its neighbors: nothing was mixed"):
            MixNNLoss()(logits, batch)
        return
    MixNNLoss()(logits, batch).backward()
    optimizer.step()
    with pytest.raises(
        RuntimeError, match=r"trained on that did not reach .* give it the inputs as they were handed out"
    ):
        next(batches)


def test_a_loop_that_copies_is_told_in_warm_up() -> None:
    model = Classifier()
    batches = iter(loader_of(model, **recipes.robust(epochs=20)))
    batch = next(batches)
    MixNNLoss()(model(batch.inputs.clone()), batch).backward()
    with pytest.raises(RuntimeError, match=r"did not reach every layer of mix_layer= as it was"):
        next(batches)


def mixes(model: Classifier, batch: Any) -> Tensor:
    """What the layer's output has to be mixed to, (B, ...), by the batch's own weights."""
    assert isinstance(model.embedding, nn.Embedding)
    rows = nn.functional.embedding(Texts().ids[batch.targets.groups], model.embedding.weight)
    return torch.einsum("bk,bkld->bld", batch.targets.weights, rows).mean(dim=1)


def watched(model: Classifier) -> list[Tensor]:
    """What comes to the hidden layer in train mode, call by call."""
    seen: list[Tensor] = []
    model.body.register_forward_pre_hook(
        lambda module, args: seen.append(args[0].detach().clone()) if module.training else None
    )
    return seen


@MODES
@pytest.mark.parametrize("ahead", [1, 2])
def test_a_rolling_prefetch_over_the_ends_of_epochs(mode: dict[str, Any], ahead: int) -> None:
    model = Classifier()
    loader, seen = loader_of(model, **mode), watched(model)

    def forever() -> Any:
        while True:
            yield from loader

    stream, waiting = forever(), list[Any]()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(25):
        while len(waiting) <= ahead:
            waiting.append(next(stream))
        batch = waiting.pop(0)
        expected = mixes(model, batch).detach()
        step(model, batch, optimizer)
        torch.testing.assert_close(seen.pop(), expected)


@MODES
def test_other_data_go_through_unmixed(mode: dict[str, Any]) -> None:
    model, loader, optimizer = mixing(**mode)
    twin, others = copy.deepcopy(model), Texts().ids
    for number, batch in enumerate(loader):
        if number == 2:
            break
        twin.load_state_dict(model.state_dict())
        for rows in (len(batch.inputs), len(batch.targets)):
            assert torch.equal(model(others[:rows].clone()), twin(others[:rows].clone()))
        step(model, batch, optimizer)
    twin.load_state_dict(model.state_dict())
    assert torch.equal(model(others[:B].clone()), twin(others[:B].clone()))


def test_memory_that_is_used_again_is_not_the_batch() -> None:
    model, loader, _ = mixing()
    twin, batches = copy.deepcopy(model), iter(loader)
    for _ in range(3):
        batch = next(batches)
        rows = batch.inputs.clone()
        del batch
        again = [rows.clone() for _ in range(50)]
        for copied in again:
            assert torch.equal(model(copied), twin(copied))


def test_two_loaders_on_one_model() -> None:
    model = Classifier()
    one, other, seen = loader_of(model, **BETA), loader_of(model, **BETA), watched(model)
    for first, second in zip(one, other, strict=True):
        for batch in (second, first):
            expected = mixes(model, batch).detach()
            model(batch.inputs)
            torch.testing.assert_close(seen.pop(), expected)


def test_without_neighbors_any_inputs_will_do() -> None:
    model = Classifier()
    loader = loader_of(model, mix_layer=None, num_neighbors=0, warmup_epochs=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        for batch in loader:
            assert torch.equal(batch.inputs, Texts().ids[batch.targets.indices])
            step(model, batch, optimizer)


BETA: dict[str, Any] = {"warmup_epochs": 0, "neighbors": "random-batch", "weighting": "beta"}


def test_batches_that_are_computed_again_in_one_backward_pass() -> None:
    gradients = []
    for model in (Classifier(), Checkpointed()):
        first, second, *_ = loader_of(model, **BETA)
        loss = MixNNLoss()(model(first.inputs), first) + MixNNLoss()(model(second.inputs), second)
        loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two)


def test_a_batch_that_comes_again_is_mixed_again() -> None:
    model = Classifier()
    loader, seen = loader_of(model, **BETA), watched(model)
    batches = list(loader)
    for batch in (*batches, *reversed(batches)):
        expected = mixes(model, batch).detach()
        model(batch.inputs)
        torch.testing.assert_close(seen.pop(), expected)


def test_a_layer_that_is_named_twice_mixes_once() -> None:
    model = Classifier()
    loader, seen = loader_of(model, mix_layer=["embedding", model.embedding], **BETA), watched(model)
    batch = next(iter(loader))
    expected = mixes(model, batch).detach()
    model(batch.inputs)
    torch.testing.assert_close(seen.pop(), expected)


def test_a_batch_in_pieces_is_refused() -> None:
    model, loader, _ = mixing()
    batches = iter(loader)
    batch = next(batches)
    with pytest.raises(ValueError, match=r"a row for each of the 16 that the batch has, got .* takes a batch .* whole"):
        model(batch.inputs[:4])
