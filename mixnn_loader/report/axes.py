"""Where to draw."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def new_axes() -> "Axes":
    """Return the Axes of a new figure, which pyplot does not know of.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plots need matplotlib: python -m pip install matplotlib") from error
    return Figure(layout="constrained").subplots()
