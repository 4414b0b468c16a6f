"""What a run is made of: everything that decides its outcome."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


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
        return f"{self.method}, {self.dataset}, {self.noise} {self.rate:.0%}, seed {self.seed}"
