"""A challenger against the champion: both measured anew on one pinned test set, judged by declared rules."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.data import history
from stages.data.dataset import Dataset
from stages.data.loader import Loader
from stages.data.samples import StoredImages
from stages.metrics import gate
from stages.params import document
from stages.params.model import GateParams
from stages.tasks import task as tasks
from stages.tracking import answers, registry

DARK, BRIGHT = 85.0, 170.0  # mean of an image's pixels: thirds of 0..255
SMALL, LARGE = 32.0**2, 96.0**2  # COCO's limits of an object's area, square pixels
REPORT_TOLERANCE = 0.005  # between the registered number and the one measured anew, which may run on other hardware


@dataclass(frozen=True)
class Questions:
    """The test set as versions are asked about it, in its order."""

    keys: list[str]
    places: list[answers.Place]
    boxes: list[answers.Box]  # of each image, what a version that takes boxes is told; empty: the task has none
    targets: list[Any]


@dataclass(frozen=True)
class Measured:
    """One version's metric on the test set, and what it costs to ask it."""

    version: registry.Version
    metric: Any
    latency_ms: float  # median of one image
    size_mib: float  # of the weights


def judge(name: str, champion: str, challenger: str, params: GateParams, seed: int) -> dict[str, Any]:
    """The decision, ready for JSON: every rule as a check, and whether all that block hold.

    ValueError when the two can't be compared: identical weights, another test set than the challenger was evaluated
    on, a version that does not answer, answers that are not finite, or training data that can't be read any more.
    """
    old, new = registry.version(f"{name}/{champion}"), registry.version(f"{name}/{challenger}")
    if old.model_hash == new.model_hash:
        raise ValueError(f"versions {champion} and {challenger} have identical weights: there is nothing to promote")
    task_params = document.task_params(name)
    dataset = Dataset(Path("data") / task_params.dataset)
    test_set = _pinned(dataset, new)
    task = tasks.build(task_params, dataset.classes, dataset.skeleton)
    images = StoredImages(dataset, "test", *task.columns, "sha256", "source")
    leaked = _leaked(images, [old, new])
    groups = {name: _groups(name, images) for name in params.slices if name != "class"}
    questions = _questions(task, images)
    challenging, reigning = _measured(new, task, questions), _measured(old, task, questions)
    checks = [
        _report_check(task.main_metric, new, challenging),
        _leak_check(leaked, len(images), params.max_leaked),
        *_checks(task, params, (reigning, challenging), groups, seed),
    ]
    return {
        "name": name,
        "champion": champion,
        "challenger": challenger,
        "test_set": {"dataset": dataset.name, "hash": test_set, "num_images": len(images)},
        "metric": task.main_metric,
        "seed": seed,
        "gate": params.model_dump(mode="json"),
        "checks": [asdict(check) for check in checks],
        "passed": all(check.passed is not False for check in checks),
        "needs_approval": params.approval,
    }


def _pinned(dataset: Dataset, challenger: registry.Version) -> str:
    """The hash of the test split; ValueError unless it is the one that the challenger's report was made on."""
    here = dataset.split_hash("test")
    if not here:
        raise ValueError(f"dataset {dataset.name} has no test split: ingest with --split gives it one")
    if challenger.test_set != here:
        raise ValueError(
            f"the test split of {dataset.name} is {here} here, version {challenger.number} was evaluated on "
            f"{challenger.test_set or 'an unknown one'}: visionline run evaluates and registers it anew"
        )
    return here


def _leaked(images: StoredImages, versions: Sequence[registry.Version]) -> list[str]:
    """Source paths of test images whose bytes a version, or its backbone, was trained on."""
    tested = dict(zip(*(images.table[c].to_pylist() for c in ("sha256", "source")), strict=True))
    seen: set[str] = set()
    for dataset, dir_hash in sorted({pair for version in versions for pair in version.trained_on}):
        table = history.version_index(dataset, dir_hash, ["sha256", "split"])
        rows = zip(table["sha256"].to_pylist(), table["split"].to_pylist(), strict=True)
        seen.update(sha256 for sha256, split in rows if split == "train")
    return sorted(tested[sha256] for sha256 in seen.intersection(tested))


def _questions(task: tasks.Task, images: StoredImages) -> Questions:
    folder = images.dataset.folder / "shards"
    rows = zip(*(images.table[c].to_pylist() for c in ("shard", "offset", "size")), strict=True)
    asked = Questions([], [(folder / f"{shard}.tar", offset, size) for shard, offset, size in rows], [], [])
    for batch in Loader(task.samples(images), batch_size=32, seed=0).in_order():
        asked.keys.extend(batch["key"])
        asked.boxes.extend(batch.get("box_xyxy", ()))
        asked.targets.extend(batch["target"])
    return asked


def _measured(version: registry.Version, task: tasks.Task, asked: Questions) -> Measured:
    """Ask a version for all of the test set, in a process of its own with its own code, and measure the answers."""
    print(f"asking version {version.number} for {len(asked.keys)} test images", flush=True)
    latency: dict[str, float] = {}
    boxes = _told(version, asked)
    lines = answers.answers_of(version.uri, asked.places, on_latency=latency.update, boxes=boxes)
    metric = task.metric()
    try:
        for key, target, line in zip(asked.keys, asked.targets, lines, strict=True):
            metric.update([task.prediction(key, _answer(line, key))], [target])
    except ValueError as error:
        raise ValueError(f"version {version.number}: {error}") from None
    return Measured(version, metric, 1000 * latency["single_s"], registry.weights_mib(version))


