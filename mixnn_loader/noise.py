"""Label noise: transition matrices, and labels corrupted by them; see `mixnn_loader.datasets.noise`."""

from mixnn_loader.datasets.noise import (
    Labels,
    NoisyLabels,
    asymmetric,
    asymmetric_matrix,
    from_matrix,
    pairflip,
    pairflip_matrix,
    symmetric,
    symmetric_matrix,
    transition_matrix,
)

__all__ = [
    "Labels",
    "NoisyLabels",
    "asymmetric",
    "asymmetric_matrix",
    "from_matrix",
    "pairflip",
    "pairflip_matrix",
    "symmetric",
    "symmetric_matrix",
    "transition_matrix",
]
