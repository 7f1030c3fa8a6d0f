"""Stage `pretrain KEY`: train a backbone on an ImageNet-style dataset and keep its feature extractor."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from stages.params import document
from stages.params.files import sha256_of
from stages.tracking.process import stage_main

if TYPE_CHECKING:
    from torch import nn


def pretrain(key: str) -> None:
    """Write models/KEY from data/DATASET, as backbones.KEY of params.yaml says; or from published weights alone."""
    # torch comes after the thread limits, which OpenMP reads when it is loaded.
    from stages.data.dataset import Dataset
    from stages.models import backbones
    from stages.objectives import objective as objectives
    from stages.tracking.runs import stage_run
    from stages.training import loop, session

    params, seed = document.backbone_params(key), document.seed()
    dataset = Dataset(Path("data") / params.dataset)
    with stage_run("pretrain", key) as run:
        run.log_params({"seed": seed, "cpu_threads": document.cpu_threads(), **params.model_dump(mode="json")})
        if params.training:
            run.log_dataset(params.dataset, "pretraining")
        session.prepare_torch(seed, document.cpu_threads())
        objective = objectives.build(params, dataset.classes)
        backbone = backbones.from_params(params)
        backbone.set_drop_path(params.drop_path)
        model = objective.model(backbone)
        published = _load_published(model, key, Path(params.weights), params.weights_sha256) if params.weights else {}
        training = params.training
        result = session.train(objective, model, dataset, training, seed, run) if training else loop.Result()
        facts = {
            "arch": params.arch,
            "stem": params.stem,
            "classes": list(dataset.classes) if training else [],
            "image_px": params.image_px,
            **published,
        }
        session.keep(Path("models") / key, backbone, objective.main_metric, result, facts, run)


def _load_published(model: "nn.Module", key: str, file: Path, pinned: str | None) -> dict[str, str]:
    """Load the file of weights and print what of it fits; which file it was. ValueError if it is not the pinned one."""
    from stages.models.weights import load_weights

    if not file.is_file():
        raise ValueError(f"backbones.{key}.weights: there is no file {file}; weights are in no commit: put it there")
    found = sha256_of(file)
    if pinned and found != pinned:
        raise ValueError(
            f"{file} has sha256 {found}, and backbones.{key}.weights_sha256 says {pinned}: "
            "put that file there, or delete the key, so that `visionline run` writes the new hash"
        )
    print(load_weights(model, file))
    return {"weights": file.name, "weights_sha256": found}


if __name__ == "__main__":
    stage_main({"pretrain": pretrain}, sys.argv[1:])
