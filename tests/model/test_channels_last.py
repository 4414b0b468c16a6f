"""The loader's own forward passes see images in channels_last on a CPU, where the model can take them."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from mixnn_loader import MixNNDataLoader
from mixnn_loader.model.predictor import ModelView

NUM_CLASSES = 3
SHAPE = (6, 5, 5)


def is_channels_last(tensor: Tensor) -> bool:
    return tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()


class Net(nn.Module):
    """Writes down which of its inputs in eval mode came in channels_last, and how many in training mode."""

    def __init__(self, flatten: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.conv = nn.Conv2d(6, 4, 3)
            self.norm = nn.BatchNorm2d(4)
            self.head = nn.Linear(36, NUM_CLASSES)
        self.flatten = flatten
        self.evaluated: list[bool] = []
        self.trained: list[bool] = []

    def forward(self, images: Tensor) -> Tensor:
        (self.trained if self.training else self.evaluated).append(is_channels_last(images))
        logits: Tensor = self.head(self.flatten(self.norm(self.conv(images)).relu()))
        return logits


def any_layout() -> Net:
    return Net(lambda maps: maps.flatten(1))


def contiguous_only() -> Net:
    """A view of maps in channels_last is an error."""
    return Net(lambda maps: maps.view(len(maps), -1))


def contiguous_pass(net: Net, images: Tensor) -> Tensor:
    copy = deepcopy(net).eval()
    with torch.no_grad():
        logits: Tensor = copy(images.contiguous())
    assert copy.evaluated[-1] is False
    return logits


@pytest.fixture
def images(generator: torch.Generator) -> Tensor:
    return torch.randn(9, *SHAPE, generator=generator)


@pytest.mark.parametrize("make", [any_layout, contiguous_only])
def test_predictions_are_those_of_a_contiguous_pass(make: Callable[[], Net], images: Tensor) -> None:
    net = make()
    expected = contiguous_pass(net, images)
    view = ModelView(net)
    for _ in range(2):
        logits, representations = view.predict(images, need_representations=True)
        torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
        assert representations is not None
        torch.testing.assert_close(
            functional.linear(representations, net.head.weight, net.head.bias).detach(), expected, rtol=1e-5, atol=1e-5
        )
    torch.testing.assert_close(view.predict(images).logits, expected, rtol=1e-5, atol=1e-5)


def test_the_model_is_asked_in_channels_last(images: Tensor) -> None:
    net = any_layout()
    view = ModelView(net, "head")
    for _ in range(3):
        view.predict(images)
        view.predict(images, need_representations=True)
    assert net.evaluated == [True] * 6
    assert images.is_contiguous()


def test_a_model_that_cannot_take_it_is_asked_only_once(images: Tensor) -> None:
    net = contiguous_only()
    view = ModelView(net, "head")
    for _ in range(3):
        view.predict(images)
    assert net.evaluated == [True, False, False, False]


@pytest.mark.parametrize("shape", [(9, 6), (9, 6, 5), (9, 2, 3, 4, 5)])
def test_other_inputs_are_left_as_they_are(shape: tuple[int, ...], generator: torch.Generator) -> None:
    seen: list[Tensor] = []

    class Plain(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            seen.append(inputs)
            return inputs.flatten(1)

    inputs = torch.randn(shape, generator=generator)
    torch.testing.assert_close(ModelView(Plain()).predict(inputs).logits, inputs.flatten(1), rtol=0, atol=0)
    assert [tensor.stride() for tensor in seen] == [inputs.stride()]


def test_in_a_nest_only_images_change(images: Tensor) -> None:
    seen: list[Any] = []

    class Nested(nn.Module):
        def forward(self, inputs: Any) -> Tensor:
            seen.append(inputs)
            total: Tensor = inputs["image"].flatten(1) + inputs["row"]
            return total

    row = torch.ones(9, 150).t().contiguous().t()  # strides of its own, which stay
    logits = ModelView(Nested()).predict({"image": images, "row": row}).logits
    torch.testing.assert_close(logits, images.flatten(1) + 1)
    assert [(is_channels_last(inputs["image"]), inputs["row"].stride()) for inputs in seen] == [(True, row.stride())]


class Failing(nn.Module):
    """Fails in any layout, and counts how often."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error
        self.count = 0

    def forward(self, _: Tensor) -> Tensor:
        self.count += 1
        raise self.error


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2"),
        ValueError("no such image"),
        OSError("view size is not compatible"),
        KeyError("stride"),
        AssertionError(),
    ],
)
def test_the_models_own_errors_come_out_as_they_are(error: Exception, images: Tensor) -> None:
    model = Failing(error).train()
    with pytest.raises(type(error)) as caught:
        ModelView(model).predict(images)
    assert caught.value is error
    assert caught.value.__context__ is None
    assert model.count == 1
    assert model.training


def test_a_model_that_asks_for_contiguous_images_gets_them(images: Tensor) -> None:
    class Strict(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            assert images.is_contiguous(), "images must be contiguous"
            return images.flatten(1)

    assert torch.equal(ModelView(Strict()).predict(images).logits, images.flatten(1))


def test_an_error_in_the_plain_format_comes_out_of_a_model_that_cannot_take_the_other(images: Tensor) -> None:
    model = Failing(error := RuntimeError("view size is not compatible with input tensor's size and stride"))
    with pytest.raises(RuntimeError) as caught:
        ModelView(model).predict(images)
    assert caught.value is error
    assert caught.value.__context__ is None
    assert model.count == 2


def dataset() -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(NUM_CLASSES, (20,), generator=generator)
    return TensorDataset(torch.randn(20, *SHAPE, generator=generator), labels)


@pytest.mark.parametrize("scan", ["epoch", "running"])
@pytest.mark.parametrize(("make", "in_channels_last"), [(any_layout, True), (contiguous_only, False)])
def test_a_training_with_a_convolutional_model(make: Callable[[], Net], in_channels_last: bool, scan: Any) -> None:
    net, data = make(), dataset()
    loader = MixNNDataLoader(
        DataLoader(data, batch_size=5), net, scan=scan, warmup_epochs=1, correction_epoch=2, feature_layer="head"
    )
    expected = functional.cross_entropy(contiguous_pass(net, data.tensors[0]), data.tensors[1], reduction="none")
    for epoch in range(4):
        net.evaluated.clear()
        for inputs, _ in loader:
            assert inputs.is_contiguous()
        if epoch > 0:
            assert set(net.evaluated) == {in_channels_last}
            torch.testing.assert_close(loader.losses, expected, rtol=1e-5, atol=1e-5)


def test_batches_in_channels_last_stay_so_in_warm_up() -> None:
    data = dataset()

    def collate(samples: list[Any]) -> tuple[Tensor, Tensor]:
        images, labels = torch.utils.data.default_collate(samples)
        return images.to(memory_format=torch.channels_last), labels

    loader = MixNNDataLoader(DataLoader(data, batch_size=5, collate_fn=collate), any_layout(), warmup_epochs=1)
    assert all(is_channels_last(inputs) for inputs, _ in loader)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_images_keep_their_layout(images: Tensor) -> None:
    net = any_layout().cuda()
    ModelView(net).predict(images.cuda())
    assert net.evaluated == [False]
