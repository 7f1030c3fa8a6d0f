"""The ten modes of adaptation on one real task: `python tests/benchmarks/adaptation.py`.

Pretrains the recipe every-task's backbone on tiny-imagenet, then trains its task `objects` (CIFAR-10) once a mode and
seed, each in a process of its own, and prints a table in Markdown: top-1 on the test split, share of the parameters
that train, peak memory of the process, seconds of the training. Data: ../shared/data, beside the repository.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from stages.params import document  # noqa: E402
from stages.params.adaptation import MODES  # noqa: E402

RECIPE = ROOT / "recipes" / "every-task.yaml"
SOURCES = (  # dataset, folder, format, split, as the recipe says
    ("tiny-imagenet", "tiny-imagenet", "tiny-imagenet", None),
    ("cifar", "cifar10-jpeg/train", "imagefolder", "train=0.9,val=0.1"),
    ("cifar", "cifar10-jpeg/test", "imagefolder", "test"),
)
BACKBONE, TASK = "tiny-resnet18", "objects"


class Silent:
    """A monitor that is told of the progress and says nothing."""

    def losses(self, step: int, steps: int, values: dict[str, float]) -> None:
        """Nothing."""

    def metrics(self, step: int, steps: int, values: dict[str, float]) -> None:
        """Nothing."""


def ingested(folder: Path, data: Path) -> None:
    """Both datasets in folder/data."""
    from stages.data.formats import open_source
    from stages.ingest import ingest

    for name, source, fmt, split in SOURCES:
        ingest(folder / "data" / name, open_source(fmt, data / source), split=split, progress=False)


def fitted(objective: Any, model: Any, name: str, training: Any, seed: int, folder: Path, plan: Any) -> float:
    """Train on folder/data/NAME; the seconds that it took."""
    from stages.data.dataset import Dataset
    from stages.data.loader import Loader
    from stages.data.samples import StoredImages
    from stages.training import loop
    from stages.training.checkpoint import Checkpoint

    dataset = Dataset(folder / "data" / name)
    train, val = (StoredImages(dataset, split, *objective.columns) for split in ("train", "val"))
    loaders = [Loader(objective.samples(i, s), training.batch_size, seed) for i, s in ((train, seed), (val, None))]
    began = time.perf_counter()
    loop.fit(objective, model, *loaders, training, Checkpoint(folder / f"state-{os.getpid()}"), Silent(), plan)
    plan.merge()
    return time.perf_counter() - began


def pretrained(folder: Path, options: argparse.Namespace) -> None:
    """folder/models/BACKBONE."""
    from stages.data.dataset import Dataset
    from stages.models import backbones
    from stages.models import folder as models
    from stages.models.adaptation.plan import Plan
    from stages.objectives import objective as objectives
    from stages.training.session import prepare_torch

    params = document.load(RECIPE).backbones[BACKBONE]
    prepare_torch(0, options.threads)
    objective = objectives.build(params, Dataset(folder / "data" / params.dataset).classes)
    backbone = backbones.from_params(params)
    model = objective.model(backbone)
    change = {"steps": options.pretrain_steps, "epochs": None, "validate_every": None} if options.pretrain_steps else {}
    training = params.training.model_copy(update=change)
    seconds = fitted(objective, model, params.dataset, training, 0, folder, Plan())
    models.write(folder / "models" / BACKBONE, backbone, {"arch": params.arch, "stem": params.stem}, [])
    print(f"pretrained in {seconds:.0f} s", flush=True)


def measured(mode: str, seed: int, folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """Train the task in a mode and measure it, in this process, which did nothing else."""
    from stages.data.dataset import Dataset
    from stages.data.samples import StoredImages
    from stages.models import folder as models
    from stages.tasks import task as tasks
    from stages.tasks.evaluation import measure
    from stages.training.session import prepare_torch
    from stages.training.throughput import peak_memory_mib

    params = document.load(RECIPE).tasks[TASK].model_copy(update={"adaptation": MODES[mode]()})
    training = params.training.model_copy(update={"steps": options.steps, "validate_every": None})
    prepare_torch(seed, options.threads)
    dataset = Dataset(folder / "data" / params.dataset)
    task, model, plan = tasks.prepare(params, dataset, models.read_backbone(folder / "models" / BACKBONE))
    idle_mib = peak_memory_mib()
    seconds = fitted(task, model, params.dataset, training, seed, folder, plan)
    peak_mib = peak_memory_mib()
    metric = measure(task, model, StoredImages(dataset, "test", *task.columns)).compute()
    return {
        "top1": metric["top1"],
        "percent": plan.trainable_percent,
        "idle_mib": idle_mib,
        "peak_mib": peak_mib,
        "seconds": seconds,
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="[../shared/data]")
    parser.add_argument("--folder", type=Path, help="keep datasets and backbone here and go on from them [temporary]")
    parser.add_argument("--steps", type=int, default=150, help="of each mode [150, half of the recipe's]")
    parser.add_argument("--pretrain-steps", type=int, help="[the recipe's epochs]")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="medians are over them [0]")
    parser.add_argument("--threads", type=int, default=2, help="of torch [2]")
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=list(MODES), help="[all]")
    parser.add_argument("--one", nargs=2, metavar=("MODE", "SEED"), help=argparse.SUPPRESS)  # what a child does
    return parser.parse_args()


def main() -> None:
    """Print a line of the table as soon as a mode is done."""
    options = _options()
    if options.one:
        mode, seed = options.one
        print(json.dumps(measured(mode, int(seed), options.folder, options)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        if not (folder / "data").exists():
            ingested(folder, options.data)
        if not (folder / "models" / BACKBONE).exists():
            pretrained(folder, options)
        print("| mode | top-1 | trained % | peak MiB | over the idle process, MiB | s |\n|---|---|---|---|---|---|")
        for mode in options.modes:
            rows = [_row(mode, seed, folder, options) for seed in options.seeds]
            value = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
            spread = (
                f" ({min(r['top1'] for r in rows):.3f}–{max(r['top1'] for r in rows):.3f})" if len(rows) > 1 else ""
            )
            numbers = f"{value['percent']:.2f} | {value['peak_mib']:.0f} | {value['peak_mib'] - value['idle_mib']:.0f}"
            print(f"| {mode} | {value['top1']:.3f}{spread} | {numbers} | {value['seconds']:.0f} |", flush=True)


def _row(mode: str, seed: int, folder: Path, options: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", mode, str(seed), "--folder", str(folder)]
    command += ["--steps", str(options.steps), "--threads", str(options.threads)]
    threads = {"OMP_NUM_THREADS": str(options.threads), "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(command, env={**os.environ, **threads}, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{mode}, seed {seed}: {done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
