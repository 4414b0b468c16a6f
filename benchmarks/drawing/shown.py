"""Which runs are shown sample by sample: one of each, since samples have no mean."""

from collections.abc import Sequence

from benchmarks.drawing.runs import Run, grouped
from benchmarks.harness.samples import Samples


def first_of_each(runs: Sequence[Run]) -> list[tuple[Run, Samples]]:
    """Return the run of the smallest seed of every method and task whose samples were kept, with them."""
    kept = [run for run in runs if run.samples_file.exists()]
    groups = grouped(sorted(kept, key=lambda run: run.settings["seed"]), lambda run: f"{run.task}: {run.name}")
    found = [(members[0], members[0].samples()) for members in groups.values()]
    return [(run, samples) for run, samples in found if samples is not None]
