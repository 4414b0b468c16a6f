"""What the columns of a `SampleTable` are: where they are kept, of which type, and what stands there at first."""

from dataclasses import dataclass
from typing import Literal, Protocol, overload

import torch
from torch import Tensor

from mixnn_loader._utils.checks import check_floating_type

CPU = torch.device("cpu")


class HasRows(Protocol):
    """A table, as its columns see it."""

    def rows_of(self, name: str) -> Tensor:
        """Return a column."""


class Column:
    """A column of a `SampleTable`: declared in the class, and read as an attribute.

    Args:
        dtype: of its entries; None: the table says.
        fill: what stands there before anything is known.
        on: ``"cpu"``; ``"state"``, where the user wants the state; or ``"model"``, where the model is.
        wide: whether a row has several entries.
    """

    def __init__(
        self,
        dtype: torch.dtype | None,
        fill: float,
        *,
        on: Literal["cpu", "state", "model"],
        wide: bool = False,
    ) -> None:
        self.dtype = dtype
        self.fill = fill
        self.on = on
        self.wide = wide

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, table: None, owner: type) -> "Column": ...
    @overload
    def __get__(self, table: HasRows, owner: type) -> Tensor: ...
    def __get__(self, table: HasRows | None, owner: type) -> "Column | Tensor":
        return self if table is None else table.rows_of(self.name)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What the columns of a table are made of.

    Attributes:
        num_samples: N.
        pool_size: M.
        device: where targets, losses and P are kept; None: beside the model.
        target_dtype: the floating-point type of the kept targets.
        representation_dtype: the floating-point type of the kept representations.

    Raises:
        ValueError: an attribute is outside its range.
    """

    num_samples: int
    pool_size: int
    device: torch.device | None = None
    target_dtype: torch.dtype = torch.float32
    representation_dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        check_floating_type("target_dtype", self.target_dtype)
        check_floating_type("representation_dtype", self.representation_dtype)

    def dtype(self, column: Column) -> torch.dtype:
        """Say of which type a column is."""
        if column.dtype is not None:
            return column.dtype
        return self.representation_dtype if column.name == "representations" else self.target_dtype

    def place(self, column: Column, device: torch.device) -> torch.device:
        """Say where a column is kept.

        Args:
            column: which.
            device: the model's.
        """
        if column.on == "cpu":
            return CPU
        return device if column.on == "model" or self.device is None else self.device

    def new_rows(self, column: Column, width: int | None = None, device: torch.device = CPU) -> Tensor:
        """Make a column in which nothing is known, (N,) or (N, width).

        Args:
            column: which.
            width: entries a row; None: the column is not wide.
            device: the model's.
        """
        shape = (self.num_samples,) if width is None else (self.num_samples, width)
        return torch.full(shape, column.fill, dtype=self.dtype(column), device=self.place(column, device))
