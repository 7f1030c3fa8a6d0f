"""Stage `pretrain KEY`: train a backbone on an ImageNet-style dataset and keep its feature extractor."""

import sys
from pathlib import Path

from stages.params import document
from stages.tracking.process import stage_main


def pretrain(key: str) -> None:
    """Write models/KEY from data/DATASET, as backbones.KEY of params.yaml says."""
    # torch comes after the thread limits, which OpenMP reads when it is loaded.
    from stages.data.dataset import Dataset
    from stages.models import backbones
    from stages.models.weights import load_weights
    from stages.objectives import objective as objectives
    from stages.tracking.runs import stage_run
    from stages.training import session

    params, seed = document.backbone_params(key), document.seed()
    dataset = Dataset(Path("data") / params.dataset)
    with stage_run("pretrain", key) as run:
        run.log_params({"seed": seed, "cpu_threads": document.cpu_threads(), **params.model_dump(mode="json")})
        run.log_dataset(params.dataset, "pretraining")
        session.prepare_torch(seed, document.cpu_threads())
        objective = objectives.build(params, dataset.classes)
        backbone = backbones.from_params(params)
        backbone.set_drop_path(params.drop_path)
        model = objective.model(backbone)
        if params.weights:
            print(load_weights(model, Path(params.weights)))
        result = session.train(objective, model, dataset, params.training, seed, run)
        facts = {
            "arch": params.arch,
            "stem": params.stem,
            "classes": list(dataset.classes),
            "image_px": params.image_px,
        }
        session.keep(Path("models") / key, backbone, objective.main_metric, result, facts, run)


if __name__ == "__main__":
    stage_main({"pretrain": pretrain}, sys.argv[1:])
