"""Loaded batches onto the model's device, where possible while it still works on the batch before.

Nothing here keeps a batch that has been handed out, nor what it was copied from: inputs are what takes the memory.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mixnn_loader._utils.batch_indices import BatchIndices
from mixnn_loader._utils.nested import map_tensors, tensors_of
from mixnn_loader._utils.transfer import STREAMED, to_device
from mixnn_loader.data.indexed import LoadedBatch
from mixnn_loader.data.unpack import Unpack
from mixnn_loader.method.input_rules import InputRules


class ReceivedBatch(NamedTuple):
    """A loaded batch whose inputs are on the device.

    Attributes:
        loaded: what came from the workers, without the samples: on the host they would outlive their copy.
        inputs: the B·(K+1) inputs, on the device.
        labels: the B·(K+1) labels as the dataset gives them, unchecked.
        groups: (B, K+1) int64 on the device, dataset indices of each sample (column 0) and its neighbors.
        extras: what the batch holds besides, of the B samples, where it was loaded.
    """

    loaded: LoadedBatch
    inputs: Any
    labels: Any
    groups: Tensor
    extras: tuple[Any, ...] = ()

    def batch_indices(self) -> BatchIndices:
        """Return the dataset indices of the B samples, apart from ``groups``, which the user gets."""
        return BatchIndices(self.loaded.groups[:, 0].clone(), self.groups[:, 0].clone())


class Receiver:
    """Unpacks batches and copies them to the device.

    Args:
        unpack: collated batch -> (inputs, labels).
        rules: how inputs will be mixed; None: they are not.
        extras: whether to hand on what a batch holds besides.
    """

    def __init__(self, unpack: Unpack, rules: InputRules | None, *, extras: bool = False) -> None:
        self._unpack = unpack
        self._extras = extras
        self._rules = rules
        self._copies: dict[torch.device, Any] = {}  # streams

    def receive(self, loaded: LoadedBatch, device: torch.device) -> ReceivedBatch:
        """Unpack and copy one batch, which may be empty.

        Raises:
            TypeError: samples or inputs are of a kind that cannot be used.
            ValueError: the collated batch has the wrong length.
        """
        return _copied(self._unpacked(loaded), device)

    def in_turn(self, batches: Iterable[LoadedBatch], device: torch.device) -> Iterator[ReceivedBatch]:
        """Receive every batch when it is asked for."""
        return map(partial(self.receive, device=device), batches)  # a generator would keep the batch it is at

    def one_ahead(self, batches: Iterable[LoadedBatch], device: torch.device) -> Iterator[ReceivedBatch]:
        """Receive every batch before the one in front of it is worked on.

        The copies run on a stream of their own, beside the kernels of the training step. As a batch is loaded earlier
        than without, this is for batches that are loaded with random streams of their own, as workers do.
        """
        streams = _streams_of(device)
        if device not in self._copies:  # one for all passes: memory that is freed on a stream is used on it again
            self._copies[device] = streams.Stream(device)
        copies = self._copies[device]

        def receive(loaded: LoadedBatch) -> ReceivedBatch:
            unpacked = self._unpacked(loaded)  # the user's code, and so on the user's stream
            if any(tensor.device.type != "cpu" for tensor in tensors_of(unpacked.inputs)):
                copies.wait_stream(streams.current_stream(device))  # what it has put on a device may not be there yet
            with streams.stream(copies):
                return _copied(unpacked, device)

        received = map(receive, batches)
        # Popped when it is handed out: a variable would keep the batch until the next one.
        waiting = deque(islice(received, 1))
        while waiting:
            _use_on(streams.current_stream(device), copies, waiting[0])
            try:
                waiting.extend(islice(received, 1))
            except Exception:
                yield waiting.popleft()  # which is whole: what is wrong is the batch after it
                raise
            yield waiting.popleft()

    def _unpacked(self, loaded: LoadedBatch) -> ReceivedBatch:
        inputs, labels, *others = self._unpack(loaded.samples)
        self._check_inputs(inputs, loaded.groups.numel())
        extras = tuple(_first_rows(part, *loaded.groups.shape) for part in others) if self._extras else ()
        return ReceivedBatch(loaded, inputs, labels, loaded.groups, extras)

    def _check_inputs(self, inputs: Any, num_rows: int) -> None:
        for tensor in tensors_of(inputs):
            if tensor.shape[:1] != (num_rows,):
                raise ValueError(
                    f"the collated batch must have a row for each of its {num_rows} samples (the batch and its "
                    f"neighbors), got inputs of shape {tuple(tensor.shape)}; collate_fn must keep every sample, and "
                    "put the inputs of all into one tensor: a list of tensors, or a flat tensor with offsets, is not "
                    "supported"
                )
        if self._rules is not None:
            self._rules.check(inputs)


MOST_FIELDS = 8
"""Fields of a tuple that a dataset gives: a longer list with an entry a sample is a list of samples."""


def _first_rows(part: Any, num_own: int, width: int) -> Any:
    """Return what is of the samples themselves: of whatever has a row a sample, and of nests of that.

    A list whose entries all have a row a sample is what PyTorch's collate_fn makes of samples that are tuples.
    """
    if isinstance(part, Mapping):
        return {key: _first_rows(value, num_own, width) for key, value in part.items()}
    num_rows = num_own * width
    is_nest = isinstance(part, (list, tuple)) and len(part) > 0 and not len(part) == num_rows > MOST_FIELDS
    if is_nest and all(_has_rows(entry, num_rows) for entry in part):
        entries = [_first_rows(entry, num_own, width) for entry in part]
        return type(part)(*entries) if hasattr(part, "_fields") else type(part)(entries)
    return part[:num_own] if _has_rows(part, num_rows) else part


def _has_rows(part: Any, num_rows: int) -> bool:
    if isinstance(part, Mapping):
        return any(_has_rows(value, num_rows) for value in part.values())
    has_rows = part.ndim > 0 if isinstance(part, (Tensor, np.ndarray)) else isinstance(part, (list, tuple))
    if has_rows and len(part) == num_rows:
        return True
    return isinstance(part, (list, tuple)) and len(part) > 0 and all(_has_rows(entry, num_rows) for entry in part)


def _copied(batch: ReceivedBatch, device: torch.device) -> ReceivedBatch:
    inputs = map_tensors(lambda tensor: to_device(tensor, device), batch.inputs)
    loaded = batch.loaded._replace(samples=None)
    return batch._replace(loaded=loaded, inputs=inputs, groups=to_device(batch.groups, device))


def _use_on(training: Any, copies: Any, batch: ReceivedBatch) -> None:
    """Let a stream use what another one has copied."""
    training.wait_stream(copies)
    if batch.groups.device.type in STREAMED:
        for tensor in [batch.groups, *tensors_of(batch.inputs)]:
            tensor.record_stream(training)  # so that its memory is not given away while it is in use there


def _streams_of(device: torch.device) -> Any:
    """Return the module with the streams of ``device``; the CPU's, which do nothing, where there are none."""
    return torch.get_device_module(device) if device.type in STREAMED else torch.cpu
