"""States that older versions of the library have saved, in the form that this one reads."""

from collections.abc import Mapping
from typing import Any

import torch

STATE_VERSION = 3
"""Written into every state; a change of the format raises it.

1: between epochs only, without representations. 2: with representations. 3: within an epoch, too.
"""


def upgraded(state: Mapping[str, Any]) -> dict[str, Any]:
    """Bring a state into today's form.

    Args:
        state: what ``state_dict()`` of this or an older version returned.

    Raises:
        TypeError: it is no mapping.
        ValueError: it is no such state, or one of a newer version.
    """
    if not isinstance(state, Mapping):
        raise TypeError(f"state must be what state_dict() of a MixNNDataLoader returned, got {type(state).__name__}")
    if "version" not in state:
        raise ValueError(
            f"this is no state of a MixNNDataLoader, its keys are {list(state)}; pass what its state_dict() returned, "
            "such as checkpoint['loader']"
        )
    version = state["version"]
    if not isinstance(version, int) or not 1 <= version <= STATE_VERSION:
        raise ValueError(
            f"the state is of version {version}, this library reads 1 to {STATE_VERSION}; if a newer one saved it, "
            "upgrade mixnn_loader"
        )
    new = dict(state)
    if version <= 2:
        new["sampler_state"] = {"generators": new.pop("generators"), "attributes": {}, "samplers": {}, "epochs": {}}
        new["within"], new["merged"], new["process"] = None, True, (0, 1)
        new["pairs"] = torch.zeros(2)
        new["samples"] = {"representations": None, "drawn": None, **new["samples"]}
    return new
