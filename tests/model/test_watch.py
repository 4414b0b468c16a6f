"""The first training step, watched once: does the model get what the loader gave?"""

import copy
import gc
import re
import weakref
from collections import UserDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from integration.processes import results_of
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel
from torch.utils.checkpoint import checkpoint

from mixnn_loader._utils.random_state import kept_random_state
from mixnn_loader.model.predictor import ModelView
from mixnn_loader.model.watch import MAX_CALLS, Seen, Watch, difference_message

B, SHAPE, C = 10, (3, 4, 4), 3


class Net(nn.Module):
    """Takes images, and whatever else it is given."""

    def __init__(self) -> None:
        super().__init__()
        with kept_random_state():
            self.conv = nn.Conv2d(3, 4, 3)
            self.head = nn.Linear(4, C)

    def forward(self, images: Any, *_: Any, **__: Any) -> Tensor:
        if not isinstance(images, Tensor):
            images = images["image"] if "image" in images else images[0]
        logits: Tensor = self.head(self.conv(images.float()).mean(dim=(2, 3)))
        return logits


@pytest.fixture
def net() -> Net:
    return Net()


@pytest.fixture
def images(generator: torch.Generator) -> Tensor:
    return torch.randn(B, *SHAPE, generator=generator)


def has_hooks(model: nn.Module) -> bool:
    return any(vars(module)["_forward_pre_hooks"] for module in model.modules())


def seen_by(model: nn.Module, inputs: Any, step: Callable[[Any], object], prepare: Any = None) -> Seen | None:
    """Watch one step; whatever is seen, nothing is left of the watch."""
    watch = Watch(model, inputs, prepare)
    step(inputs)
    matched = watch.seen is not None and watch.seen.difference is None
    assert has_hooks(model) is not matched
    watch.close()
    assert not has_hooks(model)
    return watch.seen


def normalized(images: Tensor) -> Tensor:
    return (images - 0.5) / 0.25


UNCHANGED: dict[str, Callable[[nn.Module, Tensor], object]] = {
    "as it is": lambda model, images: model(images),
    "by keyword": lambda model, images: model(images=images),
    "half": lambda model, images: model(images.half()),
    "bfloat16": lambda model, images: model(images.bfloat16()),
    "double": lambda model, images: model(images.double()),
    "channels_last": lambda model, images: model(images.to(memory_format=torch.channels_last)),
    "micro-batches": lambda model, images: [model(part) for part in torch.split(images, 3)],
    "one row": lambda model, images: model(images[7:8]),
    "another slice": lambda model, images: model(images[4:9]),
    "every other": lambda model, images: model(images[::2]),
    "another order": lambda model, images: model(images.flip(0)),
    "before others": lambda model, images: model(torch.cat([images, images.exp()])),
    "after others": lambda model, images: model(torch.cat([images.exp(), images])),
    "between others": lambda model, images: model(torch.cat([images.exp()[:2], images, images.exp()])),
    "in a dict": lambda model, images: model({"image": images}),
    "in a mapping": lambda model, images: model(UserDict(image=images)),
    "in a list": lambda model, images: model([images]),
    "among others": lambda model, images: model(images.abs(), torch.ones(2), None, {"x": [images, torch.tensor(1)]}),
    "after other data": lambda model, images: (model(images.exp()), model(images)),
    "checkpointed": lambda model, images: checkpoint(model, images, use_reentrant=False),
    "of no tensors": lambda model, images: model(Opaque(images)),
}


