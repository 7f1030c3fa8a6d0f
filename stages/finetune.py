"""Stages `finetune KEY` and `control KEY`: train a task on a pretrained backbone, and the same from scratch."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from stages.params import document
from stages.params.adaptation import FullParams
from stages.params.task import TaskParams
from stages.tracking.process import stage_main

if TYPE_CHECKING:
    from stages.models.backbone import Backbone


def finetune(key: str) -> None:
    """Write models/KEY from models/BACKBONE and data/DATASET, as tasks.KEY of params.yaml says."""
    from stages.models import folder

    params = document.task_params(key)
    _train("finetune", key, params, Path("models") / key, lambda name: folder.read_backbone(Path("models") / name))


def control(key: str) -> None:
    """Write models/KEY.control: the same model, data and steps as finetune, from random weights, all of which train."""
    from stages.models import backbones, folder

    output, params = Path("models") / f"{key}.control", document.task_params(key)
    if not params.control:
        folder.write(output, None, {"skipped": f"tasks.{key}.control is false"}, [])
        return
    # There is nothing to adapt in random weights: frozen, they would only make pretraining look good.
    params = params.model_copy(update={"adaptation": FullParams()})
    _train("control", key, params, output, lambda name: backbones.from_params(document.backbone_params(name)))


def _train(stage: str, key: str, params: TaskParams, output: Path, make_backbone: "Callable[[str], Backbone]") -> None:
    # torch comes after the thread limits, which OpenMP reads when it is loaded.
    from stages.data.dataset import Dataset
    from stages.tasks import task as tasks
    from stages.tracking.runs import stage_run
    from stages.training import session

    seed = document.seed()
    dataset = Dataset(Path("data") / params.dataset)
    with stage_run(stage, key) as run:
        run.log_params({"seed": seed, "cpu_threads": document.cpu_threads(), **params.model_dump(mode="json")})
        run.log_dataset(params.dataset, "training")
        session.prepare_torch(seed, document.cpu_threads())
        backbone = make_backbone(params.backbone)
        task, model, plan = tasks.prepare(params, dataset, backbone)
        result = session.train(task, model, dataset, params.training, seed, run, plan)
        facts = {
            "arch": backbone.arch,
            "stem": backbone.stem,
            "params": params.model_dump(mode="json"),
            "classes": list(dataset.classes),
            "titles": dict(dataset.titles),
            "trainable_percent": plan.trainable_percent,
            **({"skeleton": dataset.skeleton.to_json()} if len(dataset.skeleton) else {}),
        }
        session.keep(output, model, task.main_metric, result, facts, run)


if __name__ == "__main__":
    stage_main({"finetune": finetune, "control": control}, sys.argv[1:])
