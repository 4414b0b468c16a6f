"""The probability of each label by its neighbors' votes, in NumPy and scikit-learn, class by class."""

import numpy as np
import numpy.typing as npt
from sklearn.isotonic import IsotonicRegression

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def label_posterior(shares: Floats, labels: Integers) -> tuple[Floats, float, Floats, float]:
    """Return the probabilities (n, C), the share of wrong labels, the transition matrix (C, C), and the trust."""
    n, num_classes = shares.shape
    voted, most = shares.argmax(axis=1), shares.max(axis=1)
    agrees = (voted == labels).astype(float)
    order = np.argsort(most, kind="stable")
    rate = 1 - agrees[order[n - max(1, int(0.25 * n)) :]].mean()
    rate = min(max(rate, 0.001), max(0.001, 0.98 * (1 - 1 / num_classes)))
    off = rate / max(num_classes - 1, 1)

    bins = np.array_split(agrees[order], max(1, min(100, n // 50)))
    sizes = [len(part) for part in bins]
    fitted = IsotonicRegression().fit_transform(
        np.arange(len(bins)), [part.mean() for part in bins], sample_weight=sizes
    )
    agreement = np.empty(n)
    agreement[order] = np.repeat(fitted, sizes)
    certainty = np.clip((agreement - off) / (1 - rate - off), 1 / num_classes, 0.999)

    transition = np.empty((num_classes, num_classes))
    for true in range(num_classes):
        of_class = order[voted[order] == true]
        sure = of_class[int(np.floor(0.75 * len(of_class))) :]
        for given in range(num_classes):
            imagined = 20 * (1 - rate if given == true else off)
            transition[true, given] = ((labels[sure] == given).sum() + imagined) / (len(sure) + 20)

    probabilities = np.empty((n, num_classes))
    for i in range(n):
        others = sum(shares[i, c] + 0.001 for c in range(num_classes) if c != voted[i])
        for c in range(num_classes):
            prior = certainty[i] if c == voted[i] else (1 - certainty[i]) * (shares[i, c] + 0.001) / others
            probabilities[i, c] = prior * transition[c, labels[i]]
    trust = min(max(1 - (1 - certainty.mean()) / rate, 0), 1)
    return probabilities / probabilities.sum(axis=1, keepdims=True), rate, transition, trust


def corrected(shares: Floats, labels: Integers, progress: float) -> Floats:
    """Return the targets (n, C): the probabilities as far as these are trusted or training is over, else the labels."""
    probabilities, _, _, trust = label_posterior(shares, labels)
    trust = max(trust, progress)
    return trust * probabilities + (1 - trust) * np.eye(shares.shape[1])[labels]
