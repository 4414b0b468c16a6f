"""Small label reports for tests."""

from typing import Any

import numpy as np

from mixnn_loader.report.label_report import LabelReport


def label_report(num_samples: int = 6, num_classes: int = 3, **changes: Any) -> LabelReport:
    """A report on samples 10, 20, ...: the first third have the class after the given one suggested."""
    rows = np.arange(num_samples)
    given = rows % num_classes
    is_issue = rows < num_samples // 3
    suggested = np.where(is_issue, (given + 1) % num_classes, given)
    clean = np.linspace(0, 1, num_samples, dtype=np.float32)
    neighbors = np.stack([np.roll(10 * rows + 10, -shift) for shift in (1, 2)], axis=1)
    arguments: dict[str, Any] = {
        "indices": 10 * rows + 10,
        "given_labels": given,
        "suggested_labels": suggested,
        "clean_probability": clean,
        "readings": np.stack([np.sqrt(clean), clean, clean**2], axis=1),
        "confidence": np.where(is_issue, 1 - clean, clean).astype(np.float32),
        "losses": np.linspace(3, 0.1, num_samples, dtype=np.float32),
        "wrong_event_share": np.where(rows == 0, np.nan, 1 - clean).astype(np.float32),
        "label_probability": np.where(rows == 0, np.nan, clean / 2).astype(np.float32),
        "neighbors": neighbors,
        "neighbor_labels": given[neighbors // 10 - 1],
        "agreement": np.full(num_samples, 0.5, dtype=np.float32),
        "class_names": [f"class {label}" for label in range(num_classes)],
        "paths": [f"folder/{row}.png" for row in rows],
        "transition": np.eye(num_classes, dtype=np.float32),
        "num_samples": num_samples,
        "dataset_length": 10 * num_samples + 10,
        "wrong_labels": 2.0,
        "wrong_labels_interval": (1.0, 3.0),
        "duplicates": [],
    }
    return LabelReport(**{**arguments, **changes})
