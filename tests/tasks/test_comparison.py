"""What the gate refuses and why, on a dataset of drawn squares; how a version answers is tested beside `answers`.

And that models which see a person's box are measured as they were evaluated.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from stages.data import history
from stages.data.dataset import Dataset
from stages.data.formats import coco, imagefolder
from stages.data.samples import StoredImages
from stages.data.shapes import write_coco
from stages.ingest import ingest
from stages.models import backbones, folder
from stages.params.classification import Params
from stages.params.document import task_section
from stages.params.model import GateParams
from stages.tasks import comparison, evaluation
from stages.tasks import task as tasks
from stages.tracking import answers, registry, store

CLASSES = ("red", "green", "blue")
SPLITS = {"train": 4, "test": 20}
LENIENT = GateParams(slices=(), margin=0.5, resamples=200)


def draw(root: Path) -> None:
    """Squares of a colour that differ in brightness."""
    rng = np.random.default_rng(0)
    for split, count in SPLITS.items():
        for i, name in enumerate(CLASSES):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 40, (40, 40, 3)).astype(np.uint8)
                pixels[..., i] += 10 * number
                Image.fromarray(pixels).save(root / split / name / f"{number}.png")


@dataclass
class Registry:
    """Versions of the model `squares`, and what they answer: the true class, but for the keys in `wrong`."""

    truth: dict[str, str]
    test_set: str
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    wrong: dict[str, set[str]] = field(default_factory=dict)
    value: float = 1.0
    asked: list[str] = field(default_factory=list)

    def add(self, number: str, wrong: set[str] = frozenset(), **tags: str) -> None:  # type: ignore[assignment]
        self.wrong[number] = set(wrong)
        reported = 1 - len(wrong) / len(self.truth)
        self.tags[number] = {
            registry.MODEL_HASH: f"hash {number}", registry.TEST_SET: self.test_set,
            registry.TRAINED_ON: json.dumps([["squares", "v1.dir"]]), "top1": f"{reported:.4f}",
        } | tags  # fmt: skip

    def version(self, address: str) -> registry.Version:
        name, _, number = address.partition("/")
        return registry.Version(name, number, self.tags[number])

    def answers_of(self, uri: str, places: list[Any], on_latency: Any, boxes: Any) -> Iterator[dict[str, Any]]:
        number = uri.rpartition("/")[2]
        self.asked.append(number)
        on_latency({"single_s": 0.01, "batched_s": 0.01})
        for key in sorted(self.truth):
            others = [name for name in CLASSES if name != self.truth[key]]
            label = others[0] if key in self.wrong[number] else self.truth[key]
            yield {"answer": {"scores": {name: self.value * (name == label) for name in CLASSES}}}


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("squares")
    draw(root / "source")
    ingest(root / "data/squares", imagefolder.read(root / "source"), progress=False, workers=1)
    return root


@pytest.fixture
def known(squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A registry with a perfect champion 1; train data are the split `train` of what lies in data/squares."""
    shutil.copytree(squares / "data", tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    dataset = Dataset(Path("data/squares"))
    rows = dataset.table("test", ["key", "labels"]).to_pylist()
    made = Registry({row["key"]: row["labels"][0] for row in rows}, dataset.split_hash("test"))
    made.add("1")
    params = Params(dataset="squares", backbone="none", image_px=32, training={"steps": 1})
    monkeypatch.setattr(comparison.document, "task_params", lambda name: params)
    monkeypatch.setattr(registry, "version", made.version)
    monkeypatch.setattr(registry, "weights_mib", lambda version: 1.0)
    monkeypatch.setattr(registry, "takes_boxes", lambda version: False)
    monkeypatch.setattr(comparison, "_saw_boxes", lambda version: False)
    monkeypatch.setattr(answers, "answers_of", made.answers_of)
    monkeypatch.setattr(history, "version_index", lambda name, digest, columns: dataset.table(columns=columns))
    return made


def judge(params: GateParams = LENIENT) -> dict[str, Any]:
    return comparison.judge("squares", "1", "2", params, seed=0)


def failing(decision: dict[str, Any]) -> list[str]:
    return [check["rule"] for check in decision["checks"] if check["passed"] is False]


def test_an_equal_challenger_with_other_weights_passes_and_is_not_superior(known: Registry) -> None:
    known.add("2")
    decision = judge()
    assert decision["passed"]
    assert decision["test_set"] == {"dataset": "squares", "hash": known.test_set, "num_images": 60}
    assert failing(judge(LENIENT.model_copy(update={"rule": "superior"}))) == ["superior top1"]


def test_a_class_that_is_lost_blocks_though_the_whole_is_within_the_margin(known: Registry) -> None:
    known.add("2", {key for key, label in known.truth.items() if label == "green"})
    params = GateParams(margin=0.5, slices=("class", "brightness", "source"), slice_images_min=10, resamples=500)
    decision = judge(params)
    assert not decision["passed"]
    assert "slice class=green" in failing(decision) and "slice class=red" not in failing(decision)
    rules = {check["rule"] for check in decision["checks"]}
    assert {"slice brightness=dark", "slice class=blue", "slice source=test"} <= rules


def test_a_column_of_the_index_is_a_slice_and_a_mistyped_one_is_named(known: Registry) -> None:
    known.add("2")
    assert "slice mode=RGB" in {c["rule"] for c in judge(GateParams(slices=("mode",), margin=0.5))["checks"]}
    with pytest.raises(ValueError, match=r"gate\.slices: 'colour' is neither"):
        judge(GateParams(slices=("colour",), margin=0.5))


def test_another_test_set_is_refused_before_anything_is_asked(known: Registry) -> None:
    known.add("2", **{registry.TEST_SET: "0123456789abcdef"})
    with pytest.raises(ValueError, match="was evaluated on 0123456789abcdef"):
        judge()
    assert known.asked == []


def test_identical_weights_are_refused(known: Registry) -> None:
    known.add("2", **{registry.MODEL_HASH: "hash 1"})
    with pytest.raises(ValueError, match="identical weights"):
        judge()


def test_a_stale_report_blocks(known: Registry) -> None:
    known.add("2", top1="0.7500")
    assert failing(judge()) == ["report"]


def test_a_test_image_that_the_champion_trained_on_blocks_and_is_named(
    known: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    known.add("2", **{registry.TRAINED_ON: json.dumps([["other", "v9.dir"]])})
    tested = Dataset(Path("data/squares")).table("test", ["sha256", "split", "source"])

    def index(name: str, digest: str, columns: Any) -> Any:
        if name == "other":
            return tested.slice(0, 0)
        return tested.slice(3, 1).set_column(1, "split", [["train"]])

    monkeypatch.setattr(history, "version_index", index)
    decision = judge()
    assert failing(decision) == ["no test image was trained on"]
    (check,) = [c for c in decision["checks"] if c["passed"] is False]
    assert check["observed"] == f"1 of 60, the first is {tested['source'][3].as_py()}"


def test_training_data_that_nobody_can_read_any_more_are_refused(
    known: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    known.add("2")

    def nowhere(name: str, digest: str, columns: Any) -> Any:
        raise FileNotFoundError(f"dataset {name}: version {digest} can't be read")

    monkeypatch.setattr(history, "version_index", nowhere)
    with pytest.raises(FileNotFoundError, match=r"v1\.dir can't be read"):
        judge()
    known.add("2", **{registry.TRAINED_ON: "null"})
    with pytest.raises(ValueError, match="was trained on is not known"):
        judge()


def test_answers_that_are_not_finite_are_refused(known: Registry) -> None:
    known.add("2")
    known.value = float("nan")
    with pytest.raises(ValueError, match=r"version 2: .*not finite"):
        judge()
    assert known.asked == ["2"]


def test_costs_over_their_limits_block(known: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    known.add("2")
    monkeypatch.setattr(registry, "weights_mib", lambda version: float(version.number))
    assert failing(judge(LENIENT.model_copy(update={"max_size_ratio": 1.5}))) == ["size"]
    assert failing(judge(LENIENT.model_copy(update={"max_latency_ms": 5.0}))) == ["latency"]


def test_a_person_is_asked_for_where_the_gate_wants_one(known: Registry) -> None:
    known.add("2")
    assert judge(LENIENT.model_copy(update={"approval": True}))["needs_approval"] is True


@dataclass
class Arrows:
    """A registry of its own with models that nothing has trained: what they find depends on what they see."""

    dataset: Dataset
    run_id: str

    def params(self, crop: str, arch: str = "heatmaps") -> Any:
        entry = {"kind": "keypoints", "dataset": "arrows", "backbone": "none", "training": {"steps": 1}}
        entry |= {"arch": arch, "image_size_px": [64, 64], "pck_reference": "box", "pck_threshold": 0.5}
        return task_section(entry | {"heatmaps": {"channels": 8, "label": "arrow", "crop": crop}})

    def task(self, crop: str, arch: str = "heatmaps") -> tasks.Task:
        return tasks.build(self.params(crop, arch), self.dataset.classes, self.dataset.skeleton)

    def images(self) -> StoredImages:
        return StoredImages(self.dataset, "test", *self.task("box").columns)

    def pck(self, model: Any, crop: str) -> float:
        """As evaluate measures it."""
        return evaluation.measure(self.task(crop), model, self.images()).compute()["pck"]

    def register(self, number: int, crop: str, *, takes_boxes: bool, **lost: Any) -> float:
        """Add a version, its section with keys that today's has not; returns the number it was registered with."""
        torch.manual_seed(number)
        model, models = self.task(crop).model(backbones.build("resnet18")), Path(f"models/{number}/arrows")
        facts = {"arch": "resnet18", "stem": "imagenet", "params": self.params(crop).model_dump(mode="json") | lost}
        facts |= {"classes": list(self.dataset.classes), "skeleton": self.dataset.skeleton.to_json()}
        folder.write(models, model, facts, [])
        uri = registry.log_model(self.run_id, "arrows", models, registry.signature(takes_boxes=takes_boxes))
        told = self.pck(model, crop)
        tags = {registry.MODEL_HASH: f"hash {number}", registry.TEST_SET: self.dataset.split_hash("test")}
        tags |= {registry.TRAINED_ON: json.dumps([["arrows", "v1.dir"]]), "pck": f"{told:.4f}"}
        assert registry.create_version("arrows", uri, self.run_id, tags) == str(number)
        other = self.pck(model, "image" if crop == "box" else "box")
        assert abs(told - other) > 2 * comparison.REPORT_TOLERANCE  # or nothing below could fail
        return told


@pytest.fixture
def arrows(tmp_path: Path, use_database: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch) -> Arrows:
    write_coco(tmp_path / "source", 2, 2, 16, (96, 128), workers=1)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("cpu_threads: 1\n")
    ingest(Path("data/arrows"), coco.read(tmp_path / "source"), progress=False, workers=1)
    dataset = Dataset(Path("data/arrows"))
    monkeypatch.setattr(history, "version_index", lambda name, digest, columns: dataset.table(columns=columns))
    use_database(tmp_path)
    return Arrows(dataset, store.client().create_run(store.experiment_id()).info.run_id)


@pytest.mark.slow
def test_models_that_see_boxes_are_measured_as_they_were_evaluated(
    arrows: Arrows, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (arrows.register(number, "box", takes_boxes=True) for number in (1, 2))
    monkeypatch.setattr(comparison.document, "task_params", lambda name: arrows.params("box"))
    gate = GateParams(slices=(), margin=1.0, resamples=200, max_latency_ratio=None)
    decision = comparison.judge("arrows", "1", "2", gate, seed=0)
    assert decision["passed"]
    report, _, main, *_ = decision["checks"]
    assert report["rule"] == "report" and report["numbers"]["measured"] == pytest.approx(second, abs=1e-9)
    assert main["numbers"]["champion"] == pytest.approx(first, abs=1e-9)


def test_a_version_is_told_boxes_by_what_it_was_evaluated_in(arrows: Arrows) -> None:
    arrows.register(1, "box", takes_boxes=True)
    arrows.register(2, "image", takes_boxes=False)
    arrows.register(3, "box", takes_boxes=False, since_gone=1)  # as before a request could say any
    box, image, old = (registry.version(f"arrows/{number}") for number in (1, 2, 3))
    for crop, arch in (("box", "heatmaps"), ("image", "heatmaps"), ("box", "keypoint_rcnn")):  # the task today
        asked = comparison._questions(arrows.task(crop, arch), arrows.images())
        assert any(asked.boxes) == (arch == "heatmaps")
        if arch == "heatmaps":
            assert comparison._told(box, asked) == asked.boxes
        else:
            with pytest.raises(ValueError, match="version 1 was evaluated in the true boxes, of which the task as it"):
                comparison._told(box, asked)
        assert comparison._told(image, asked) is None
        with pytest.raises(ValueError, match="version 3 was evaluated in the true boxes, but registered before"):
            comparison._told(old, asked)
    nobody = replace(asked, boxes=[None] * len(asked.keys))  # a test set in which no person is labelled
    assert comparison._told(box, nobody) == nobody.boxes
