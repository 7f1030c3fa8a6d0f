"""An empty MLflow database, and a model without training: it says how long an image is, and of how many at once."""

import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.tracking import store

CODE = """
import json, time
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel


class Length(PythonModel):
    def predict(self, context, model_input: pd.DataFrame, params=None) -> pd.DataFrame:
        print("noise of the model's own")
        images = list(model_input["image"])
        for i, image in enumerate(images):
            if image.startswith(b"bad"):
                raise MlflowException(f"image {i}: not an image", INVALID_PARAMETER_VALUE)
            if image == b"break":
                raise RuntimeError("a hole in the model")
            if image == b"hang":
                time.sleep(600)
        return pd.DataFrame({"answer": [json.dumps({"bytes": len(image), "asked": len(images)}) for image in images]})


set_model(Length())
"""


@pytest.fixture(scope="session")
def length_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the model lies."""
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    folder = tmp_path_factory.mktemp("length")
    (folder / "length.py").write_text(CODE)
    inputs, outputs = ColSpec(DataType.binary, "image"), ColSpec(DataType.string, "answer")
    signature = ModelSignature(Schema([inputs]), Schema([outputs]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about an input example
        mlflow.pyfunc.save_model(
            folder / "model", python_model=str(folder / "length.py"), pip_requirements=[], signature=signature
        )
    return str(folder / "model")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with parameters and a tracking address of its own."""
    (tmp_path / "params.yaml").write_text("cpu_threads: 1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return tmp_path


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database: making one takes seconds, copying one none."""
    file = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(file.parent)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{file}")
        forget_the_store()
        store.client()
        forget_the_store()
    return file


@pytest.fixture
def mlflow_project(migrated: Path, project: Path) -> Iterator[Path]:
    """A working directory with an empty MLflow database of its own."""
    shutil.copy(migrated, project / "mlflow.db")
    forget_the_store()
    yield project
    forget_the_store()


def forget_the_store() -> None:
    for cached in (store.client, store.experiment_id, store.repository_root):
        cached.cache_clear()