def _told(version: registry.Version, asked: Questions) -> list[answers.Box] | None:
    """The boxes, if a version was evaluated in them; ValueError where it can't be told them any more."""
    if registry.takes_boxes(version):
        if asked.boxes:
            return asked.boxes
        problem = "of which the task as it is now has none"
    elif _saw_boxes(version):
        problem = "but registered before a request could say one"
    else:
        return None
    raise ValueError(
        f"version {version.number} was evaluated in the true boxes, {problem}: it can't be measured as it was; "
        "--force moves the champion all the same"
    )


def _saw_boxes(version: registry.Version) -> bool:
    """Of one that says nothing of boxes: whether it crops them all the same, as those before requests with boxes did.

    Its section is read as it is: the schema of today may not know all of its keys.
    """
    section = registry.facts(registry.version_at(f"{version.name}/{version.number}"))["params"]
    return section.get("arch") == "heatmaps" and section["heatmaps"].get("crop") == "box"


def _answer(line: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    if "error" in line:
        raise ValueError(f"test image {key} can't be read: {line['error']}")
    return line["answer"]


def _report_check(metric: str, version: registry.Version, measured: Measured) -> gate.Check:
    """The number that the version was registered with is the one that it shows."""
    value, told = float(measured.metric.compute()[metric]), version.reported(metric)
    is_same = told is not None and abs(value - told) <= REPORT_TOLERANCE
    return gate.Check(
        "report", is_same, f"{metric} {value:.4f} measured anew, {told} registered", f"within {REPORT_TOLERANCE}",
        {"measured": value, "registered": told},
    )  # fmt: skip


def _leak_check(leaked: Sequence[str], num_images: int, most: float) -> gate.Check:
    shown = f", the first is {leaked[0]}" if leaked else ""
    return gate.Check(
        "no test image was trained on",
        len(leaked) <= most * num_images,
        f"{len(leaked)} of {num_images}{shown}",
        f"at most {most:.2%}",
        {"leaked": len(leaked)},
    )


def _checks(
    task: tasks.Task,
    params: GateParams,
    measured: Sequence[Measured],
    groups: Mapping[str, Mapping[str, list[str]]],
    seed: int,
) -> list[gate.Check]:
    """The statistical rules and the limits on cost."""
    old, new = measured
    sampling = (params.alpha, params.resamples, seed)
    whole = gate.Pair(old.metric.resampled(), new.metric.resampled())
    main = gate.main_check(whole, task.main_metric, params.rule, params.margin, *sampling)
    pairs = _slices(params.slices, groups, old.metric, new.metric)
    slices = gate.slice_checks(pairs, task.main_metric, params.slice_margin, params.slice_images_min, *sampling)
    costs = (
        gate.ratio_check(
            "latency", old.latency_ms, new.latency_ms, "ms", params.max_latency_ms, params.max_latency_ratio
        ),
        gate.ratio_check("size", old.size_mib, new.size_mib, "MiB", params.max_size_mib, params.max_size_ratio),
    )
    return [main, *slices, *(check for check in costs if check is not None)]


def _slices(
    names: Sequence[str], groups: Mapping[str, Mapping[str, list[str]]], champion: Any, challenger: Any
) -> dict[str, gate.Pair]:
    """Both metrics on each part of the test set."""
    pairs: dict[str, gate.Pair] = {}
    for name in names:
        if name == "class":
            old, new = champion.by_class(), challenger.by_class()
            pairs |= {f"class={label}": gate.Pair(old[label], new[label]) for label in new}
            continue
        for value, keys in sorted(groups[name].items()):
            parts = (metric.part(keys).resampled() for metric in (champion, challenger))
            pairs[f"{name}={value}"] = gate.Pair(*parts)
    return pairs


def _groups(name: str, images: StoredImages) -> dict[str, list[str]]:
    """Value -> keys of the test images that have it."""
    values: list[str | None]
    if name == "brightness":
        values = [_brightness(images, i) for i in range(len(images))]
    elif name == "object_size":
        values = [_object_size(objects) for objects in _column("objects", images)]
    elif name == "source":
        values = [Path(path).parts[0] for path in _column("source", images)]
    else:
        values = [str(value) for value in _column(name, images)]
    groups: dict[str, list[str]] = {}
    for key, value in zip(_column("key", images), values, strict=True):
        if value is not None:
            groups.setdefault(value, []).append(key)
    return groups


def _column(name: str, images: StoredImages) -> list[Any]:
    try:
        table = images.dataset.table("test", list(dict.fromkeys(["key", name])))
    except (KeyError, ValueError):
        raise ValueError(f"gate.slices: {name!r} is neither a slice of ours nor a column of the index") from None
    return table[name].to_pylist()


def _brightness(images: StoredImages, index: int) -> str:
    mean = float(images.image(index).decode().float().mean())
    return "dark" if mean < DARK else "bright" if mean >= BRIGHT else "medium"


def _object_size(objects: Sequence[Mapping[str, Any]] | None) -> str | None:
    """COCO's name for the size of an image's median object; None without objects."""
    if not objects:
        return None
    corners = np.array([thing["bbox_xyxy"] for thing in objects])
    area = float(np.median((corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])))
    return "small" if area < SMALL else "large" if area >= LARGE else "medium"
