"""What a search backend promises."""

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class NeighborSearch(Protocol):
    """Finds each row's nearest other rows. Any object with this one method can be a backend.

    Where the same is asked in the scan after, an answer may be used once more.
    """

    def search(self, representations: Tensor, k: int, queries: Tensor | None = None) -> Tensor:
        """Find the ``k`` nearest other rows, by Euclidean distance.

        A row is never its own neighbor, and that goes by row number: another row with the same
        representation is a neighbor like any other, at distance zero.

        Args:
            representations: (N, d) floating point, every entry finite.
            k: neighbors a row, in 1..N-1.
            queries: (Q,) row numbers to answer for, in the order of the answer; None for all N rows.

        Returns:
            (Q, k) int64 row numbers on the device of ``representations``, nearest first, distinct in a row.

        Raises:
            ValueError: an argument has the wrong shape or type, or is out of range.
        """
        ...
