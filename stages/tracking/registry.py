"""Versions of a model in MLflow's registry: found by what they hold, aliased, asked for answers."""

import logging
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.data.versions import hash_path
from stages.tracking import answers as model_answers
from stages.tracking import store

CHALLENGER, CHAMPION = "challenger", "champion"
MODEL_HASH, REPORT_HASH = "visionline.model", "visionline.report"
HERE = Path(__file__).parent


def contents(name: str) -> tuple[str, str]:
    """What a version of a task is known by: the hashes of models/NAME and of its report."""
    return hash_path(Path("models") / name), hash_path(Path("reports/evaluate") / f"{name}.json")


def find(name: str, model_hash: str, report_hash: str) -> Any | None:
    """The newest version with these contents; None when the registry has none."""
    found = store.client().search_model_versions(f"name = '{name}'", max_results=1000)
    same = [v for v in found if (v.tags.get(MODEL_HASH), v.tags.get(REPORT_HASH)) == (model_hash, report_hash)]
    return max(same, key=lambda v: int(v.version), default=None)


def aliases(name: str) -> dict[str, str]:
    """Alias -> version number; empty for a name the registry does not know."""
    from mlflow.exceptions import MlflowException

    try:
        return {alias: str(v) for alias, v in store.client().get_registered_model(name).aliases.items()}
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return {}
        raise


def is_current(name: str) -> bool:
    """Whether the task's model and report as they lie here are registered and are the challenger."""
    version = find(name, *contents(name))
    return version is not None and aliases(name).get(CHALLENGER) == str(version.version)


def point(name: str, version: str) -> list[str]:
    """Make a version the challenger, and the champion too where the name has none; returns the aliases it got."""
    given = [CHALLENGER] if aliases(name).get(CHALLENGER) != version else []
    given += [CHAMPION] if CHAMPION not in aliases(name) else []
    for alias in given:
        store.client().set_registered_model_alias(name, alias, version)
    return given


def log_model(run_id: str, name: str, model_folder: Path, signature: Any) -> str:
    """Log models/TASK as a pyfunc model from code with the code that it needs; returns its address."""
    import mlflow

    store.client()
    # It asks for an input example, which for us is the signature, and names torch builds that it does not know.
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=UserWarning)
    with tempfile.TemporaryDirectory() as folder:
        code = Path(folder) / "stages"
        shutil.copytree(HERE.parent, code, ignore=shutil.ignore_patterns("__pycache__"))
        with mlflow.start_run(run_id=run_id):
            logged = mlflow.pyfunc.log_model(
                name=name,
                python_model=str(code / "tracking" / "served.py"),
                artifacts={"model": str(model_folder)},
                code_paths=[str(code)],
                pip_requirements=_requirements(),
                signature=signature,
            )
    return logged.model_uri


def create_version(name: str, model_uri: str, run_id: str, tags: Mapping[str, str]) -> str:
    """Register a logged model under a name; returns the version's number."""
    from mlflow.exceptions import MlflowException

    try:
        store.client().create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    created = store.client().create_model_version(
        name, model_uri, run_id, tags=dict(tags), model_id=model_uri.rpartition("/")[2]
    )
    return str(created.version)


def resolve(address: str) -> str:
    """NAME, NAME@ALIAS or NAME/VERSION to an address that MLflow loads; ValueError with the versions there are."""
    version = version_at(address)
    return f"models:/{version.name}/{version.version}"


def version_at(address: str) -> Any:
    """The version at NAME (its champion), NAME@ALIAS or NAME/VERSION; ValueError with the versions there are."""
    from mlflow.exceptions import MlflowException

    name, _, alias = address.partition("@")
    name, _, number = name.partition("/")
    try:
        if number:
            return store.client().get_model_version(name, number)
        return store.client().get_model_version_by_alias(name, alias or CHAMPION)
    except MlflowException as error:
        known = ", ".join(f"@{a} (version {v})" for a, v in sorted(aliases(name).items())) or "none registered"
        raise ValueError(f"no model {address!r} in the registry; of {name!r} there are: {known}") from error


def facts(version: Any) -> dict[str, Any]:
    """model.json of a version, as it was registered: params with the task's kind, classes, architecture.

    RuntimeError when it is not where the registry says.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    store.client()
    address = f"models:/{version.name}/{version.version}"
    try:
        return mlflow.artifacts.load_dict(f"{address}/artifacts/{version.name}/model.json")
    except MlflowException as error:
        raise RuntimeError(f"{address} can't be read: {' '.join(str(error).split())}") from None


def answers(model_uri: str, images: Sequence[bytes]) -> list[dict[str, Any]]:
    """What a model says of encoded images: see stages.tracking.answers."""
    return model_answers.answers(model_uri, images)


def _requirements() -> list[str]:
    """What a served model imports, at the versions it was made with."""
    from importlib.metadata import version

    names = ("mlflow", "numpy", "pandas", "pillow", "pyarrow", "pycocotools", "pydantic", "ruamel.yaml")
    names_of_models = ("imagehash", "safetensors", "scipy", "torch", "torchvision")
    return [f"{name}=={version(name)}" for name in (*names, *names_of_models)]
