"""The model card of a version: its facts brought together, drawn, and kept with the version's run."""

import json
import platform
import tempfile
from collections.abc import Mapping
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from stages.data import pointers
from stages.data.dataset import Dataset
from stages.data.samples import StoredImages
from stages.data.versions import hash_path
from stages.params import document
from stages.params.task import TaskParams
from stages.pictures import card as cards
from stages.pictures.heat import overlay
from stages.tracking import cost, registry, store

FOLDER, FILE = "card", "card.html"
REPORTS = Path("reports/evaluate")
NUM_EXPLAINED = 6


def add(name: str, number: str, champion: str | None) -> str:
    """Make the card of a version of models/NAME as it lies here; returns its address, which the version's tag holds.

    champion: the version that was champion when this one came, if there was one.
    """
    client = store.client()
    version = client.get_model_version(name, number)
    page = cards.page(_card(name, version, champion))
    address = f"runs:/{version.run_id}/{FOLDER}/{FILE}"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / FILE
        file.write_text(page, encoding="utf8")
        client.log_artifact(version.run_id, str(file), FOLDER)
    if not version.description:
        client.update_model_version(name, number, f"Model card: artifact `{FOLDER}/{FILE}` of run {version.run_id}.")
    client.set_model_version_tag(name, number, registry.CARD, address)
    return address


def _card(name: str, version: Any, champion: str | None) -> cards.Card:
    params, texts = document.task_params(name), document.model_params(name)
    dataset = Dataset(Path("data") / params.dataset)
    report = json.loads((REPORTS / f"{name}.json").read_text(encoding="utf8"))
    other, note = _champion(name, version, champion)
    return cards.Card(
        name=name,
        version=str(version.version),
        purpose=texts.purpose,
        limits=texts.limits,
        classes=dataset.titles,
        input_px=_input_px(params),
        counts=dataset.splits,
        lineage=[
            *_lineage(name, params, version),
            _training(name, version, report),
            ("licence of the data", dataset.description.licence or "not given"),
        ],
        report=report,
        champion=other,
        champion_note=note,
        pictures={file.name: file.read_bytes() for file in sorted((REPORTS / name).glob("*.png"))},
        saliency=_saliency(name, dataset),
    )


def _input_px(params: TaskParams) -> str:
    """Width and height of what the model sees; a kind has one of two keys for it."""
    section = params.model_dump()
    height, width = section.get("image_size_px") or (section["image_px"],) * 2
    return f"{width} × {height}"


def _lineage(name: str, params: TaskParams, version: Any) -> list[tuple[str, str]]:
    backbone = document.backbone_params(params.backbone)
    stages = pointers.locked_stages()
    trained, pretrained = (pointers.deps(stages, s) for s in (f"finetune@{name}", f"pretrain@{params.backbone}"))
    data, source = f"data/{params.dataset}", f"data/{backbone.dataset}"
    pretraining = f"{backbone.dataset}, version {pretrained.get(source, 'not known')}"
    pinned = f", sha256 {backbone.weights_sha256}" if backbone.weights_sha256 else ""
    published = f"{Path(backbone.weights).name}{pinned}" if backbone.weights else "none"
    lock = Path("requirements.lock")
    packages = ", ".join(f"{package} {installed(package)}" for package in ("torch", "torchvision", "mlflow"))
    python = f"Python {platform.python_version()} on {platform.machine()}"
    return [
        ("version of the data (DVC)", trained.get(data) or version.tags.get("visionline.dataset_hash") or "not known"),
        ("backbone", f"{params.backbone}: {backbone.arch}, {backbone.objective}"),
        ("published weights to start from", published),
        ("pretrained on", pretraining if backbone.training else "nothing: weights as published"),
        ("weights and report (DVC)", f"{version.tags[registry.MODEL_HASH]}, {version.tags[registry.REPORT_HASH]}"),
        ("snapshot commit", version.tags.get("git.commit") or "none"),
        ("MLflow run", version.run_id),
        ("environment", f"{python}, {packages}; requirements.lock {hash_path(lock) if lock.is_file() else 'missing'}"),
    ]


def _training(name: str, version: Any, report: Mapping[str, Any]) -> tuple[str, str]:
    return "training", cost.in_words(report["training"], cost.asked_metrics(name, version.tags[registry.MODEL_HASH]))


def _champion(name: str, version: Any, number: str | None) -> tuple[Mapping[str, Any] | None, str]:
    """The champion's report, where it is of the same data, and what is to be said of it."""
    if number is None:
        return None, "There was no champion to compare with."
    if number == str(version.version):
        return None, "This version was itself the champion when the card was made."
    champion = store.client().get_model_version(name, number)
    measured, ours = (v.tags.get("visionline.dataset_hash") for v in (champion, version))
    if measured != ours:
        said = f"The champion, version {number}, was measured on other data ({measured or 'not known'})"
        return None, f"{said}: its numbers can't stand beside these."
    report = registry.report(name, champion.tags.get(registry.REPORT_HASH, ""))
    if report is None:
        return None, f"The report of the champion, version {number}, is in no run."
    return report, f"The champion is version {number}, measured on the same data; the difference is not a paired one."


def _saliency(name: str, dataset: Dataset) -> list[tuple[str, bytes]]:
    from stages.tasks.saliency import explain
    from stages.tasks.trained import Trained

    trained = Trained(Path("models") / name)
    images = StoredImages(dataset, "test", *trained.task.columns)
    explained = explain(trained.task, trained.model, trained.task.samples(images), NUM_EXPLAINED)
    return [(e.words, overlay(e.image, e.heat, e.box_xyxy)) for e in explained]
