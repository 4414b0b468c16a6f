"""Rows of tensors across the processes that train together."""

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import ProcessGroup

CHUNK_BYTES = 2**28
"""Rows are exchanged in chunks, of which all processes' together take a quarter of a GiB. A backend may copy it."""

_CPU_BACKENDS = ("gloo", "mpi")
"""What these send comes from the CPU's memory anyway, and not all of their calls take other tensors."""


class Processes:
    """The processes of a group; without `torch.distributed`, the one that there is.

    What sends something is a collective call: every process has to make it, in the same order as its other collective
    calls. Where one has ended instead, the call raises, after the group's timeout at the latest.

    Args:
        group: the group; None: the default one, if there is one by the time it is needed.
        device: tells where the model is; None: on the CPU.

    Raises:
        ValueError: this process is not in the group.
    """

    def __init__(
        self, group: ProcessGroup | None = None, device: Callable[[], torch.device] = lambda: torch.device("cpu")
    ) -> None:
        if group is not None and dist.get_rank(group) < 0:
            raise ValueError(f"process_group must be one that this process is in, got {group}")
        self._group = group
        self._device = device

    @property
    def size(self) -> int:
        """How many there are."""
        return dist.get_world_size(self._group) if _initialized() else 1

    @property
    def rank(self) -> int:
        """Which one this is, from 0."""
        return dist.get_rank(self._group) if _initialized() else 0

    def exchange(self, rows: Tensor) -> Iterator[tuple[slice, list[Tensor]]]:
        """Show every process the rows of all, a chunk at a time.

        Args:
            rows: (n,) or (n, width); n is each process's own, and the one without rows need not know the width.

        Yields:
            Which of a process's rows the chunk holds, and these rows of each process by rank, beside ``rows``.
        """
        width = rows[0].numel() if len(rows) > 0 else 0
        sizes = self._stacked(_numbers(len(rows), width))  # (size, 2)
        lengths, width = sizes[:, 0].tolist(), int(sizes[:, 1].max())
        chunk_rows = max(1, CHUNK_BYTES // max(1, self.size * width * rows.element_size()))
        for start in range(0, max(lengths), chunk_rows):
            chunk = slice(start, start + chunk_rows)
            own = rows[chunk]
            padded = rows.new_zeros(min(chunk_rows, max(lengths) - start), width)
            padded[: len(own)] = own.reshape(len(own), width)
            parts = self._stacked(padded)  # (size, n, width)
            yield (
                chunk,
                [
                    (part if rows.dim() > 1 else part.flatten())[: max(0, length - start)]
                    for part, length in zip(parts, lengths, strict=True)
                ],
            )

    def gather(self, rows: Tensor) -> Tensor:
        """Put the rows of all processes one after the other, by rank.

        Args:
            rows: as for `exchange`.

        Returns:
            (sum of n,) or (sum of n, width), the same on every process, on the device of ``rows``.
        """
        if self.size == 1:
            return rows
        chunks = [parts for _, parts in self.exchange(rows)]
        if not chunks:
            return rows
        return torch.cat([parts[rank] for rank in range(self.size) for parts in chunks])

    def union(self, numbers: Tensor) -> Tensor:
        """Return the numbers of all processes.

        Args:
            numbers: (n,) int64 on the CPU, sorted and distinct.

        Returns:
            As many as there are, sorted and distinct.
        """
        if self.size == 1:
            return numbers
        # Usually they are the same everywhere, and may be millions.
        checksums = self._stacked(_numbers(len(numbers), zlib.crc32(numbers.numpy().tobytes())))
        if (checksums == checksums[0]).all():
            return numbers
        united: Tensor = torch.unique(self.gather(numbers))
        return united

    def own_part(self, num_rows: int, device: torch.device) -> Tensor | None:
        """Return the numbers (n,) of the rows that this process answers for; None: all of them."""
        if self.size == 1:
            return None
        numbers = torch.arange(num_rows, dtype=torch.int64, device=device)
        return numbers.tensor_split(self.size)[self.rank]

    def first(self, rows: Tensor) -> Tensor:
        """Return the first process's ``rows``, which have the same shape on all."""
        if self.size == 1:
            return rows
        sent = rows.detach().to(self._device_for(rows), copy=True).contiguous()
        root = 0 if self._group is None else dist.get_global_rank(self._group, 0)
        with _named():
            dist.broadcast(_bytes(sent), root, group=self._group)
        return sent.to(rows.device)

    def check_agreement(self, numbers: dict[str, int]) -> None:
        """Check that numbers are the same on every process.

        Args:
            numbers: this process's, by what they are called in the message.

        Raises:
            RuntimeError: on every process, if one is not.
        """
        if self.size == 1:
            return
        of_all = self._stacked(_numbers(*numbers.values())).T.tolist()
        for name, values in zip(numbers, of_all, strict=True):
            if len(set(values)) > 1:
                raise RuntimeError(
                    f"the {name} must be the same on all processes, got {values} by rank; give all of them the same "
                    "arguments and as many batches, and start, leave and resume epochs on all"
                )

    def _stacked(self, rows: Tensor) -> Tensor:
        """Return the ``rows`` of every process, (size, ...); they have the same shape on all."""
        sent = rows.to(self._device_for(rows))
        received = sent.new_empty(self.size, *sent.shape)
        with _named():
            dist.all_gather([_bytes(part) for part in received.unbind()], _bytes(sent), group=self._group)
        return received.to(rows.device)

    def _device_for(self, rows: Tensor) -> torch.device:
        """Say where the group's backends take ``rows`` from."""
        backends = {}
        for pair in dist.get_backend_config(self._group).split(","):
            kind, _, backend = pair.partition(":")
            backends[kind] = backend
        if backends.get(rows.device.type, "gloo") not in _CPU_BACKENDS:
            return rows.device
        if "cpu" in backends:
            return torch.device("cpu")
        # The model's: not every program sets the current device.
        kind, device = next(iter(backends)), self._device()
        return device if device.type == kind else torch.device(kind, torch.get_device_module(kind).current_device())


def _numbers(*numbers: int) -> Tensor:
    """Put integers on the CPU, whatever the program's default device."""
    return torch.tensor(numbers, dtype=torch.int64, device="cpu")


def _bytes(rows: Tensor) -> Tensor:
    """See a contiguous tensor as bytes, which every backend carries, whatever the type."""
    return rows.reshape(-1).view(torch.uint8)


@contextmanager
def _named() -> Iterator[None]:
    """Say of an exchange that fails what was to be exchanged."""
    try:
        yield
    except RuntimeError as error:
        raise RuntimeError(
            "the other processes did not come to MixNN's exchange at the start or end of an epoch: one has ended, or "
            "they do not all iterate the loader, or leave an epoch at other batches"
        ) from error


def _initialized() -> bool:
    return dist.is_available() and dist.is_initialized()
