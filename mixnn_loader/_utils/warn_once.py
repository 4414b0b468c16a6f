"""A cause that lasts for many epochs is warned of in the first of them."""

from mixnn_loader._utils.log import logger
from mixnn_loader._utils.warn import warn_user


class WarnOnce:
    """Gives each warning once; from then on it is logged.

    Python's default filter does so for a text at a place, but a text with a count in it is a new one in every epoch,
    and frameworks and ``-W always`` switch the filter off.

    Example:
        >>> import warnings
        >>> warn = WarnOnce()
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     for count in (3, 5):
        ...         warn("%d samples have a NaN loss", count)
        >>> [str(warning.message) for warning in caught]
        ['3 samples have a NaN loss']
    """

    def __init__(self) -> None:
        self._given: set[str] = set()

    def __call__(self, message: str, *values: object) -> None:
        """Give a warning at the user's line, or log it at INFO if it was given before.

        Args:
            message: the text, with the placeholders of `logging` for what may differ the next time.
            *values: what goes there.

        Warns:
            RuntimeWarning: for the first time.
        """
        if message in self._given:
            logger.info(message, *values)
            return
        warn_user(message % values if values else message, RuntimeWarning)
        self._given.add(message)  # not if warnings are errors: the next attempt meets it again
