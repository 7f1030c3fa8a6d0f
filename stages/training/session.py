"""A training as the stages start it: loaders from a dataset, progress, checkpoint."""

import hashlib
import json
import math
import time
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from stages.data.dataset import Dataset
from stages.data.loader import Loader, Samples
from stages.data.samples import Images, StoredImages
from stages.models import folder
from stages.models.adaptation.plan import Plan
from stages.params.training import TrainingParams
from stages.tracking.process import LOCAL_STATE
from stages.tracking.runs import StageRun
from stages.training import loop
from stages.training.checkpoint import Checkpoint
from stages.training.progress import Progress
from stages.training.throughput import peak_memory_mib

CHECKPOINTS = LOCAL_STATE / "checkpoints"


class Trainable(loop.Objective, Protocol):
    """An objective that also says how images become samples."""

    columns: tuple[str, ...]
    curve_metrics: tuple[str, ...]  # keys of the metrics that are told on the way

    def samples(self, images: Images, augment_seed: int | None = None) -> Samples: ...


def prepare_torch(seed: int, cpu_threads: int) -> None:
    """Seed torch and fix how many threads it uses: both are part of the result's bits."""
    torch.manual_seed(seed)
    torch.set_num_threads(cpu_threads)
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")


def train(
    trainable: Trainable,
    model: nn.Module,
    dataset: Dataset,
    params: TrainingParams,
    seed: int,
    run: StageRun,
    plan: Plan = Plan(),
    progress: Progress | None = None,
) -> loop.Result:
    """Train a model (with a `.backbone`) on the train split; it ends with the weights that validation found best.

    plan: how its backbone is adapted. What that cost goes to MLflow, and not into the result.
    progress: who watches, if not a plain Progress; its errors end the training, and the checkpoint stays.
    """
    began_s = time.monotonic()
    checkpoint = Checkpoint(CHECKPOINTS / _identity(run, params, seed))
    progress = progress or Progress(run, trainable.curve_metrics)
    with progress:
        result = loop.fit(
            trainable,
            model,
            _loader(trainable, dataset, "train", params, seed, augment=True),
            _loader(trainable, dataset, "val", params, seed) if "val" in dataset.splits else None,
            params,
            checkpoint,
            progress,
            plan,
        )
    plan.merge()
    run.log_metrics(
        {
            "trainable_percent": plan.trainable_percent,
            "training_s": time.monotonic() - began_s,
            "peak_memory_mib": peak_memory_mib(),
        },
        int(result.history[-1]["step"]),
    )
    checkpoint.remove()
    return result


def _loader(
    trainable: Trainable, dataset: Dataset, split: str, params: TrainingParams, seed: int, augment: bool = False
) -> Loader:
    images = StoredImages(dataset, split, *trainable.columns)
    if not len(images):
        raise ValueError(f"dataset {dataset.name} has no {split} split: visionline ingest with --split gives it one")
    return Loader(trainable.samples(images, seed if augment else None), params.batch_size, seed)


def _identity(run: StageRun, params: TrainingParams, seed: int) -> str:
    """A checkpoint serves only the stage, parameters and input files that it was made with."""
    inputs = {"deps": run.dep_hashes, "params": params.model_dump(mode="json"), "seed": seed, "entry": run.params}
    digest = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
    return f"{run.name}-{digest[:16]}"


def keep(
    output: Path, module: nn.Module, main_metric: str, result: loop.Result, facts: dict[str, Any], run: StageRun
) -> None:
    """Write a trained model's folder and tell MLflow what it came to."""
    best = {} if math.isinf(result.best_metric) else {f"best_{main_metric}": result.best_metric}
    folder.write(output, module, {**facts, **best, "best_step": result.best_step}, result.history)
    run.log_metrics(best, result.best_step)
    for name in (folder.FACTS, folder.HISTORY):
        run.log_artifact(output / name, "model")
