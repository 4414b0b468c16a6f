"""What is kept for every sample of the dataset."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mixnn_loader._utils.checks import check_count, check_floating_type
from mixnn_loader._utils.memory import announce
from mixnn_loader.method.soft_targets import first_of_each


class SampleState:
    """The per-sample rows of one training run, over N samples, C classes and a pool of M neighbors.

    Attributes:
        given_labels: (N,) int64 on the CPU, -1 where no label has been seen yet.
        neighbor_pool: (N, M) int64 on the CPU, nearest first, -1 where no search was made.
        losses: (N,) float32, NaN where no loss was taken.
        log_clean_probability: (N,) float32, log P(clean), NaN where it is not known.
        soft_targets: (N, C) of ``target_dtype``, t; None until C is known. Rows are zero until the label has been seen.
        representations: (N, d) of ``representation_dtype`` beside the model, or None while they are not needed.
        drawn: (N,) bool on the CPU, the samples drawn since the rows were last made the same on all processes; None
            where there is but one.

    Args:
        num_samples: N.
        pool_size: M.
        device: where losses, P and targets are kept; None: where `to` says.
        target_dtype: the floating-point type of the kept targets.
        representation_dtype: the floating-point type of the kept representations.

    Raises:
        ValueError: an argument is outside its range.
    """

    def __init__(
        self,
        num_samples: int,
        pool_size: int,
        *,
        device: torch.device | None = None,
        target_dtype: torch.dtype = torch.float32,
        representation_dtype: torch.dtype = torch.float32,
    ) -> None:
        check_floating_type("target_dtype", target_dtype)
        check_floating_type("representation_dtype", representation_dtype)
        self._device = device
        self._target_dtype = target_dtype
        self._representation_dtype = representation_dtype
        self._announced = False
        self.given_labels = torch.full((num_samples,), -1, dtype=torch.int64)
        self.neighbor_pool = torch.full((num_samples, pool_size), -1, dtype=torch.int64)
        self.losses = torch.full((num_samples,), torch.nan, device=device)
        self.log_clean_probability = torch.full((num_samples,), torch.nan, device=device)
        self.soft_targets: Tensor | None = None
        self.representations: Tensor | None = None
        self.drawn: Tensor | None = None

    def to(self, device: torch.device) -> None:
        """Move what mini-batches are made of to the one device that was asked for, or else to the model's.

        Args:
            device: the model's.
        """
        if self.representations is not None:
            self.representations = self.representations.to(device)
        device = device if self._device is None else self._device
        self.losses = self.losses.to(device)
        self.log_clean_probability = self.log_clean_probability.to(device)
        if self.soft_targets is not None:
            self.soft_targets = self.soft_targets.to(device)

    def set_num_classes(self, num_classes: int) -> None:
        """Take in the width of the model's output, C.

        Raises:
            ValueError: it is not what it was, or no positive integer.
        """
        check_count("num_classes", num_classes, 1, "None or an integer")
        if self.soft_targets is None:
            shape = (len(self.given_labels), num_classes)
            announce("soft targets", shape, self._target_dtype, self.losses.device, "state_device= and target_dtype=")
            self.soft_targets = torch.zeros(shape, dtype=self._target_dtype, device=self.losses.device)
        elif self.soft_targets.shape[1] != num_classes:
            raise ValueError(
                f"the model's output is {num_classes} wide, the soft targets are over {self.soft_targets.shape[1]} "
                "classes; they must agree, see num_classes"
            )

    def record_labels(self, indices: Tensor, labels: Tensor) -> None:
        """Take in labels as the dataset gives them; a sample seen for the first time gets its one-hot target.

        Args:
            indices: (n,) int64 on the CPU, rows of the dataset.
            labels: (n,) int64 on the CPU, in 0..C-1.

        Raises:
            ValueError: a sample's label is not what it was.
        """
        known = self.given_labels[indices]
        changed = ((known >= 0) & (known != labels)).nonzero()
        if len(changed) > 0:
            row = int(changed[0])
            raise ValueError(
                f"the label of dataset index {int(indices[row])} was {int(known[row])} and is now "
                f"{int(labels[row])}; a sample's label must stay, and scan_dataset must hold the same samples in the "
                "same order as the dataset"
            )
        if (new := known < 0).any():
            rows, targets = indices[new], self.known_targets()
            self.given_labels[rows] = labels[new]
            one_hot = functional.one_hot(labels[new], targets.shape[1])
            targets[rows.to(targets.device, non_blocking=True)] = one_hot.to(targets, non_blocking=True)

    def record_predictions(self, indices: Tensor, losses: Tensor, representations: Tensor | None) -> None:
        """Take in what the model says of a batch. Of a sample that is in it more than once, the first counts.

        Args:
            indices: (n,) int64 on the CPU, rows of the dataset.
            losses: (n,) float on the model's device.
            representations: (n, d) float on the model's device; None: not kept.
        """
        first = first_of_each(indices)
        if first is not None:
            losses = losses[first.to(losses.device, non_blocking=True)]
        self.losses[indices.to(self.losses.device, non_blocking=True)] = losses.to(self.losses, non_blocking=True)
        if representations is None:
            return
        if first is not None:
            representations = representations[first.to(representations.device, non_blocking=True)]
        kept = self.representations_of(representations.shape[1], representations.device)
        kept[indices.to(kept.device, non_blocking=True)] = representations.to(kept)

    def representations_of(self, width: int, device: torch.device) -> Tensor:
        """Return the representations (N, d), after making room for them where there are none.

        Args:
            width: d.
            device: where to keep them.
        """
        if self.representations is None:
            shape = (len(self.given_labels), width)
            if not self._announced:  # a scan an epoch takes and gives back the same
                announce("representations", shape, self._representation_dtype, device, "representation_dtype=")
                self._announced = True
            # Zeros: a row that nothing is written to must not look like one of a model that has diverged.
            self.representations = torch.zeros(shape, dtype=self._representation_dtype, device=device)
        return self.representations

    def track_drawn(self) -> None:
        """Start to note which samples are drawn."""
        if self.drawn is None:
            self.drawn = torch.zeros(len(self.given_labels), dtype=torch.bool)

    def note_drawn(self, indices: Tensor) -> None:
        """Note that samples have been drawn, where that is noted.

        Args:
            indices: (n,) int64 on the CPU, rows of the dataset.
        """
        if self.drawn is not None:
            self.drawn[indices] = True

    def take_drawn(self) -> Tensor:
        """Return the samples (n,) that have been drawn, sorted, and forget that they were."""
        if self.drawn is None:
            raise RuntimeError("what is drawn has not been tracked")
        rows = self.drawn.nonzero().flatten()
        self.drawn.zero_()
        return rows

    def known_targets(self) -> Tensor:
        """Return the soft targets (N, C).

        Raises:
            RuntimeError: C is not known yet.
        """
        if self.soft_targets is None:
            raise RuntimeError(
                "soft_targets are not there before the first batch, which tells the number of classes; pass "
                "num_classes= to have them at once"
            )
        return self.soft_targets

    def known_representations(self) -> Tensor:
        """Return the representations (N, d).

        Raises:
            RuntimeError: none has been recorded.
        """
        if self.representations is None:
            raise RuntimeError("there are no representations: none has been recorded")
        return self.representations

    def state_dict(self) -> dict[str, Tensor | None]:
        """Return copies of all rows on the CPU."""
        return {
            name: None if rows is None else rows.detach().to("cpu", copy=True) for name, rows in self._rows().items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over rows that `state_dict` returned.

        Raises:
            ValueError: they are of another dataset length or another number of neighbors.
        """
        saved_targets = state["soft_targets"]
        for what, saved, own in (
            ("samples", len(state["given_labels"]), len(self.given_labels)),
            ("neighbors a sample", state["neighbor_pool"].shape[1], self.neighbor_pool.shape[1]),
            ("classes", _width(saved_targets), _width(self.soft_targets)),
        ):
            if saved is not None and own is not None and saved != own:
                raise ValueError(f"the state is of a run over {saved} {what}, this loader has {own}")
        types = {"soft_targets": self._target_dtype, "representations": self._representation_dtype}
        self.representations = self.drawn = None  # not those of another epoch, where the saved run had none
        for name in self._rows():
            if (rows := state[name]) is not None:
                # Wherever the file was loaded to: labels and neighbors live on the CPU, the rest follows the model.
                setattr(self, name, rows.detach().to("cpu", types.get(name, rows.dtype), copy=True))

    def _rows(self) -> dict[str, Tensor | None]:
        return {name: rows for name, rows in vars(self).items() if not name.startswith("_")}


def _width(soft_targets: Tensor | None) -> int | None:
    return None if soft_targets is None else soft_targets.shape[1]
