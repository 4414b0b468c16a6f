"""States that older versions of the library have saved, in the form that this one reads."""

from collections.abc import Mapping
from typing import Any

import torch

STATE_VERSION = 9
"""Written into every state; a change of the format raises it.

1: between epochs only, without representations. 2: with representations. 3: within an epoch, too. 4: with parts of
epochs, and the batches in which samples were drawn. 5: with the first epochs of mixing and of correction. 6: with the
averages of predictions. 7: with wrong events. 8: with counts of changed predictions. 9: with sums of probabilities.
"""


def upgraded(state: Mapping[str, Any], num_batches: int | None = None) -> dict[str, Any]:
    """Bring a state into today's form.

    Args:
        state: what ``state_dict()`` of this or an older version returned.
        num_batches: of a pass over the loader that takes it over; None: it does not tell.

    Raises:
        TypeError: it is no mapping.
        ValueError: it is no such state, not all of one, or one of a newer version.
    """
    if not isinstance(state, Mapping):
        raise TypeError(f"state must be what state_dict() of a MixNNDataLoader returned, got {type(state).__name__}")
    if "version" not in state:
        raise ValueError(
            f"this is no state of a MixNNDataLoader, its keys are {list(state)}; pass what its state_dict() returned, "
            "such as checkpoint['loader']"
        )
    version = state["version"]
    if type(version) is not int or not 1 <= version <= STATE_VERSION:
        raise ValueError(
            f"the state is of version {version}, this library reads 1 to {STATE_VERSION}; if a newer one saved it, "
            "upgrade mixnn_loader"
        )
    new = dict(state)
    try:
        if version <= 2:
            new = _from_2(new)
        if version <= 3:
            new = _from_3(new, num_batches)
        if version <= 4:
            new["phases"] = None
        if version <= 5:
            new["samples"] = {"averages": None, **new["samples"]}
        if version <= 6:
            new["samples"] = {"times_asked": None, "wrong_events": None, **new["samples"]}
        if version <= 7:
            new["changes"] = None
        if version <= 8:
            new["samples"] = {**new["samples"], "probability_sums": _times_right(new["samples"])}
    except KeyError as error:
        raise ValueError(f"the state, of version {version}, has no {error}; is the checkpoint whole?") from error
    except Exception as error:
        raise ValueError(
            f"the state, of version {version}, cannot be read: {error}; is the checkpoint whole?"
        ) from error
    return new


def _times_right(samples: Mapping[str, Any]) -> torch.Tensor | None:
    """Return how often the given labels were predicted, which stands in for the sum of their probabilities.

    The share is Laplace's: nothing that was seen a few times is certain.
    """
    asked, wrong = samples["times_asked"], samples["wrong_events"]
    return None if asked is None or wrong is None else asked * (asked - wrong + 1.0) / (asked + 2.0)


def _from_2(state: dict[str, Any]) -> dict[str, Any]:
    """Bring a state of version 1 or 2 into the form of version 3."""
    generators = state.pop("generators")
    return state | {
        "sampler_state": {"generators": generators, "attributes": {}, "samplers": {}, "epochs": {}},
        "batch": 0,
        "within": None,
        "merged": True,
        "process": (0, 1),
        "pairs": torch.zeros(2, dtype=torch.float32, device="cpu"),
        "samples": {"representations": None, "drawn": None, **state["samples"]},
    }


def _from_3(state: dict[str, Any], num_batches: int | None) -> dict[str, Any]:
    """Bring a state of version 3 into the form of version 4: every batch that was handed out has been trained on."""
    within = state["within"]
    samples = dict(state["samples"])
    samples["unshared"] = samples.pop("drawn")
    # Which were batches together was not kept: each sample that has been seen counts as one of its own.
    labels = samples["given_labels"].cpu()
    numbers = torch.arange(len(labels), dtype=torch.int32, device="cpu")
    samples["last_batch"] = numbers.masked_fill(labels < 0, -1)
    if within is None:
        return state | {"samples": samples, "finished": False, "trained": 0, "estimated": False, "pairs": None}

    position, pairs = dict(within["position"]), state["pairs"].cpu().float()
    # It is counted again when the batches are drawn again.
    position["num_samples"] = sum(len(indices) for indices in position["waiting"].values())
    at_end = position["exhausted"] or position["num_drawn"] == num_batches
    finished = at_end and len(position["waiting"]) == 0
    trained = 0 if finished else state["batch"]
    part = {"first_batch": 0, "first_sample": 0, "offset": 0, "trained": trained}
    history = list(state["history"])
    if finished and history and pairs[1] > 0:
        history[-1] = {**history[-1], "same_label_share": float(pairs[0] / pairs[1])}
    return state | {
        "samples": samples,
        "epoch": state["epoch"] + finished,
        "batch": trained,
        "finished": finished,
        "trained": trained,
        "estimated": not finished,
        "pairs": None if finished else torch.stack([pairs, torch.zeros_like(pairs)]),
        "history": history,
        "within": {**within, "position": position, "part": part},
    }
