"""How a dataset is trained on: the same network, schedule and augmentation for every method."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from benchmarks.harness.networks import NETWORKS
from benchmarks.harness.schedules import factor
from benchmarks.harness.settings import RunSettings, SettingError


@dataclass(frozen=True)
class Recipe:
    """A plain training.

    Attributes:
        network: see `benchmarks.harness.networks`.
        epochs: length of a plain training.
        warmup_epochs: W, for every method that has a warm-up.
        correction_epoch: E_s, for MixNN in its forms.
        batch_size: samples a step.
        lr: learning rate at the start.
        schedule: of the learning rate, see `benchmarks.harness.schedules`.
        momentum: of SGD.
        weight_decay: of SGD.
        flip: mirror half of the images.
        crop_padding: pixels of a random translation; 0: none.
        bfloat16: run the networks under bfloat16 autocast; a processor without AVX-512 takes ten times longer with it.
        num_train: use the first so many training samples; of a dataset that is sorted by class, so many drawn ones,
            always the same; None: all.
        held_out: measure on training samples that `num_train` leaves out, 10,000 at most, with their true labels, and
            not on the test set: for choosing among methods and their arguments.
        balanced_batches: an epoch has so many batches, in which the given labels come equally often; None: it has each
            sample once.
        label_set: which of several sets of given labels, for CIFAR-N; None: ``"worse"`` or ``"noisy"``.
        workers: processes that read and augment, for images that are read file by file; random augmentation depends
            on how many there are.
    """

    network: str
    epochs: int
    warmup_epochs: int
    correction_epoch: int
    batch_size: int = 128
    lr: float = 0.02
    schedule: str = "cosine"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    flip: bool = False
    crop_padding: int = 0
    bfloat16: bool = False
    num_train: int | None = None
    held_out: bool = False
    balanced_batches: int | None = None
    label_set: str | None = None
    workers: int = 0

    def with_changes(self, changes: Mapping[str, Any]) -> "Recipe":
        """Return the recipe with some fields replaced.

        Raises:
            SettingError: a field is unknown, or a value is not of its kind.
        """
        kinds = {field.name: field.type for field in fields(self)}
        if unknown := sorted(set(changes) - set(kinds)):
            raise SettingError("recipe", f"it has no {', '.join(unknown)}; it has {', '.join(sorted(kinds))}")
        for name, value in changes.items():
            kind: Any = int | float if kinds[name] is float else kinds[name]
            if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
                raise SettingError("recipe", f"{name} must be {getattr(kind, '__name__', kind)}, got {value!r}")
        changed = replace(self, **changes)
        if changed.network not in NETWORKS:
            raise SettingError("recipe", f"network must be one of {', '.join(NETWORKS)}, got {changed.network!r}")
        factor(changed.schedule, 0, 1)
        for name in _POSITIVE:
            value = getattr(changed, name)
            if value is not None and value <= 0:
                raise SettingError("recipe", f"{name} must be above 0, got {value}")
        for name in _NOT_NEGATIVE:
            if getattr(changed, name) < 0:
                raise SettingError("recipe", f"{name} must not be negative, got {getattr(changed, name)}")
        return changed


_POSITIVE = ("epochs", "batch_size", "lr", "num_train", "balanced_batches")
_NOT_NEGATIVE = ("warmup_epochs", "correction_epoch", "momentum", "weight_decay", "crop_padding", "workers")

_PAPER = Recipe(
    network="resnet34",
    epochs=300,
    warmup_epochs=10,
    correction_epoch=60,
    schedule="restarts",
    weight_decay=1e-3,
    flip=True,
    crop_padding=4,
)
_SMALL_CIFAR = Recipe(
    network="convnet",
    epochs=40,
    warmup_epochs=8,
    correction_epoch=16,
    lr=0.05,
    schedule="constant-linear",
    flip=True,
)
_SMALL_MNIST = Recipe(network="small-resnet", epochs=40, warmup_epochs=5, correction_epoch=12, num_train=10_000)


def _in_proportion(network: str, epochs: int, **changes: Any) -> Recipe:
    """Return a recipe whose W and E_s stand to its length as the paper's do on CIFAR-10."""
    share = epochs / _PAPER.epochs
    warmup_epochs, correction_epoch = (
        max(1, round(share * published)) for published in (_PAPER.warmup_epochs, _PAPER.correction_epoch)
    )
    return Recipe(network, epochs, warmup_epochs, correction_epoch).with_changes(changes)


_CLOTHING1M = _in_proportion(
    "resnet50-imagenet",
    10,
    batch_size=64,
    lr=0.001,
    schedule="step",
    weight_decay=1e-3,
    balanced_batches=2_000,
    workers=8,
)
"""As for ELR (Liu et al. 2020), as we remember its paper: 2,000 balanced batches of 64 an epoch, 10 epochs, the rate
of 0.001 divided by 10 after the fifth."""

_WEBVISION_MINI = Recipe("inception-resnet-v2", 100, 10, 60, batch_size=32, schedule="step", workers=8)
"""As in `examples/webvision_inception_resnet_v2.py`, which follows ELR+'s code; W and E_s are CIFAR-10's."""

_ANIMAL10N = _in_proportion("vgg19-bn", 100, lr=0.1, schedule="steps-by-five")
"""As for SELFIE (Song et al. 2019), as we remember its paper; there without augmentation, and here, too."""

_FOOD101N = _in_proportion("resnet50-imagenet", 30, lr=0.01, schedule="steps-in-thirds", workers=8)
"""A usual choice for this dataset: 30 epochs, the learning rate divided by 10 every ten."""

RECIPES: dict[str, Recipe] = {
    "digits": Recipe(network="mlp", epochs=120, warmup_epochs=10, correction_epoch=30, batch_size=64, lr=0.05),
    "mnist": _SMALL_MNIST,
    "fashion-mnist": _SMALL_MNIST,
    "cifar10": _SMALL_CIFAR,
    "cifar100": _SMALL_CIFAR,
    "cifar10n": _SMALL_CIFAR,
    "cifar100n": _SMALL_CIFAR,
    "clothing1m": _CLOTHING1M,
    "webvision-mini": _WEBVISION_MINI,
    "animal10n": _ANIMAL10N,
    "food101n": _FOOD101N,
    "features": Recipe(network="mlp", epochs=20, warmup_epochs=3, correction_epoch=6, lr=0.05),
    "paper-cifar10": _PAPER,
    "paper-cifar100": _PAPER.with_changes({"warmup_epochs": 30}),
    "paper-clothing1m": _CLOTHING1M,
    "paper-webvision-mini": _WEBVISION_MINI,
}
"""By the name of a dataset; ``paper-`` in front of it: as the paper trains, which takes a GPU. Photographs take one in
any case, so that there is one recipe for them."""


def recipe_for(settings: RunSettings) -> Recipe:
    """Return the recipe of a dataset with the settings' changes.

    Raises:
        SettingError: there is no recipe of that name, or a change is of no field or of another kind.
    """
    if settings.dataset not in RECIPES:
        raise SettingError("dataset", f"must be one of {', '.join(RECIPES)}, got {settings.dataset!r}")
    changes = dict(settings.recipe)
    changes |= {name: value for name in ("epochs", "num_train") if (value := getattr(settings, name)) is not None}
    return RECIPES[settings.dataset].with_changes(changes)
