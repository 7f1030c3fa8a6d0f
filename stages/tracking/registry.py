"""Versions of a model in MLflow's registry: found by what they hold, aliased, asked for answers."""

import json
import logging
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.data.versions import hash_path
from stages.tracking import answers as model_answers
from stages.tracking import store

CHALLENGER, CHAMPION = "challenger", "champion"
MODEL_HASH, REPORT_HASH = "visionline.model", "visionline.report"
DECISION = "visionline.decision"  # the run that holds what the gate decided last of a version
TEST_SET, TRAINED_ON = "visionline.test_set", "visionline.trained_on"
CARD = "visionline.card"  # where the model card of a version lies
BOX = "box_xyxy"  # column of a request
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Version:
    """A registered version, as its tags tell of it."""

    name: str
    number: str
    tags: Mapping[str, str]

    @property
    def uri(self) -> str:
        """The address that MLflow loads it from."""
        return f"models:/{self.name}/{self.number}"

    @property
    def model_hash(self) -> str:
        """DVC's hash of models/NAME."""
        return self.tags.get(MODEL_HASH, "")

    @property
    def test_set(self) -> str:
        """What pins the test split that its report was made on."""
        return self.tags.get(TEST_SET, "")

    @property
    def trained_on(self) -> list[tuple[str, str]]:
        """(dataset, hash) of all that it, or its backbone, learned from; ValueError when that was not noted."""
        told = json.loads(self.tags.get(TRAINED_ON) or "null")
        if told is None:
            raise ValueError(f"what version {self.number} of {self.name} was trained on is not known: register it anew")
        return [(dataset, digest) for dataset, digest in told]

    def reported(self, metric: str) -> float | None:
        """A number of its report."""
        told = self.tags.get(metric)
        return float(told) if told is not None else None


def version(address: str) -> Version:
    """The version at NAME (its champion), NAME@ALIAS or NAME/VERSION; ValueError with the versions there are."""
    found = version_at(address)
    return Version(found.name, str(found.version), found.tags)


def weights_mib(version: Version) -> float:
    """Size of a version's weights; ValueError when the artifact is not there any more."""
    from mlflow.exceptions import MlflowException

    try:
        folder = Path(mlflow_artifacts(version))
    except (MlflowException, OSError) as error:
        raise ValueError(f"version {version.number}: its artifacts can't be read: {error}") from None
    return sum(file.stat().st_size for file in folder.rglob("*.safetensors")) / 2**20


def mlflow_artifacts(version: Version) -> str:
    """A local folder with the files of a version, downloaded where they lie elsewhere."""
    import mlflow

    store.client()
    return str(mlflow.artifacts.download_artifacts(artifact_uri=version.uri))


def note_decision(name: str, number: str, decision: Mapping[str, Any]) -> str:
    """Keep a decision of the gate as a run of its own and with the version; returns the run's id."""
    client = store.client()
    tags = {"visionline.stage": "promote", "visionline.key": name, "visionline.version": number}
    run_id = client.create_run(store.experiment_id(), tags=tags, run_name=f"promote@{name}").info.run_id
    client.log_dict(run_id, dict(decision), "decision.json")
    client.set_terminated(run_id, "FINISHED")
    client.set_model_version_tag(name, number, DECISION, run_id)
    client.set_model_version_tag(name, number, "visionline.promoted", str(decision["promoted"]).lower())
    return run_id


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
    """Whether the task's model and report as they lie here are registered, with a card, and are the challenger."""
    version = find(name, *contents(name))
    return version is not None and CARD in version.tags and aliases(name).get(CHALLENGER) == str(version.version)


def report(name: str, report_hash: str) -> dict[str, Any] | None:
    """reports/evaluate/NAME.json with this hash, from the run that wrote it; None when no finished run did."""
    import mlflow

    written = f"attributes.status = 'FINISHED' and tags.`dvc.out.reports/evaluate/{name}.json` = '{report_hash}'"
    runs = store.client().search_runs([store.experiment_id()], written, max_results=1)
    return mlflow.artifacts.load_dict(f"{runs[0].info.artifact_uri}/{name}.json") if runs else None


def signature(takes_boxes: bool) -> Any:
    """What a served model takes and gives: see stages/tracking/served.py."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import AnyType

    # MLflow takes whole numbers for no doubles, and a missing one for no list: what a box is, the model itself says.
    box = [ColSpec(AnyType(), BOX, required=False)] if takes_boxes else []
    inputs = Schema([ColSpec(DataType.binary, "image"), *box])
    return ModelSignature(inputs, Schema([ColSpec(DataType.string, "answer")]))


def takes_boxes(version: Version) -> bool:
    """Whether a version can be told, beside an image, which box of it is asked about."""
    import mlflow

    store.client()
    schema = mlflow.models.get_model_info(version.uri).signature.inputs
    return BOX in schema.input_names()


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
