"""States that older versions of the library have saved, in the form that this one reads."""

from collections.abc import Mapping
from typing import Any

import torch

STATE_VERSION = 4
"""Written into every state; a change of the format raises it.

1: between epochs only, without representations. 2: with representations. 3: within an epoch, too. 4: with parts of
epochs, and the batches in which samples were drawn.
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
        new["pairs"] = torch.zeros(2, dtype=torch.float32, device="cpu")
        new["samples"] = {"representations": None, "drawn": None, **new["samples"]}
    if version <= 3:
        new.setdefault("batch", 0)
        within = new["within"]
        samples = dict(new["samples"])
        drawn = samples.pop("drawn", None)
        samples["unshared"] = drawn
        samples["last_batch"] = None if drawn is None else drawn.cpu().int() - 1
        new["samples"] = samples
        new["trained"] = new["batch"] if within is not None else 0
        new["pairs"] = torch.stack([new["pairs"].cpu().float(), torch.zeros(2, dtype=torch.float32, device="cpu")])
        new["finished"] = False
        if within is not None:
            part = {"first_batch": 0, "first_sample": 0, "offset": 0, "trained": new["batch"]}
            new["within"] = {"part": part, **within, "position": {"num_samples": 0, **within["position"]}}
    return new
