"""Files that runs keep in MLflow."""

from collections.abc import Sequence

from stages.tracking import store


def delete(run_id: str, files: Sequence[str]) -> int:
    """Delete files of a run, wherever MLflow keeps them; how many were there."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    repository = get_artifact_repository(store.client().get_run(run_id).info.artifact_uri)
    there = [file for file in files if file in _listed(run_id, file)]
    for file in there:
        repository.delete_artifacts(file)
    return len(there)


def _listed(run_id: str, file: str) -> set[str]:
    """Files in the folder of a run's artifact."""
    folder = file.rpartition("/")[0]
    return {entry.path for entry in store.client().list_artifacts(run_id, folder or None)}
