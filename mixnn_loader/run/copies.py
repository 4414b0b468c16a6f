"""Copies of a loader: what stands in their way is named, and how to get there nevertheless."""

import copy
import pickle
from typing import Any

from torch import nn
from torch.utils.data import DataLoader

from mixnn_loader.run.parts import Options
from mixnn_loader.run.settings import Settings

_OTHERWISE = "build a new loader in its place, and give it this one's state_dict()"


def deep_copied(content: dict[str, Any], memo: dict[int, Any]) -> dict[str, Any]:
    """Copy what a loader is built from.

    Args:
        content: what ``__getstate__`` returned.
        memo: what has been copied with it, such as the model.

    Raises:
        TypeError: a part of it cannot be copied.
    """
    try:
        return copy.deepcopy(content, memo)
    except Exception as error:
        raise TypeError(f"the loader cannot be copied, as a part of it cannot be: {error}; {_OTHERWISE}") from error


def check_picklable(wrapped: DataLoader[Any], settings: Settings, options: Options) -> None:
    """Check the functions and objects that a loader was given; datasets and modules are left to pickle itself.

    Raises:
        TypeError: one cannot be pickled.
    """
    of_loader = {name: getattr(wrapped, name) for name in ("collate_fn", "worker_init_fn")}
    for name, value in {**of_loader, **vars(options), **vars(settings)}.items():
        if isinstance(value, nn.Module) or name == "scan_dataset":
            continue
        try:
            pickle.dumps(value)
        except Exception as error:
            raise TypeError(
                f"the loader cannot be pickled, as its {name} cannot be: {error}; pass a function of a module rather "
                f"than a lambda, or {_OTHERWISE}"
            ) from error
