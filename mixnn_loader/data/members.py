from typing import Any

import numpy as np
from torch.utils.data import *

from mixnn_loader.data.user_loader import training_members


def declared_members(loader: Any) -> Any:
    s = getattr(loader.batch_sampler, "sampler", loader.sampler)
    if type(loader.batch_sampler) is BatchSampler and type(s).__module__.startswith("torch"):
        return training_members(loader)
    return None


def read_once(loader: Any) -> Any:
    return None


def given_members(members: Any, n: int) -> Any:
    return np.unique(np.array(members))


def makes_own_batches(loader: Any) -> bool:
    return type(loader.batch_sampler).__iter__ is not BatchSampler.__iter__
