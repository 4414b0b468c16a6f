"""Models of another make than the usual one."""

from collections import OrderedDict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from bad_input.hostile import run, tensors
from torch import Tensor, nn
from torch.utils.data import DataLoader
from toy import MLP, NUM_FEATURES, Points, Samples, mlp

from mixnn_loader import MixNNDataLoader, MixNNLoss, recipes
from mixnn_loader.model.predictor import ModelView


def test_arguments_in_the_wrong_order() -> None:
    model: Any = DataLoader(Points())
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, got DataLoader"):
        MixNNDataLoader(Points(), model)


def test_the_wrong_number_of_classes() -> None:
    with pytest.raises(ValueError, match=r"output is 3 wide, the soft targets are over 7 classes.*num_classes"):
        run(MixNNDataLoader(Points(), mlp(), batch_size=8, num_classes=7))


def test_a_model_without_a_linear_layer_is_told_on_the_first_batch() -> None:
    class Sum(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return inputs[:, :3] + inputs[:, 3:]

    message = "no torch.nn.Linear with 3 outputs was found in Sum; pass feature_layer=, .*; it has no linear layer$"
    with pytest.raises(ValueError, match=message):
        next(iter(MixNNDataLoader(Points(), Sum(), batch_size=8)))
    run(MixNNDataLoader(Points(), Sum(), batch_size=8, neighbors="random", warmup_epochs=1), epochs=2)
    run(MixNNDataLoader(Points(), Sum(), batch_size=8, neighbors="random-batch", warmup_epochs=1), epochs=2)


def test_a_model_that_works_in_place_on_its_input() -> None:
    class InPlace(MLP):
        def forward(self, inputs: Tensor) -> Tensor:
            return super().forward(inputs.sub_(1))

    points = Points()
    before = points.inputs.clone()

    def views(samples: list[Any]) -> Any:
        return points.inputs[:8] if len(samples) == 8 else points.inputs, torch.tensor([y for _, y in samples])

    loader = MixNNDataLoader(
        points, InPlace(), batch_size=40, warmup_epochs=0, correction_epoch=0, num_neighbors=0, collate_fn=views
    )
    for batch in loader:
        torch.testing.assert_close(batch.inputs, before)
    assert torch.equal(points.inputs, before)

    model = InPlace()
    model.load_state_dict(mlp().state_dict())
    twin = MixNNDataLoader(Points(), model, batch_size=8, warmup_epochs=0)
    run(twin)
    shifted = nn.functional.cross_entropy(mlp().eval()(before - 1), points.labels, reduction="none")
    torch.testing.assert_close(twin.losses, shifted.detach())


class Output(OrderedDict[str, Tensor]):
    """A dict whose entries are attributes, too, as transformers' models return it."""

    def __getattr__(self, name: str) -> Tensor:
        if name not in self:
            raise AttributeError(name)
        return self[name]


class Outputs(NamedTuple):
    """What a network with an auxiliary classifier returns."""

    scores: Tensor
    aux_scores: Tensor


class Wrapping(MLP):
    """Returns its logits and features inside of something."""

    def __init__(self, wrap: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.load_state_dict(mlp().state_dict())
        self.wrap = wrap

    def forward(self, inputs: Tensor) -> Any:
        features = self.body(inputs)
        return self.wrap(self.head(features), features)


Adapt = Callable[[nn.Module, Any], tuple[Tensor, Tensor]]


WRAPPED: list[tuple[Callable[[Tensor, Tensor], Any], str, Adapt]] = [
    (
        lambda logits, features: {"maps": features[:, None], "out": logits},
        r"got dict with the keys \['maps', 'out'\]; .* the logits are perhaps model\(inputs\)\['out'\]$",
        lambda model, inputs: ((output := model(inputs))["out"], output["maps"]),
    ),
    (
        Outputs,
        r"got Outputs with the fields \['scores', 'aux_scores'\]; .* the logits are perhaps model\(inputs\)\[0\]$",
        lambda model, inputs: ((output := model(inputs)).scores, output.aux_scores),
    ),
    (
        lambda logits, features: (logits.sum(), logits, features),
        r"got tuple of 3; .* the logits are perhaps model\(inputs\)\[1\]$",
        lambda model, inputs: model(inputs)[1:],
    ),
    (
        lambda logits, features: SimpleNamespace(scores=logits, hidden=features),
        r"got SimpleNamespace; .* the logits are made of model\(inputs\)$",
        lambda model, inputs: ((output := model(inputs)).scores, output.hidden),
    ),
]


@pytest.mark.parametrize(("wrap", "message", "adapt"), WRAPPED)
@pytest.mark.parametrize("feature_layer", [None, "head"])
def test_a_model_that_returns_no_tensor_is_told_how_to_be_adapted(
    wrap: Callable[[Tensor, Tensor], Any], message: str, adapt: Adapt, feature_layer: str | None
) -> None:
    settings: dict[str, Any] = {"batch_size": 8, "warmup_epochs": 1, "correction_epoch": 1}
    start = r"the model must return logits \(B, C\) as one tensor, "
    remedy = r"pass feature_layer=, a function \(model, inputs\) -> \(logits, representations\), in which"
    with pytest.raises(TypeError, match=start + message.replace("; .*", f"; {remedy}")):
        run(MixNNDataLoader(Points(), Wrapping(wrap), feature_layer=feature_layer, **settings))

    adapted = MixNNDataLoader(Points(), Wrapping(wrap), feature_layer=adapt, **settings)
    plain = MixNNDataLoader(Points(), mlp(), **settings)
    run(adapted, epochs=2)
    run(plain, epochs=2)
    assert torch.equal(adapted.losses, plain.losses)
    assert torch.equal(adapted.neighbor_indices, plain.neighbor_indices)
    assert torch.equal(adapted.soft_targets, plain.soft_targets)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda logits, features: Output(loss=logits.sum(), logits=logits, hidden=features),
        lambda logits, features: {"hidden": features, "logits": logits},
        lambda logits, features: SimpleNamespace(logits=logits, hidden=features),
    ],
)
@pytest.mark.parametrize("arguments", [{}, recipes.robust(epochs=3)], ids=["default", "robust"])
def test_logits_that_are_called_so_are_found(wrap: Callable[[Tensor, Tensor], Any], arguments: dict[str, Any]) -> None:
    settings: dict[str, Any] = {"batch_size": 8, "warmup_epochs": 1, "correction_epoch": 1} | arguments
    found = []
    for model in (Wrapping(wrap), mlp()):
        loader, criterion = MixNNDataLoader(Points(), model, **settings), MixNNLoss()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with torch.random.fork_rng():
            torch.manual_seed(0)  # for dropout
            for _ in range(3):
                for inputs, targets in loader:
                    optimizer.zero_grad()
                    criterion(model(inputs), targets).backward()
                    optimizer.step()
        found.append(loader)
    assert torch.equal(found[0].losses, found[1].losses)
    assert torch.equal(found[0].soft_targets, found[1].soft_targets)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_probabilities_in_place_of_logits_are_warned_of(dtype: torch.dtype) -> None:
    class EndsInSoftmax(MLP):
        def forward(self, inputs: Tensor) -> Tensor:
            return super().forward(inputs).softmax(dim=1).to(dtype)

    with pytest.warns(
        UserWarning, match=r"outputs are probabilities: .* leave the softmax at the end of the model out"
    ):
        next(iter(MixNNDataLoader(Points(), EndsInSoftmax(), batch_size=8)))


