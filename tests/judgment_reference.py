"""What a label report says of labels, in NumPy and SciPy."""

from typing import Any

import numpy as np
from posterior_reference import label_posterior
from scipy.optimize import brentq


def judgment(shares: Any, labels: Any, predictions: Any, label_probability: Any) -> tuple[Any, Any]:
    """Probabilities (n, C), and readings (n, 3), as `mixnn_loader.method.judgment.judge`; neighbors say something."""
    labels = labels.astype(np.int64)
    everyone = np.arange(len(labels))
    opinions = [label_posterior(shares, labels, blame)[0] for blame in (0.0, 0.5, 1.0)]
    readings = np.stack([opinion[everyone, labels] for opinion in (opinions[0], opinions[2], predictions)], axis=1)
    pooled = np.sqrt(opinions[1].clip(1e-6) * predictions.clip(1e-6))  # no class is ruled out
    pooled /= pooled.sum(axis=1, keepdims=True)
    doubt = 1 - pooled[everyone, labels]
    known = ~np.isnan(label_probability)
    usual = np.average(label_probability[known], weights=doubt[known]) if known.any() else 0.0
    odds = doubt * (1 - np.where(known, label_probability, usual).clip(0, 0.99))
    odds = odds / (1 - odds)
    num_samples, most = len(labels), (1 - readings[:, 1]).sum()
    num_sure = num_samples / 4
    share = min(max(most / num_samples, 1 / num_sure), 0.5)
    total = min(doubt.sum(), most + num_samples * np.sqrt(share * (1 - share) / num_sure))

    def excess(log_factor: float) -> float:
        scaled = odds * np.exp(log_factor)
        return float((scaled / (1 + scaled)).sum() - total)

    scaled = odds * np.exp(brentq(excess, -30, 30, xtol=1e-12))
    wrong = scaled / (1 + scaled)
    pooled[everyone, labels] = 0
    pooled *= (wrong / pooled.sum(axis=1))[:, None]
    pooled[everyone, labels] = 1 - wrong
    return pooled, readings
