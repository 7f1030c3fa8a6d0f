"""A project, and a model without training: it says how long an image is, of how many, in which box."""

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from stages.tracking import registry

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
        boxes = [{"box": box} for box in model_input["box_xyxy"]] if "box_xyxy" in model_input else [{}] * len(images)
        told = [{"bytes": len(image), "asked": len(images), **box} for image, box in zip(images, boxes)]
        return pd.DataFrame({"answer": [json.dumps(answer) for answer in told]})


set_model(Length())
"""


@pytest.fixture(scope="session")
def length_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the model lies."""
    import mlflow

    folder = tmp_path_factory.mktemp("length")
    (folder / "length.py").write_text(CODE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about an input example
        mlflow.pyfunc.save_model(
            folder / "model", python_model=str(folder / "length.py"), pip_requirements=[],
            signature=registry.signature(takes_boxes=True),
        )  # fmt: skip
    return str(folder / "model")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with parameters and a tracking address of its own."""
    (tmp_path / "params.yaml").write_text("cpu_threads: 1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return tmp_path


@pytest.fixture
def mlflow_project(project: Path, use_database: Callable[[Path], None]) -> Path:
    """A working directory with an empty MLflow database of its own."""
    use_database(project)
    return project