def test_a_function_whose_logits_are_no_tensor_is_named() -> None:
    model = Wrapping(lambda logits, features: {"scores": logits, "hidden": features})
    message = r"the function passed as feature_layer= must return logits .* got dict with the keys .*\['scores'\]$"
    with pytest.raises(TypeError, match=message):
        run(MixNNDataLoader(Points(), model, feature_layer=lambda model, inputs: (model(inputs), inputs)))


@pytest.mark.parametrize("neighbors", ["dataset", "random"])
def test_representations_that_are_no_tensor_are_named_where_they_are_needed(neighbors: Any) -> None:
    def listed(model: nn.Module, inputs: Tensor) -> Any:
        return model(inputs), [inputs]

    loader = MixNNDataLoader(Points(), mlp(), feature_layer=listed, neighbors=neighbors, batch_size=8)
    if neighbors == "random":
        run(loader)
        return
    with pytest.raises(TypeError, match=r"representations must be one tensor .* 8 inputs, got list of 1; pass another"):
        run(loader)


def test_auxiliary_outputs_that_only_training_has_need_no_adapting() -> None:
    class Inception(MLP):
        """Like torchvision's: a named tuple in training, and the logits alone in eval mode."""

        def __init__(self) -> None:
            super().__init__()
            self.aux = nn.Linear(8, 3)

        def forward(self, inputs: Tensor) -> Any:
            features = self.body(inputs)
            logits = self.head(features)
            return Outputs(logits, self.aux(features)) if self.training else logits

    loader = MixNNDataLoader(Points(), (model := Inception()), batch_size=8, warmup_epochs=0)
    run(loader)
    chosen = MixNNDataLoader(Points(), model, batch_size=8, warmup_epochs=0, feature_layer="head")
    run(chosen)
    assert torch.equal(loader.neighbor_indices, chosen.neighbor_indices)


