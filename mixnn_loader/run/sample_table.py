"""What is kept for every sample of the dataset: one table with declared columns."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from mixnn_loader._utils.batch_indices import BatchIndices
from mixnn_loader._utils.checks import check_count
from mixnn_loader._utils.memory import CHUNK_ROWS, announce
from mixnn_loader._utils.transfer import to_device
from mixnn_loader.run.columns import CPU, Column, Layout
from mixnn_loader.run.saved_rows import HISTORY, check_kinds, check_numbers


class SampleTable:
    """The per-sample rows of one training run, over N samples, C classes and a pool of M neighbors.

    Columns:
        given_labels: (N,), as the dataset gives them; -1 where none has been seen yet.
        neighbor_pool: (N, M), nearest first, the sample itself where there are no more; -1 before the first search.
        losses: (N,), NaN where no loss was taken.
        times_asked: (N,), how often the model has said something of the sample from which its loss was taken.
        wrong_events: (N,), how often of these it has predicted another class than the given one.
        probability_sums: (N,), the sum over these of the probability that it has given to the given one.
        log_clean_probability: (N,), log P(clean), NaN where it is not known.
        soft_targets: (N, C), t. Rows are zero until the label has been seen.
        averages: (N, C), e, the moving averages of predictions; there only while they are needed.
        representations: (N, d), there only while they are needed.
        last_batch: (N,), the number of the training batch in which the sample was drawn last, counted over the whole
            run and distinct on every process; -1 where it has not been drawn.
        unshared: (N,), whether the sample was trained on since the rows were last made the same on all processes; only
            where there are several.

    Args:
        layout: what the columns are made of.
    """

    given_labels = Column(torch.int64, -1, on="cpu")
    neighbor_pool = Column(torch.int64, -1, on="cpu", wide=True)
    losses = Column(torch.float32, torch.nan, on="state")
    times_asked = Column(torch.int32, 0, on="state")
    wrong_events = Column(torch.int32, 0, on="state")
    probability_sums = Column(torch.float32, 0, on="state")
    log_clean_probability = Column(torch.float32, torch.nan, on="state")
    soft_targets = Column(None, 0, on="state", wide=True)
    averages = Column(None, 0, on="state", wide=True)
    representations = Column(None, 0, on="model", wide=True)
    last_batch = Column(torch.int32, -1, on="cpu")
    unshared = Column(torch.bool, 0, on="cpu")

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._announced = False
        self._rows: dict[str, Tensor] = {}
        for name in (*HISTORY, "given_labels", "losses", "log_clean_probability", "last_batch"):
            self._add(name)
        self._add("neighbor_pool", layout.pool_size)
        self._latest_batch = -1

    @classmethod
    def columns(cls) -> list[Column]:
        """List the declared columns."""
        return [column for column in vars(cls).values() if isinstance(column, Column)]

    def __len__(self) -> int:
        """Return N."""
        return self._layout.num_samples

    def has(self, name: str) -> bool:
        """Whether a column is there."""
        return name in self._rows

    def rows_of(self, name: str) -> Tensor:
        """Return a column.

        Raises:
            RuntimeError: it is not there, or not yet.
        """
        if name in self._rows:
            return self._rows[name]
        if name == "soft_targets":
            raise RuntimeError(
                "soft_targets are not there before the first batch, which tells the number of classes; pass "
                "num_classes= to have them at once"
            )
        raise RuntimeError(f"there are no {name}: none has been recorded")

    @property
    def num_classes(self) -> int | None:
        """C, None where it is not known yet."""
        return self.soft_targets.shape[1] if self.has("soft_targets") else None

    def to(self, device: torch.device) -> None:
        """Move what mini-batches are made of to the one device that was asked for, or else to the model's.

        Args:
            device: the model's.
        """
        for column in self.columns():
            if column.on != "cpu" and self.has(column.name):
                # Not by page-locked memory, of which as much again would be taken for a whole column.
                self._rows[column.name] = self._rows[column.name].to(self._layout.place(column, device))

    def replace(self, name: str, rows: Tensor) -> None:
        """Take over a whole column.

        Args:
            name: the column's.
            rows: (N, ...) of its type, on its device.
        """
        self._rows[name] = rows

    def drop(self, name: Literal["averages", "representations"]) -> None:
        """Give the memory of a column back, if it is there."""
        self._rows.pop(name, None)

    def set_num_classes(self, num_classes: int) -> None:
        """Take in the width of the model's output, C.

        Raises:
            ValueError: it is not what it was, or no positive integer.
        """
        check_count("num_classes", num_classes, 1, "None or an integer")
        if not self.has("soft_targets"):
            shape, device = (len(self), num_classes), self.losses.device
            announce("soft targets", shape, self._layout.target_dtype, device, "state_device= and target_dtype=")
            self._add("soft_targets", num_classes, device=device)
        elif self.num_classes != num_classes:
            raise ValueError(
                f"the model's output is {num_classes} wide, the soft targets are over {self.num_classes} "
                "classes; they must agree, see num_classes"
            )

    def make_representations(self, width: int, device: torch.device) -> Tensor:
        """Return the representations (N, d), after making room for them where there are none.

        Args:
            width: d.
            device: the model's.
        """
        if not self.has("representations"):
            if not self._announced:  # a scan an epoch takes and gives back the same
                dtype = self._layout.representation_dtype
                announce("representations", (len(self), width), dtype, device, "representation_dtype=")
                self._announced = True
            # Zeros: a row that nothing is written to must not look like one of a model that has diverged.
            self._add("representations", width, device=device)
        return self.representations

    def make_averages(self) -> Tensor:
        """Return the averages (N, C), after making room for them where there are none; C must be known."""
        if not self.has("averages"):
            shape, device = (len(self), self.soft_targets.shape[1]), self.losses.device
            announce("averages", shape, self._layout.target_dtype, device, "state_device= and target_dtype=")
            self._add("averages", shape[1], device=device)
        return self.averages

    def check_labels(self, indices: Tensor, labels: Tensor) -> bool:
        """Check that the labels of samples are what they were.

        Args:
            indices: (n,) int64 on the CPU, dataset indices.
            labels: (n,) int64 on the CPU, in 0..C-1.

        Returns:
            Whether all of them have been recorded.

        Raises:
            ValueError: one is not.
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
        return bool((known >= 0).all())

    def record_labels(self, indices: Tensor, labels: Tensor) -> None:
        """Take in labels that `check_labels` has checked; a sample seen for the first time gets its one-hot target.

        Args:
            indices: (n,) int64 on the CPU, dataset indices.
            labels: (n,) int64 on the CPU, in 0..C-1.
        """
        new, targets = (self.given_labels[indices] < 0).nonzero().flatten(), self.soft_targets
        if len(new) == 0:  # as in every epoch but the first
            return
        for chunk in torch.split(new, CHUNK_ROWS):
            rows = indices[chunk]
            self.given_labels[rows] = labels[chunk]
            one_hot = functional.one_hot(labels[chunk], targets.shape[1])
            targets[to_device(rows, targets.device)] = to_device(one_hot, targets.device, targets.dtype)

    def record_predictions(
        self,
        indices: BatchIndices,
        losses: Tensor,
        is_other: Tensor,
        representations: Tensor | None = None,
        counts: Tensor | None = None,
    ) -> None:
        """Take in what the model says of a batch. Of a sample that is in it more than once, the first counts.

        Args:
            indices: which samples they are.
            losses: (n,) float on the model's device.
            is_other: (n,) bool beside them, whether it predicts another class than the given one.
            representations: (n, d) float on the model's device; None: not kept.
            counts: (n,) bool beside them, whether something was said of the sample at all; None: of each.
        """
        first = indices.first
        if first is not None:
            places = first.on(losses.device)
            losses, is_other = losses[places], is_other[places]
            counts = None if counts is None else counts[places]
        device = self.losses.device
        rows, losses, is_other = indices.on(device), to_device(losses, device), to_device(is_other, device)
        losses, said = losses.to(self.losses.dtype), torch.ones_like(is_other)
        probabilities = (-losses).exp().nan_to_num(0)  # of the given label, from its cross-entropy
        if counts is not None:
            said = to_device(counts, device)
            losses, is_other = torch.where(said, losses, self.losses[rows]), is_other & said
            probabilities = probabilities * said
        self.losses[rows] = losses
        for kept, more in (
            (self.times_asked, said),
            (self.wrong_events, is_other),
            (self.probability_sums, probabilities),
        ):
            if first is None:  # no sample twice: fewer kernels
                kept.index_add_(0, rows, more.to(kept.dtype))
            else:
                kept[rows] = kept[rows] + more
        if representations is None:
            return
        if first is not None:
            representations = representations[first.on(representations.device)]
        self.make_representations(representations.shape[1], representations.device)
        self.write("representations", indices, representations)

    def write(self, name: str, indices: BatchIndices, rows: Tensor) -> None:
        """Write rows of a column that is there; nothing waits for the device, unless the column is on the host.

        Args:
            name: the column's.
            indices: which samples they are.
            rows: (n, ...) of any type, on any device.
        """
        kept = self._rows[name]
        kept[indices.on(kept.device)] = to_device(rows, kept.device, kept.dtype)

    def record_drawn(self, indices: Tensor, rank: int, num_processes: int) -> None:
        """Take in that a batch has been drawn.

        Args:
            indices: (n,) int64 on the CPU, dataset indices.
            rank: which process has drawn it, from 0.
            num_processes: how many there are.
        """
        self._latest_batch = (self._latest_batch // num_processes + 1) * num_processes + rank
        self.last_batch[indices] = self._latest_batch
        if num_processes > 1:
            if not self.has("unshared"):
                self._add("unshared")
            self.unshared[indices] = True

    def emptied(self) -> "SampleTable":
        """Return a table of the same kind in the same place, in which nothing is known."""
        new = SampleTable(self._layout)
        new._rows = {name: new._rows[name].to(self._rows[name].device) for name in new._rows}
        return new

    def forget(self, *, keep_drawn: bool) -> None:
        """Forget what the model has said of the samples, so that targets are one-hot again.

        Args:
            keep_drawn: keep the labels that have been seen, and which samples have been drawn.
        """
        labels, last_batch = self.given_labels, self.last_batch
        for column in self.columns():
            if self.has(column.name) and column.name != "representations":
                self._rows[column.name] = torch.full_like(self._rows[column.name], column.fill)
        self.drop("representations")
        if keep_drawn:
            self.replace("last_batch", last_batch)
            seen = (labels >= 0).nonzero().flatten()
            self.record_labels(seen, labels[seen])

    def unshared_rows(self) -> Tensor:
        """Return the samples (n,) that this process has trained on since it told the others."""
        if not self.has("unshared"):
            return torch.empty(0, dtype=torch.int64, device="cpu")
        return self.unshared.nonzero().flatten()

    def take_unshared(self) -> Tensor:
        """Return the `unshared_rows`, and forget them."""
        rows = self.unshared_rows()
        if len(rows) > 0:
            self.unshared.zero_()
        return rows

    def state_dict(self) -> dict[str, Tensor | None]:
        """Return copies of all columns on the CPU; None for one that is not there."""
        return {
            column.name: self._rows[column.name].detach().to("cpu", copy=True) if self.has(column.name) else None
            for column in self.columns()
        }

    def prepared(self, state: Mapping[str, Any], *, keep_representations: bool) -> Callable[[], None]:
        """Check rows that `state_dict` returned, and return what takes all of them over.

        Args:
            state: the rows; a column that is None is as in a new table.
            keep_representations: whether to take over the representations, too.

        Raises:
            ValueError: they are of another dataset length, number of neighbors or classes, or not all such rows.
        """
        new = SampleTable(self._layout)
        kinds = {column.name: (self._layout.dtype(column), 1 + column.wide) for column in self.columns()}
        check_kinds(state, kinds)
        targets = state["soft_targets"]
        saved_classes = None if targets is None else targets.shape[1]
        # Where nothing has been searched, any width will do.
        is_searched = bool((state["neighbor_pool"] >= 0).any())
        for what, saved, own in (
            ("samples", len(state["given_labels"]), len(self)),
            ("neighbors a sample", state["neighbor_pool"].shape[1] if is_searched else None, self._layout.pool_size),
            ("classes", saved_classes, self.num_classes),
        ):
            if saved is not None and own is not None and saved != own:
                raise ValueError(f"the state is of a run over {saved} {what}, this loader has {own}")
        if targets is None and self.has("soft_targets"):
            new._add("soft_targets", self.num_classes, device=CPU)
        check_numbers(state, kinds, len(self), saved_classes or 0)
        for column in self.columns():
            rows = state.get(column.name)
            unused = {"representations": not keep_representations, "neighbor_pool": not is_searched}
            if rows is None or unused.get(column.name, False):
                continue
            # Wherever the file was loaded to; `to` brings the rows to their place.
            new._rows[column.name] = rows.detach().to("cpu", self._layout.dtype(column), copy=True)
        latest_batch = int(new.last_batch.max()) if len(new) > 0 else -1

        def take_over() -> None:
            self._rows = new._rows
            self._latest_batch = latest_batch

        return take_over

    def _add(self, name: str, width: int | None = None, *, device: torch.device = CPU) -> None:
        column = next(column for column in self.columns() if column.name == name)
        self._rows[name] = self._layout.new_rows(column, width, device)
