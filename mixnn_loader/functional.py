"""The method as pure functions, for a loop of one's own, and the protocols that `MixNNDataLoader` takes objects of.

mix: x̃ from samples, neighbors and weights (Eq. 4).
posterior_weights: the weights from log P(clean) (Eq. 10, 11).
clean_posterior: P(clean) from losses (Eq. 8, 9).
moving_average: the corrected targets (Eq. 12).
nearest_neighbors: the neighbors of all rows.
vote_shares, label_posterior: the labels among neighbors, and what the true label is by these and the given one.
"""

from torch import Tensor

from mixnn_loader.method.clean_probability import log_clean_posterior
from mixnn_loader.method.credibility import (
    AgreementCredibility,
    Credibility,
    Estimate,
    Evidence,
    MixtureCredibility,
    VoteCredibility,
)
from mixnn_loader.method.mixing import mix, mix_targets
from mixnn_loader.method.posterior import Posterior, label_posterior
from mixnn_loader.method.soft_targets import moving_average
from mixnn_loader.method.votes import vote_shares
from mixnn_loader.method.weights import Weighting, posterior_weights
from mixnn_loader.neighbors import NeighborSearch, NeighborSource, resolve_search, search_all

__all__ = [
    "AgreementCredibility",
    "Credibility",
    "Estimate",
    "Evidence",
    "MixtureCredibility",
    "NeighborSource",
    "Posterior",
    "VoteCredibility",
    "Weighting",
    "clean_posterior",
    "label_posterior",
    "mix",
    "mix_targets",
    "moving_average",
    "nearest_neighbors",
    "posterior_weights",
    "vote_shares",
]


def clean_posterior(losses: Tensor) -> Tensor:
    """P(clean) of every sample from its loss against the given label (Eq. 8, 9).

    Args:
        losses: (N,), N >= 1, of any floating type, on any device. A sample whose loss is NaN or infinite gets 0.

    Returns:
        (N,) float32 in [0, 1] on the device of ``losses``. For `posterior_weights` take its logarithm, or
        `mixnn_loader.method.clean_probability.log_clean_posterior`, which does not underflow.

    Raises:
        RuntimeError: no loss is finite.
        ValueError: ``losses`` is not a non-empty vector.

    Example:
        >>> import torch
        >>> clean_posterior(torch.tensor([0.1, 0.2, 0.1, 3.0, 3.1, 0.15])).round()
        tensor([1., 1., 1., 0., 0., 1.])
    """
    return log_clean_posterior(losses)[0].exp()


def nearest_neighbors(representations: Tensor, k: int = 1, search: str | NeighborSearch = "auto") -> Tensor:
    """Find each row's ``k`` nearest other rows, by Euclidean distance.

    Args:
        representations: (N, d) floating point, every entry finite.
        k: neighbors a row, in 1..N-1.
        search: ``"exact"``, ``"cells"``, ``"hnsw"``, ``"auto"`` or an object, as for `MixNNDataLoader`.

    Returns:
        (N, k) int64 row numbers, nearest first, on the device of ``representations``.

    Raises:
        ValueError: an argument has the wrong shape or type, or is out of range.

    Example:
        >>> import torch
        >>> nearest_neighbors(torch.tensor([[0.0], [1.0], [3.0], [7.0]]), k=2).tolist()
        [[1, 2], [0, 2], [1, 0], [2, 1]]
    """
    backend = resolve_search(search, num_rows=len(representations), device=representations.device)
    return search_all(backend, representations, k).neighbors
