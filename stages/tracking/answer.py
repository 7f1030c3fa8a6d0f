"""A script, run outside the repository: load one registered model and let it answer for the images in a folder."""

import json
import logging
import sys
from pathlib import Path

import mlflow
import pandas as pd


def main(model_uri: str, folder: Path) -> None:
    """Read every numbered file of the folder, write answers.json beside them."""
    files = sorted(file for file in folder.iterdir() if file.name.isdigit())
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    model = mlflow.pyfunc.load_model(model_uri)
    frame = pd.DataFrame({"image": [file.read_bytes() for file in files]})
    answers = [json.loads(row) for row in model.predict(frame)["answer"]]
    (folder / "answers.json").write_text(json.dumps(answers), encoding="utf8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
