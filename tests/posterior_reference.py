"""The probability of each label by its neighbors' votes, in NumPy and scikit-learn, sample by sample."""

import numpy as np
import numpy.typing as npt
from sklearn.isotonic import IsotonicRegression

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def isotonic(values: Floats, weights: Floats, keys: Floats) -> Floats:
    """Fit a non-decreasing sequence to bins, at whose ends there are no ties."""
    n = len(values)
    num_bins = max(1, min(100, n // 50))
    bin_of = np.empty(n, dtype=int)
    for i in range(n):
        last = max(j for j in np.flatnonzero(keys == keys[i]))
        bin_of[i] = last * num_bins // n
    numbers = np.unique(bin_of)
    masses = [weights[bin_of == b].sum() for b in numbers]
    means = [np.average(values[bin_of == b], weights=weights[bin_of == b]) for b in numbers]
    fitted = IsotonicRegression().fit_transform(np.arange(len(numbers)), means, sample_weight=masses)
    return np.asarray(fitted[np.searchsorted(numbers, bin_of)])


def imagined(spread: float, degrees: int, sizes: Floats) -> float:
    """Count the samples of what is usual that overdispersed counts leave room for."""
    dispersion = spread / degrees if degrees else 1.0
    if dispersion <= 1:
        return 1e6
    mean = sizes.sum() / max((sizes > 0).sum(), 1)
    return float(np.clip((mean - dispersion) / (dispersion - 1), 1, 1e6))


def transition_of(counts: Floats) -> Floats:
    """Return how often a class (row) was given as another."""
    num_classes = len(counts)
    most_wrong = 0.98 * (1 - 1 / num_classes)
    sizes, kept = counts.sum(axis=1), np.diag(counts)
    rate = np.clip(1 - kept.sum() / sizes.sum(), 0.001, most_wrong)
    spread = sum((k - n * (1 - rate)) ** 2 / max(n, 1) for k, n in zip(kept, sizes, strict=True)) / (rate * (1 - rate))
    more = imagined(spread, (sizes > 0).sum() - 1, sizes)
    own = np.clip((kept + more * (1 - rate)) / (sizes + more), 1 - most_wrong, 0.999)
    wrong, spread = sizes - kept, 0.0
    for c in range(num_classes):
        for other in range(num_classes):
            if other != c and wrong[c] > 0:
                expected = wrong[c] / (num_classes - 1)
                spread += (counts[c, other] - expected) ** 2 / expected
    more = imagined(spread, (wrong > 0).sum() * (num_classes - 2), wrong)
    found = np.empty_like(counts)
    for c in range(num_classes):
        for other in range(num_classes):
            shared = (counts[c, other] + more / (num_classes - 1)) / (wrong[c] + more)
            found[c, other] = own[c] if other == c else (1 - own[c]) * shared
    return found


def label_posterior(shares: Floats, labels: Integers, blame: float = 0.5) -> tuple[Floats, float, Floats, float]:
    """Return the probabilities (n, C), the share of wrong labels, the transition matrix (C, C), and the trust."""
    num_classes = shares.shape[1]
    nothing = np.eye(num_classes)[labels], 0.0, np.eye(num_classes), 0.0
    asked = np.flatnonzero(shares.max(axis=1) > 0)
    if len(asked) == 0:
        return nothing
    some, given = shares[asked], labels[asked]
    voted, most = some.argmax(axis=1), some.max(axis=1)
    sure = np.zeros(len(asked), dtype=bool)
    for c in range(num_classes):
        of_class = np.sort(most[voted == c])
        if len(of_class) > 0:
            sure |= (voted == c) & (most >= of_class[int(0.75 * len(of_class))])
    agrees = (voted == given).astype(float)
    frequency = np.bincount(given, minlength=num_classes) / len(given)
    by_chance = frequency[voted[sure]].mean()
    error = 3 * np.sqrt(by_chance * (1 - by_chance) / sure.sum())
    if agrees[sure].mean() <= by_chance + error:
        return nothing
    counts = np.zeros((num_classes, num_classes))
    np.add.at(counts, (voted[sure], given[sure]), 1)
    transition = transition_of(counts)
    votes = np.bincount(voted, minlength=num_classes)
    gap, false = np.empty(len(asked)), np.empty(len(asked))
    for i, c in enumerate(voted):
        others = [(votes[o], transition[o, c]) for o in range(num_classes) if o != c]
        false[i] = sum(count * t for count, t in others) / max(sum(count for count, _ in others), 1)
        gap[i] = max(transition[c, c] - false[i], error)
    true_share, right = (most - false) / gap, (agrees - false) / gap
    order = np.argsort(true_share, kind="stable")
    certainty = np.empty(len(asked))
    certainty[order] = isotonic(right[order], gap[order] ** 2, true_share[order])
    certainty = np.clip(certainty, 1 / num_classes, 0.999)
    rate, trusted = (
        0.0,
        float(np.clip(1 - (1 - certainty.mean()) / ((votes * (1 - np.diag(transition))).sum() / len(asked)), 0, 1)),
    )
    least = 1 - 0.98 * (1 - 1 / num_classes)
    probabilities = nothing[0].copy()
    for i, row in enumerate(asked):
        c = voted[i]
        share = max(certainty[i] ** blame, (1 - 2 * (1 - transition[c, c])) / transition[c, c])
        q = min(certainty[i] / share, 0.999)
        kept = np.maximum(np.diag(transition) * share, least)
        likelihood = (1 - kept) * transition[:, given[i]] / (1 - np.diag(transition))
        likelihood[given[i]] = kept[given[i]]
        rate += (1 - kept[c]) / len(asked)
        prior = some[i] + 0.001 / (num_classes - 1)
        prior[c] = 0
        prior = np.minimum((1 - q) * prior / prior.sum(), q)
        prior += max(1 - q - prior.sum(), 0) / (num_classes - 1)
        prior[c] = q
        joint = prior * likelihood
        probabilities[row] = joint / joint.sum()
    return probabilities, rate, transition, trusted


def corrected(shares: Floats, labels: Integers, progress: float) -> Floats:
    """Return the targets (n, C): the probabilities as far as they are trusted or training has gone, else the labels."""
    probabilities, _, _, trust = label_posterior(shares, labels)
    trust = max(trust, progress)
    return trust * probabilities + (1 - trust) * np.eye(shares.shape[1])[labels]
