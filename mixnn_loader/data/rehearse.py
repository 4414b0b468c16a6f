from typing import Any

from mixnn_loader._utils.random_state import forked_random_state
from mixnn_loader.data.indexed import *


def load_once(loader: Any, dataset: Any, batches: Any, seed: int) -> Any:
    ds = IndexedDataset(dataset)
    c = IndexedCollate(loader.collate_fn)
    with forked_random_state(seed):
        return [c(ds.__getitems__(IndexBatch(0, b, seed, seed))) for b in batches]
