"""Stage `evaluate KEY`: measure a task's model on the test split, before and after fine-tuning and from scratch."""

import sys
from pathlib import Path

from stages.params import document
from stages.tracking.process import stage_main


def evaluate(key: str) -> None:
    """Write reports/evaluate/KEY.json and the pictures and predictions in reports/evaluate/KEY/."""
    from stages.data.dataset import Dataset
    from stages.tasks import evaluation
    from stages.tracking.runs import stage_run
    from stages.training.loop import scalars
    from stages.training.session import prepare_torch

    params, seed = document.task_params(key), document.seed()
    dataset = Dataset(Path("data") / params.dataset)
    with stage_run("evaluate", key) as run:
        run.log_params({"seed": seed, **params.model_dump(mode="json")})
        run.log_dataset(params.dataset, "testing")
        prepare_torch(seed, document.cpu_threads())
        folder = Path("reports/evaluate")
        measured = evaluation.evaluate(key, params, dataset, seed)
        report = evaluation.write(measured, folder / f"{key}.json", folder / key)
        for model in measured.metrics:
            run.log_metrics({f"{model}_{name}": value for name, value in scalars(report[model]).items()})
        print("\n".join(report["findings"]))
        run.log_artifact(folder / f"{key}.json")
        run.log_artifact(folder / key, "pictures")


if __name__ == "__main__":
    stage_main({"evaluate": evaluate}, sys.argv[1:])