@pytest.mark.parametrize("feature_layer", [None, lambda model, inputs: (model(inputs), inputs)])
@pytest.mark.parametrize("squeeze", [True, False])
def test_one_output_for_two_classes(feature_layer: Any, squeeze: bool) -> None:
    class Binary(MLP):
        def forward(self, inputs: Tensor) -> Tensor:
            logits = super().forward(inputs)
            return logits.squeeze(1) if squeeze else logits

    who = "the model" if feature_layer is None else "the function passed as feature_layer="
    shape = r"\(8,\)" if squeeze else r"\(8, 1\)"
    with pytest.raises(
        ValueError, match=rf"{who} must return .* two classes or more, got shape {shape}; .* two outputs"
    ):
        run(MixNNDataLoader(Points(), Binary(num_classes=1), feature_layer=feature_layer, batch_size=8))


def test_score_maps() -> None:
    model = nn.Sequential(nn.Unflatten(1, (1, NUM_FEATURES)), nn.Conv1d(1, 3, 1))
    with pytest.raises(ValueError, match=r"logits \(B, C\), got shape \(8, 3, 6\); average over the other dimensions"):
        run(MixNNDataLoader(Points(), model, batch_size=8))


def fully_convolutional() -> nn.Sequential:
    """Ends as SqueezeNet does: a 1x1 convolution for a classifier, then an average."""
    body = nn.Sequential(nn.Unflatten(1, (1, 2, 3)), nn.Conv2d(1, 4, 1), nn.ReLU())
    return nn.Sequential(body, nn.Conv2d(4, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def test_a_convolution_for_a_classifier_can_be_named_as_the_message_says() -> None:
    message = (
        r"no torch\.nn\.Linear with 3 outputs was found in Sequential; pass feature_layer=, .*; "
        r"its convolutions with 3 outputs: '1' \(Conv2d, 4 -> 3\); it has no linear layer$"
    )
    with pytest.raises(ValueError, match=message):
        run(MixNNDataLoader(Points(), fully_convolutional(), batch_size=8))
    loader = MixNNDataLoader(
        Points(), (model := fully_convolutional()), batch_size=8, warmup_epochs=0, feature_layer="1"
    )
    run(loader)
    with torch.no_grad():
        distances = torch.cdist(maps := model[0](Points().inputs).flatten(1), maps).fill_diagonal_(torch.inf)
    assert torch.equal(loader.neighbor_indices[:, 0], distances.argmin(dim=1))


class TwoHeads(MLP):
    """Two classifiers, of which ``combine`` makes the logits."""

    def __init__(self, combine: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.second = nn.Linear(NUM_FEATURES, 3)
        self.combine = combine

    def forward(self, inputs: Tensor) -> Tensor:
        return self.combine(self.head(self.body(inputs)), self.second(inputs))


@pytest.mark.parametrize("combine", [lambda one, two: (one + two) / 2, lambda one, _: one])
def test_two_heads_are_warned_of_once(combine: Callable[[Tensor, Tensor], Tensor]) -> None:
    loader = MixNNDataLoader(Points(), TwoHeads(combine), batch_size=8, warmup_epochs=1)
    message = (
        "feature_layer is None, and 2 linear layers with 3 outputs take part .* the last, 'second', .*"
        "pass feature_layer='head', for this one feature_layer='second'"
    )
    with pytest.warns(UserWarning, match=message) as caught:
        run(loader, epochs=3)
    assert sum("linear layers" in str(warning.message) for warning in caught) == 1
    distances = torch.cdist(Points().inputs, Points().inputs).fill_diagonal_(torch.inf)
    assert torch.equal(loader.neighbor_indices[:, 0], distances.argmin(dim=1))  # what enters `second` are the inputs


@pytest.mark.parametrize("feature_layer", ["head", "second"])
def test_a_named_head_is_not_warned_of(feature_layer: str) -> None:
    run(MixNNDataLoader(Points(), TwoHeads(torch.add), batch_size=8, feature_layer=feature_layer))


def test_hidden_layers_as_wide_as_the_output_are_no_heads() -> None:
    model = nn.Sequential(nn.Linear(NUM_FEATURES, 3), nn.ReLU(), nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    run(MixNNDataLoader(Points(), model, batch_size=8))


def test_frozen_layers_stay_frozen() -> None:
    model = mlp()
    model.body.requires_grad_(requires_grad=False)
    model.body[1].eval()
    before = {name: value.clone() for name, value in model.body.state_dict().items()}
    loader = MixNNDataLoader(Points(), model, batch_size=8, warmup_epochs=1, correction_epoch=2)
    criterion = MixNNLoss()
    for _ in range(3):
        for inputs, targets in loader:
            assert [module.training for module in model.body] == [True, False, True, True]
            criterion(model(inputs), targets).backward()
    assert all(torch.equal(value, before[name]) for name, value in model.body.state_dict().items())
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in model.body.parameters())
    assert all(parameter.grad is not None for parameter in model.head.parameters())


def lazy() -> nn.Sequential:
    return nn.Sequential(nn.LazyLinear(8), nn.LazyBatchNorm1d(affine=False), nn.ReLU(), nn.LazyLinear(3))


@pytest.mark.parametrize("warmup_epochs", [0, 1])
def test_a_lazy_model_has_to_see_a_batch_first(warmup_epochs: int) -> None:
    model = lazy()
    own = torch.Generator()  # the order's: whatever else is drawn is the model's
    loader = MixNNDataLoader(Points(), model, batch_size=8, warmup_epochs=warmup_epochs, generator=own)
    before = torch.get_rng_state()
    message = r"model must be initialized, got lazy modules .* '0\.weight'; run one batch .* first, .*: model\(inputs\)"
    with pytest.raises(ValueError, match=message):
        run(loader)
    assert torch.equal(torch.get_rng_state(), before)
    model(Points().inputs)
    run(loader, epochs=2)
    assert (loader.neighbor_indices >= 0).all()


def test_a_lazy_buffer_is_seen_after_weights_that_are_there() -> None:
    model = nn.Sequential(nn.Linear(NUM_FEATURES, 8), nn.LazyBatchNorm1d(affine=False), nn.Linear(8, 3))
    with pytest.raises(ValueError, match=r"lazy modules .* '1\.running_mean'"):
        run(MixNNDataLoader(Points(), model))


def test_a_model_elsewhere_than_its_batches_names_both_places() -> None:
    message = (
        r"device is 'meta', where batches go, and parameters of the model are on 'cpu'; move the model, "
        r"model\.to\('meta'\), or pass as device= where its first layer is"
    )
    with pytest.raises(ValueError, match=message) as caught:
        ModelView(mlp(), device="meta").predict(torch.ones(2, NUM_FEATURES, device="meta"))
    assert "expected device" in str(caught.value.__cause__)


@pytest.mark.parametrize("feature_layer", [None, lambda model, inputs: (model(inputs), inputs)])
def test_what_a_model_in_parts_says_comes_to_where_its_batches_go(feature_layer: Any) -> None:
    inputs = torch.ones(2, NUM_FEATURES)  # and the model: both are not where the view says
    predictions = ModelView(mlp(), feature_layer, device="meta").predict(inputs, need_representations=True)
    assert predictions.representations is not None
    assert predictions.logits.device.type == predictions.representations.device.type == "meta"


def test_a_model_that_has_buffers_alone_is_where_they_are() -> None:
    assert ModelView(nn.BatchNorm1d(3, affine=False, device="meta")).device.type == "meta"


def test_a_model_in_parts_names_both_places() -> None:
    model = mlp()
    model.head.to("meta")
    with pytest.raises(ValueError, match=r"device is 'cpu', where batches go, and parameters .* on 'meta'; .*device="):
        run(MixNNDataLoader(Points(), model))


def test_an_error_of_ones_own_is_not_taken_for_one_of_devices() -> None:
    class Failing(MLP):
        def forward(self, _: Tensor) -> Tensor:
            raise RuntimeError("no such device here")

    model = Failing()
    model.head.to("meta")
    with pytest.raises(RuntimeError, match="no such device here"):
        run(MixNNDataLoader(Points(), model))


class Recurrent(nn.Module):
    """Reads the features as a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, 4, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.head(self.lstm(inputs[..., None])[0][:, -1])
        return logits


OF_A_TYPE = pytest.mark.parametrize(
    "build",
    [
        mlp,
        lambda: nn.Sequential(nn.BatchNorm1d(NUM_FEATURES), nn.Linear(NUM_FEATURES, 3)),
        lambda: nn.Sequential(nn.LayerNorm(NUM_FEATURES), nn.Linear(NUM_FEATURES, 3)),
        lambda: nn.Sequential(nn.Unflatten(1, (1, 2, 3)), nn.Conv2d(1, 4, 1), nn.Flatten(), nn.Linear(24, 3)),
        Recurrent,
    ],
)


@OF_A_TYPE
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("warmup_epochs", [0, 1])
def test_a_model_of_another_type_than_its_inputs_names_both(
    build: Callable[[], nn.Module], dtype: torch.dtype, warmup_epochs: int
) -> None:
    message = (
        rf"inputs are torch\.float32 and the model is {dtype}; convert the inputs in the dataset's transform, "
        rf"x\.to\({dtype}\), or keep the model in float32 and pass autocast_dtype= for lower precision$"
    )
    model = build().to(dtype)
    settings: dict[str, Any] = {"batch_size": 8, "warmup_epochs": warmup_epochs}
    with pytest.raises(ValueError, match=message) as caught:
        run(MixNNDataLoader(Points(), model, **settings))
    assert caught.value.__cause__ is not None

    converted = Points()
    converted.inputs = converted.inputs.to(dtype)
    run(loader := MixNNDataLoader(converted, model, **settings), epochs=2)
    assert loader.losses.isfinite().all()


@pytest.mark.parametrize("message", ["expected scalar type Float", "these should be the same, at last"])
@pytest.mark.parametrize("case", ["same type", "autocast", "no parameters"])
def test_an_error_of_ones_own_is_not_taken_for_one_of_types(message: str, case: str) -> None:
    class Failing(nn.Module):
        def forward(self, _: Tensor) -> Tensor:
            raise RuntimeError(message)

    model = Failing()
    if case != "no parameters":
        model.head = nn.Linear(2, 2, dtype=torch.float64 if case == "autocast" else torch.float32)
    view = ModelView(model, autocast_dtype=torch.bfloat16 if case == "autocast" else None)
    with pytest.raises(RuntimeError, match=f"^{message}$"):
        view.predict(torch.ones(2, NUM_FEATURES))


def test_another_error_of_a_model_of_another_type_stays() -> None:
    class Failing(MLP):
        def forward(self, _: Tensor) -> Tensor:
            raise RuntimeError("out of ideas")

    with pytest.raises(RuntimeError, match=r"^out of ideas$"):
        run(MixNNDataLoader(Points(), Failing().double()))


class Both(nn.Module):
    """Takes two inputs, each with half of the features."""

    def __init__(self) -> None:
        super().__init__()
        self.head = mlp()

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.cat([left, right], dim=1))
        return logits


@pytest.mark.parametrize("feature_layer", [None, "head"])
@pytest.mark.parametrize("warmup_epochs", [0, 1])
def test_a_model_with_two_inputs_is_told_how_to_be_called(feature_layer: Any, warmup_epochs: int) -> None:
    samples = Samples([((x[:3], x[3:]), int(y)) for x, y in zip(*tensors(), strict=True)])
    model = Both()
    settings: dict[str, Any] = {"batch_size": 8, "warmup_epochs": warmup_epochs}
    message = (
        r"the model is called as model\(inputs\), and its forward takes \('left', 'right'\); pass feature_layer=, a "
        r"function \(model, inputs\) -> \(logits, representations\), which calls it .* model\(\*inputs\)$"
    )
    with pytest.raises(TypeError, match=message) as caught:
        run(MixNNDataLoader(samples, model, feature_layer=feature_layer, **settings))
    assert "missing 1 required positional argument: 'right'" in str(caught.value.__cause__)

    def spread(model: nn.Module, inputs: Any) -> tuple[Tensor, Tensor]:
        return model(*inputs), torch.cat(inputs, dim=1)

    run(loader := MixNNDataLoader(samples, model, feature_layer=spread, **settings), epochs=2)
    distances = torch.cdist(Points().inputs, Points().inputs).fill_diagonal_(torch.inf)
    assert torch.equal(loader.neighbor_indices[:, 0], distances.argmin(dim=1))


def test_a_type_error_of_a_models_own_stays() -> None:
    class Failing(MLP):
        def forward(self, _: Tensor) -> Tensor:
            raise TypeError("missing 1 required positional argument: 'of mine'")

    with pytest.raises(TypeError, match=r"^missing 1 required positional argument: 'of mine'$"):
        run(MixNNDataLoader(Points(), Failing()))


@pytest.mark.parametrize("device", [None, "cpu"])
def test_a_model_without_parameters(device: str | None) -> None:
    model = nn.Sequential(nn.Unflatten(1, (3, 2)), nn.AvgPool1d(2), nn.Flatten())
    loader = MixNNDataLoader(
        Points(), model, batch_size=8, warmup_epochs=0, device=device, feature_layer=lambda m, x: (m(x), x)
    )
    run(loader)
    distances = torch.cdist(Points().inputs, Points().inputs).fill_diagonal_(torch.inf)
    assert torch.equal(loader.neighbor_indices[:, 0], distances.argmin(dim=1))
