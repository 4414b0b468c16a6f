"""Samples that are the same, or nearly so, and yet have different labels."""

import numpy as np
import numpy.typing as npt

NEAR = 0.13
"""Two samples are nearly the same where their distance is below this part of the median distance to the nearest.

It is what cleanlab's Datalab takes by default.
"""


def contradicting_duplicates(
    neighbors: npt.NDArray[np.int64], distances: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]
) -> list[npt.NDArray[np.int64]]:
    """Find groups of nearly equal samples that do not all have one label.

    Groups are chains: a sample belongs to a group if it is nearly the same as any sample of it.

    Args:
        neighbors: (n, k) row numbers of the k nearest of each sample.
        distances: (n, k), to them.
        labels: (n,), as given.

    Returns:
        Row numbers of each group, ascending; the groups by their first.

    Example:
        >>> neighbors = np.array([[1], [0], [3], [2], [3]])
        >>> distances = np.array([[0.0], [0.0], [1.0], [1.0], [1.0]], dtype=np.float32)
        >>> contradicting_duplicates(neighbors, distances, np.array([4, 5, 4, 5, 4]))
        [array([0, 1])]
    """
    if neighbors.size == 0:
        return []
    nearest = distances[np.isfinite(distances[:, 0]), 0]  # of what points nowhere, no distance is known
    limit = NEAR * float(np.median(nearest)) if len(nearest) > 0 else 0.0
    # Where half of the samples or more have a twin the median is 0: then equal ones count.
    rows, places = np.nonzero((distances < limit) | (distances == 0))
    if len(rows) == 0:
        return []
    group_of = _connected(rows, neighbors[rows, places], len(neighbors))
    members = np.unique(np.concatenate([rows, neighbors[rows, places]]))
    order = members[np.argsort(group_of[members], kind="stable")]
    starts = np.flatnonzero(np.diff(group_of[order], prepend=-1))
    groups = np.split(order, starts[1:])
    return [group for group in groups if (labels[group] != labels[group[0]]).any()]


def _connected(first: npt.NDArray[np.int64], second: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.int64]:
    """Return the smallest row number of each row's connected component, (size,), of a graph given by its edges."""
    smallest = np.arange(size)
    while True:
        before = smallest.copy()
        np.minimum.at(smallest, first, before[second])
        np.minimum.at(smallest, second, before[first])
        smallest = smallest[smallest]  # a shortcut, so that chains take few rounds
        if (smallest == before).all():
            return smallest
