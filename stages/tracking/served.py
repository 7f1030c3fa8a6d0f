"""The model as MLflow serves it: encoded images in, JSON answers out. Loaded by MLflow as a model from code."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel

from stages.tasks.trained import Trained


class VisionModel(PythonModel):
    """Column `image`: bytes of an encoded image. Column `answer` of the result: JSON, documented at Task.answer.

    Column `box_xyxy`, of models that take boxes: x1, y1, x2, y2 in pixels of the upright image; null: all of it.
    """

    def load_context(self, context: Any) -> None:
        """Build the model from the safetensors that were registered with it."""
        self.trained = Trained(Path(context.artifacts["model"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Answers in the order of the images; an image that can't be read is the caller's error, with a reason.

        A plain DataFrame says to MLflow that the schema is not in the type hints; without any it warns.
        """
        images = list(model_input["image"])
        given = model_input.get("box_xyxy", [None] * len(images))
        boxes = [None if pd.api.types.is_scalar(box) and pd.isna(box) else box for box in given]
        try:
            answers = self.trained.answers(images, boxes)
        except ValueError as error:
            raise MlflowException(str(error), INVALID_PARAMETER_VALUE) from error
        return pd.DataFrame({"answer": [json.dumps(answer) for answer in answers]})


set_model(VisionModel())