class Opaque:
    """An object whose tensors cannot be found."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __contains__(self, _: object) -> bool:
        return False

    def __getitem__(self, _: int) -> Tensor:
        return self.images


@pytest.mark.parametrize("step", UNCHANGED.values(), ids=UNCHANGED)
def test_what_is_no_difference(net: Net, images: Tensor, step: Callable[[nn.Module, Tensor], object]) -> None:
    seen = seen_by(net, images, lambda inputs: step(net, inputs))
    assert seen == Seen(with_gradients=True, training=True, difference=None)
    assert difference_message(seen) is None


CHANGED: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "normalized": (
        lambda images: images.clamp(0, 1).mul(10).sub(5),
        r"the loader gave inputs between -\d\.\d\d and \d\.\d+, the model got inputs between -5 and 5$",
    ),
    "cropped": (
        lambda images: images[..., 1:],
        r"the loader gave inputs of shape \(10, 3, 4, 4\), the model got inputs of shape \(10, 3, 4, 3\)$",
    ),
    "cropped micro-batch": (lambda images: images[:3, ..., 1:], r"of shape \(10, 3, 4, 4\), .* shape \(3, 3, 4, 3\)$"),
    "flipped": (
        lambda images: images.flip(-1),
        r"inputs between (\S+) and (\S+), the model got inputs that are so, too, but others: they are 1\.\d apart",
    ),
    "normalized micro-batch": (lambda images: images[:3] * 2, r"loader gave inputs between .*, the model got inputs"),
    "flipped micro-batch": (lambda images: images[:9].flip(-1), r"the model got inputs (between|that are so)"),
    "some rows changed": (lambda images: torch.cat([images[:4], images[4:] * 2]), r"the model got inputs between"),
    "rows between changed": (
        lambda images: torch.cat([images[:3], images[3:7] * 2, images[7:]]),
        r"the model got inputs between",
    ),
    "half precision of others": (lambda images: (images * 1.05).half(), r"the model got inputs"),
    "in place": (lambda images: images.mul_(2), r"the model got inputs between"),
    "NaN": (lambda images: images * torch.nan, r"the model got inputs without a finite value"),
}


@pytest.mark.parametrize(("change", "message"), CHANGED.values(), ids=CHANGED)
def test_what_is_a_difference(net: Net, images: Tensor, change: Callable[[Tensor], Any], message: str) -> None:
    seen = seen_by(net, images, lambda inputs: net(change(inputs)))
    assert seen is not None
    assert seen.difference is not None
    assert re.search(message, seen.difference), seen.difference
    warning = difference_message(seen)
    assert warning is not None
    assert seen.difference in warning
    assert "dataset's transform or into the model, or pass the same function as prepare=" in warning


def test_images_of_bytes(net: Net) -> None:
    images = (torch.arange(B * 48) % 256).to(torch.uint8).reshape(B, *SHAPE)
    same = seen_by(net, images, lambda inputs: net(inputs.float()))
    assert same is not None
    assert same.difference is None
    other = seen_by(net, images, lambda inputs: net(inputs / 255))
    assert other is not None
    assert other.difference == "the loader gave inputs between 0 and 255, the model got inputs between 0 and 1"


def test_token_numbers_and_other_integers_need_not_come(net: Net, images: Tensor) -> None:
    inputs = {"image": images, "ids": torch.arange(B), "mask": torch.ones(B, 5, dtype=torch.bool)}
    seen = seen_by(net, inputs, lambda inputs: net(inputs["image"]))
    assert seen is not None
    assert seen.difference is None


def test_each_part_of_a_nest_has_to_come(net: Net, images: Tensor) -> None:
    inputs = {"image": images, "more": [images.exp()]}
    whole = seen_by(net, inputs, lambda inputs: net(inputs["image"], inputs["more"][0]))
    assert whole is not None
    assert whole.difference is None
    part = seen_by(net, inputs, lambda inputs: net(inputs["image"]))
    assert part is not None
    assert part.difference is not None
    assert part.difference.startswith("the loader gave inputs['more'][0] between ")


def test_nan_is_no_difference(net: Net, images: Tensor) -> None:
    images[2, 1] = torch.nan
    images[3, 0] = torch.inf
    assert seen_by(net, images, net) == Seen(with_gradients=True, training=True, difference=None)
    seen = seen_by(net, images, lambda inputs: net(inputs + 1))
    assert seen is not None
    assert seen.difference is not None


def test_what_prepare_does_is_no_difference(net: Net, images: Tensor) -> None:
    def in_place(images: Tensor) -> Tensor:
        return images.sub_(0.5).div_(0.25)

    seen = seen_by(net, images.clone(), lambda inputs: net(normalized(inputs)), in_place)
    assert seen == Seen(with_gradients=True, training=True, difference=None, prepared=True)
    seen = seen_by(net, images, net, in_place)
    assert seen is not None
    assert seen.difference is not None
    assert seen.difference.startswith("prepare= made inputs between ")
    assert (difference_message(seen) or "").endswith(
        "make the function passed as prepare= do just what the loop does to a batch before the model"
    )


def noisy(images: Tensor) -> Tensor:
    return images + torch.randn_like(images)


def hardly_random(images: Tensor) -> Tensor:
    """Draws, and does the same twice all the same, as a flip of whole batches may."""
    torch.rand(())
    return images


@pytest.mark.parametrize("prepare", [noisy, hardly_random])
def test_of_a_random_prepare_only_shapes_count(net: Net, images: Tensor, prepare: Any) -> None:
    state = torch.get_rng_state()
    seen = seen_by(net, images, lambda inputs: net(2 * inputs), prepare)
    assert torch.equal(torch.get_rng_state(), state)
    assert seen is not None
    assert seen.difference is None
    seen = seen_by(net, images, lambda inputs: net(inputs[..., 1:]), prepare)
    assert seen is not None
    assert seen.difference is not None
    assert "shape (10, 3, 4, 3)" in seen.difference


def test_a_prepare_that_fails_here_does_not_stop_the_training(net: Net, images: Tensor) -> None:
    seen = seen_by(net, images, net, lambda _: None)
    assert seen is not None
    assert seen.difference is None


def test_evaluations_and_the_loaders_own_passes_are_not_the_step(net: Net, images: Tensor) -> None:
    watch, untouched = Watch(net, images), Watch(net, images)
    with torch.no_grad():
        net(images * 2)
    with torch.inference_mode():
        net(images * 2)
    ModelView(net, prepare=normalized).predict(images, need_representations=True)
    assert untouched.seen is None
    untouched.close()
    assert has_hooks(net)
    net.eval().requires_grad_(requires_grad=False)
    net(images)
    assert watch.seen == Seen(with_gradients=False, training=False, difference=None)
    assert not has_hooks(net)


def test_a_step_of_many_calls_is_not_looked_at_for_ever(net: Net, images: Tensor) -> None:
    watch = Watch(net, images)
    for call in range(MAX_CALLS):
        assert has_hooks(net), call
        net(images.exp())
    assert not has_hooks(net)
    assert watch.seen is not None
    assert watch.seen.difference is not None


@pytest.mark.parametrize("factor", [1, 2])
def test_the_batch_is_let_go(net: Net, images: Tensor, factor: int) -> None:
    batch = images.clone()
    watch = Watch(net, batch)
    tensors = [item for item in gc.get_objects() if issubclass(type(item), Tensor)]
    kept = [weakref.ref(tensor) for tensor in tensors if tensor.shape == batch.shape]
    del tensors
    assert len(kept) == 3  # the fixture's, the batch, and the watch's
    net(factor * batch)
    watch.close()
    del batch
    gc.collect()
    assert [reference() is not None for reference in kept].count(True) == 1


def test_of_a_model_that_cannot_be_watched_no_batch_is_kept(images: Tensor) -> None:
    net = Net()
    net.compile()
    watch = Watch(net, images)
    assert not has_hooks(net)
    gc.collect()
    kept = [item for item in gc.get_objects() if issubclass(type(item), Tensor) and item.shape == images.shape]
    assert len(kept) == 1  # the fixture's
    watch.close()


def test_the_model_computes_what_it_would(net: Net, images: Tensor) -> None:
    expected = net(images)
    expected.sum().backward()
    gradients = [parameter.grad for parameter in net.parameters()]
    net.zero_grad()
    state = torch.get_rng_state()
    inputs = images.clone().requires_grad_()
    watch = Watch(net, inputs, noisy)
    found = net(inputs)
    found.sum().backward()
    assert watch.seen is not None
    assert inputs.grad is not None
    assert torch.equal(found, expected)
    assert torch.equal(torch.get_rng_state(), state)
    for parameter, gradient in zip(net.parameters(), gradients, strict=True):
        assert gradient is not None
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, gradient)


@pytest.mark.parametrize("wrap", [nn.DataParallel, AveragedModel, lambda net: nn.DataParallel(AveragedModel(net))])
@pytest.mark.parametrize("change", [lambda images: images, normalized])
def test_in_a_wrapper_either_module_may_be_called(
    net: Net, images: Tensor, wrap: Callable[[nn.Module], Any], change: Callable[[Tensor], Tensor]
) -> None:
    wrapped = wrap(net)
    for called in (wrapped, wrapped.module):
        watch = Watch(wrapped, images)
        called(change(images))
        watch.close()
        assert not has_hooks(wrapped)
        assert watch.seen is not None
        assert (watch.seen.difference is None) is (change is not normalized)


def in_distributed_data_parallel(rank: int, size: int) -> list[Seen | None]:
    del rank, size
    net, images = Net(), torch.rand(4, 3, 8, 8)
    wrapped = nn.parallel.DistributedDataParallel(net)
    seen = [seen_by(wrapped, images, called) for called in (wrapped, net)]
    return [*seen, seen_by(net, images, lambda inputs: wrapped(2 * inputs))]  # given before it was wrapped


def test_in_distributed_data_parallel(tmp_path: Path) -> None:
    [(*same, other)] = results_of(in_distributed_data_parallel, 1, tmp_path)
    assert same == [Seen(with_gradients=True, training=True, difference=None)] * 2
    assert other.difference is not None


class Counting:
    """A backend that runs graphs as they are, and counts them and their nodes."""

    def __init__(self) -> None:
        self.graphs = 0
        self.calls: list[str] = []

    def __call__(self, graph: Any, _: Any) -> Any:
        self.graphs += 1
        self.calls += [str(node.target) for node in graph.graph.nodes if node.op.startswith("call")]
        return graph.forward


@pytest.fixture
def backend() -> Iterator[Counting]:
    torch.compiler.reset()
    yield Counting()
    torch.compiler.reset()


@pytest.mark.parametrize("change", [lambda images: images, normalized])
@pytest.mark.parametrize("compiled_before", [False, True])
def test_a_compiled_model_is_watched_from_outside(
    net: Net, images: Tensor, backend: Counting, compiled_before: bool, change: Callable[[Tensor], Tensor]
) -> None:
    model: Any = torch.compile(net, backend=backend, fullgraph=True)
    if compiled_before:
        model(images)
    watch = Watch(model, images)
    assert not has_hooks(net)
    watch.close()
    seen = seen_by(model, images, lambda inputs: model(change(inputs)))
    assert seen is not None
    assert seen.training
    assert (seen.difference is None) is (change is not normalized)
    model(images)
    assert backend.graphs == 1
    assert not any("isclose" in call for call in backend.calls)


@pytest.mark.parametrize("compiled_before", [False, True])
@pytest.mark.parametrize("in_place", [False, True])
def test_nothing_is_compiled_into_a_step_or_a_model_in_place(
    net: Net, images: Tensor, backend: Counting, in_place: bool, compiled_before: bool
) -> None:
    def run(inputs: Tensor) -> Tensor:
        loss: Tensor = net(inputs).sum()
        return loss

    step: Any = run
    if in_place:
        net.compile(backend=backend, fullgraph=True)
    else:
        step = torch.compile(run, backend=backend, fullgraph=True)
    if compiled_before:
        step(images)
    watch = Watch(net, images)
    assert has_hooks(net) is not in_place
    expected = step(images)
    watch.close()
    assert watch.seen is None
    assert torch.equal(step(images), expected)
    assert not any("isclose" in call or "clone" in call for call in backend.calls)
    if in_place:
        assert backend.graphs == 1


def test_within_transforms_of_functions_nothing_can_be_told(net: Net, images: Tensor) -> None:
    watch = Watch(net, images)
    parameters: dict[str, Tensor] = dict(net.named_parameters())

    def loss(parameters: dict[str, Tensor], image: Tensor) -> Tensor:
        outputs: Tensor = torch.func.functional_call(net, parameters, (image[None],))
        return outputs.sum()

    gradients = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, images)
    assert gradients["head.bias"].shape == (B, C)
    watch.close()
    assert watch.seen is None or watch.seen.difference is None


def test_the_default_type_and_device_change_nothing(net: Net, images: Tensor) -> None:
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    try:
        watch = Watch(net, images, normalized)
        net(normalized(images))
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    assert watch.seen == Seen(with_gradients=True, training=True, difference=None, prepared=True)


def test_rows_without_dimensions(images: Tensor) -> None:
    class Lookup(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(C))

        def forward(self, values: Tensor) -> Tensor:
            return values[:, None] * self.scale

    model, values = Lookup(), images[:, 0, 0, 0]
    found = []
    for part in (values, values[2:5], functional.pad(values, (3, 3)), values[2:5] + 1):
        watch = Watch(model, values)
        model(part)
        watch.close()
        assert watch.seen is not None
        found.append(watch.seen.difference is None)
    assert found == [True, True, True, False]


def test_a_copy_that_is_made_during_the_step_is_not_watched() -> None:
    """As one makes for an average of the weights; a copy of the hook would copy all that it looks at."""
    inner = nn.Linear(3, 2)
    inputs = torch.randn(4, 3)
    watch = Watch(nn.DataParallel(inner), inputs)
    watches = [thing for thing in gc.get_objects() if type(thing) is Watch]
    copied = copy.deepcopy(inner)
    assert len([thing for thing in gc.get_objects() if type(thing) is Watch]) == len(watches)
    copied(inputs)
    assert watch.seen is None
    watch.close()
