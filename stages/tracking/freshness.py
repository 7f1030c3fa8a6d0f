"""How old a task's training is, in samples: what came into its datasets since."""

from pathlib import Path

from stages.data.changes import changes
from stages.data.pointers import pointer_hash
from stages.tracking.records import Records


def num_new(records: Records, stage: str, key: str, dataset: str) -> int | None:
    """Samples added or relabelled in a dataset since a stage ran on it last; None when that can't be told.

    It can't when the stage never ran, or the version that it ran on is in neither cache nor remote.
    """
    runs = [run for run in records.runs if (run.stage, run.key) == (stage, key) and dataset in run.data]
    now = pointer_hash(Path(f"data/{dataset}.dvc"))
    if not runs or now is None:
        return None
    before = runs[-1].data[dataset]
    if before == now:
        return 0
    try:
        found = changes(dataset, before, now)
    except FileNotFoundError:
        return None
    return len(found.added) + len(found.relabelled)
