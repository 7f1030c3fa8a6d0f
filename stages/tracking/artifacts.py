"""Files that runs keep in MLflow."""

from collections.abc import Sequence

from stages.tracking import store


def delete(run_id: str, files: Sequence[str]) -> int:
    """Delete files of a run, wherever MLflow keeps them; how many were there."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    repository = get_artifact_repository(store.client().get_run(run_id).info.artifact_uri)
    folders = {file.rpartition("/")[0] for file in files}
    there = {entry.path for folder in folders for entry in store.client().list_artifacts(run_id, folder or None)}
    doomed = sorted(there.intersection(files))
    for file in doomed:
        repository.delete_artifacts(file)
    return len(doomed)
