"""What a run is made of: everything that decides its outcome."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


class SettingError(ValueError):
    """A run cannot be as it is asked for.

    Args:
        name: of the attribute of `RunSettings` that is wrong.
        message: what is wrong with it.
    """

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}")
        self.name, self.message = name, message


@dataclass(frozen=True)
class RunSettings:
    """One training run of one method.

    Attributes:
        method: its name, see `benchmarks.methods`.
        dataset: its name, see `benchmarks.harness.data`.
        noise: kind of label noise, see `benchmarks.harness.noise`.
        rate: nominal share of wrong labels, in [0, 1).
        seed: of noise, initial weights, order and augmentation.
        epochs: length of a plain training; None: the recipe's.
        num_train: use the first so many training samples; None: all, or the recipe's number.
        recipe: overrides of the dataset's recipe, by field name.
        options: overrides of the method's published hyper-parameters, by name.
        watch_training: predict the training set after every epoch, not only after the last.
    """

    method: str
    dataset: str
    noise: str = "symmetric"
    rate: float = 0.4
    seed: int = 0
    epochs: int | None = None
    num_train: int | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    watch_training: bool = False

    def __post_init__(self) -> None:
        """Check what needs neither the data nor the method.

        Raises:
            SettingError: a value is of another kind, or out of range.
        """
        for name in ("method", "dataset", "noise"):
            _require(name, getattr(self, name), str, "a name")
        _require("rate", self.rate, int | float, "a number")
        if not 0 <= self.rate < 1:
            raise SettingError("rate", f"must lie in [0, 1), got {self.rate}")
        # 0 in a file and 0.0 on the command line are the same run, and have to have the same key.
        object.__setattr__(self, "rate", float(self.rate))
        for name, least in (("seed", 0), ("epochs", 1), ("num_train", 1)):
            value = getattr(self, name)
            if value is None and name != "seed":
                continue
            _require(name, value, int, "an integer")
            if value < least:
                raise SettingError(name, f"must be at least {least}, got {value}")
        for name in ("recipe", "options"):
            _require(name, getattr(self, name), Mapping, "a table of names and values")
        _require("watch_training", self.watch_training, bool, "true or false")

    def as_dict(self) -> dict[str, Any]:
        """Return primitives."""
        return asdict(self)

    @property
    def key(self) -> str:
        """What tells this run from others: equal for equal settings."""
        text = json.dumps(self.as_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def title(self) -> str:
        """Name the run in a few words."""
        options = "".join(f", {name} {value}" for name, value in self.options.items())
        return f"{self.method}{options}, {self.dataset}, {self.noise} {100 * self.rate:g}%, seed {self.seed}"


def _require(name: str, value: Any, kind: Any, wanted: str) -> None:
    # True is an integer to Python, and a mistake here.
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise SettingError(name, f"must be {wanted}, got {value!r}")
