"""The task of joints: its answers by hand, datasets that it can't be of, and a model that is read back."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from stages.data.loader import Loader, normalised
from stages.data.samples import Encoded
from stages.metrics.keypoints import Prediction
from stages.models import backbones, folder
from stages.params.document import task_section
from stages.params.skeleton import Skeleton
from stages.tasks import task as tasks
from stages.tasks.evaluation import Evaluation
from stages.tasks.trained import Trained

JOINTS = Skeleton(("left_end", "right_end", "tip"), ((0, 2), (1, 2)))
ENTRY = {"kind": "keypoints", "dataset": "d", "backbone": "b", "training": {"steps": 1}}
HEATMAPS = ENTRY | {"arch": "heatmaps", "image_size_px": [64, 64], "heatmaps": {"channels": 8}}


def built(skeleton: Skeleton = JOINTS, classes: tuple[str, ...] = ("dust", "cell"), **keys: Any) -> Any:
    return tasks.build(task_section(ENTRY | keys), classes, skeleton)


def picture(width: int = 100, height: int = 60) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (width, height), (200, 90, 20)).save(data, "PNG")
    return data.getvalue()


PREDICTION = Prediction(
    "k",
    np.array([[1, 2, 30, 40]], np.float32),
    np.array([0.75], np.float32),
    np.array([1]),
    np.array([[[3, 4, 0.5], [5, 6, 0.25], [7, 8, 1]]], np.float32),
)
ANSWER = {
    "boxes": [
        {
            "label": "cell",
            "score": 0.75,
            "box_xyxy": [1, 2, 30, 40],
            "joints": {
                "left_end": {"x": 3, "y": 4, "score": 0.5},
                "right_end": {"x": 5, "y": 6, "score": 0.25},
                "tip": {"x": 7, "y": 8, "score": 1},
            },
        }
    ]
}


def test_an_answer_by_hand_and_back():
    task = built()
    assert task.answer(PREDICTION) == ANSWER
    again = task.prediction("k", ANSWER)
    for name in ("boxes_xyxy", "scores", "labels", "keypoints"):
        np.testing.assert_array_equal(getattr(again, name), getattr(PREDICTION, name))
    nobody = task.prediction("k", {"boxes": []})
    assert nobody.keypoints.shape == (0, 3, 3) and task.answer(nobody) == {"boxes": []}


def test_answers_of_a_version_with_other_classes_and_joints():
    joints = {"tip": {"x": 7, "y": 8, "score": 1}, "tail": {"x": 1, "y": 1, "score": 1}}
    told = ANSWER["boxes"][0] | {"joints": joints}
    found = built().prediction(
        "k", {"boxes": [told, told | {"label": "ant"}, {k: told[k] for k in told if k != "joints"}]}
    )
    assert len(found.labels) == 2
    assert found.keypoints[0, 2].tolist() == [7, 8, 1] and (found.keypoints[0, :2, :2] < -1e4).all()


def test_a_dataset_without_skeleton_or_without_the_class_is_refused():
    with pytest.raises(ValueError, match="dataset d has no skeleton, so there are no joints to find: use detection"):
        built(Skeleton())
    with pytest.raises(ValueError, match=r"heatmaps.label 'ant' is no class of d: dust, cell"):
        built(**HEATMAPS | {"heatmaps": {"label": "ant"}})


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"image_size_px": [100, 96]}, r"image_size_px \[100, 96\]: both sides must be multiples of 32"),
        ({"augmentation": {"rotation_deg": 20}}, "rotation_deg turns single persons: use it with arch heatmaps"),
        ({"arch": "yolo"}, "arch: .*'keypoint_rcnn' or 'heatmaps'"),
    ],
)
def test_parameters_that_do_not_fit(keys: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        built(**keys)


def test_a_skeleton_without_torso_is_measured_by_the_box():
    assert built().metric().reference == "box"
    body = Skeleton(("left_shoulder", "right_hip", "tip"))
    assert built(body).metric().reference == "torso"
    assert built(body, pck_reference="box").metric().reference == "box"


class Fixed(torch.nn.Module):
    """Heatmaps whose peaks lie in given cells, and mirrored ones for a mirrored image."""

    def __init__(self, cells: tuple[tuple[int, int], ...]) -> None:
        super().__init__()
        self.cells = cells

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = torch.zeros(len(images), 3, 16, 16)
        is_mirrored = bool(images[0, 0, 0, 0] < images[0, 0, 0, -1])  # the test's image is brighter at the left
        order = JOINTS.mirrored if is_mirrored else (0, 1, 2)
        for k, source in enumerate(order):
            x, y = self.cells[source]
            maps[:, k, y, 15 - x if is_mirrored else x] = 0.8
        return maps


@pytest.mark.parametrize("flip_test", [False, True])
def test_peaks_become_places_in_the_original_image(flip_test: bool):
    """A 64 px canvas of an image 128 x 128: a cell of 4 px is 8 px of the original, its middle 4."""
    task = built(**HEATMAPS | {"heatmaps": {"decoding": "quarter", "flip_test": flip_test}})

    class Images:
        def __len__(self):
            return 1

        def image(self, index):
            pixels = np.zeros((128, 128, 3), np.uint8)
            pixels[:, :64] = 200
            data = io.BytesIO()
            Image.fromarray(pixels).save(data, "PNG")
            return Encoded("1" * 16, data.getvalue(), "RGB", "PNG", 1, 128, 128)

        def value(self, column, index):
            return None

    batch = next(Loader(task.samples(Images()), 1, seed=0).in_order())
    batch["images"] = normalised(batch["images"], torch.device("cpu"), False)
    (found,) = task.predict(Fixed(((2, 3), (10, 4), (7, 12))), batch)
    assert found.keypoints[0, :, :2].tolist() == [[20, 28], [84, 36], [60, 100]]
    np.testing.assert_allclose(found.keypoints[0, :, 2], 0.8, rtol=1e-6)
    assert found.boxes_xyxy.tolist() == [[20, 28, 84, 100]] and found.scores[0] == pytest.approx(0.8)
    assert task.answer(found)["boxes"][0]["label"] == "dust"


class Pictures:
    """Two images with a person each, and one with nobody."""

    def __len__(self) -> int:
        return 3

    def image(self, index: int) -> Encoded:
        return Encoded(f"{index:016x}", picture(), "RGB", "PNG", 1, 100, 60)

    def value(self, column: str, index: int) -> Any:
        if column == "key":
            return f"{index:016x}"
        joints = [10.0, 10, 2, 90, 10, 2, 50, 50, 1]
        person = {"label": "dust", "bbox_xyxy": [5.0, 5, 95, 55], "is_crowd": False, "keypoints": joints}
        return [person] if index < 2 else []


@pytest.mark.parametrize("keys", [HEATMAPS, ENTRY])
def test_results_are_in_cocos_form_and_drawn(tmp_path: Path, keys: dict[str, Any]):
    task = built(**keys)
    samples = task.samples(Pictures())
    items = [samples.load(i, 0, torch.empty(samples.image_shape, dtype=torch.uint8)) for i in range(3)]
    targets = [item["target"] for item in items]
    metric = task.metric()
    scores = [np.full(len(target.labels), 0.9, np.float32) for target in targets]
    found = [Prediction(t.key, t.boxes_xyxy, s, t.labels, t.keypoints) for t, s in zip(targets, scores, strict=True)]
    metric.update(found, targets)
    evaluation = Evaluation("t", task, task.params, Pictures(), {"after": metric}, {}, {}, 0, {})
    assert task.draw(evaluation, f"{0:016x}").width > 900  # one below the other on a sheet
    task.write_results(evaluation, tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "classes.png", "ground_truth.json", "joints.png", "precision_recall.png", "predictions.json",
    ]  # fmt: skip
    coco = COCO(str(tmp_path / "ground_truth.json"))
    evaluator = COCOeval(coco, coco.loadRes(str(tmp_path / "predictions.json")), "keypoints")
    evaluator.params.kpt_oks_sigmas = np.array(JOINTS.sigmas)
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    assert evaluator.stats[0] == pytest.approx(1.0) == metric.compute()["ap"]


@pytest.mark.parametrize("keys", [HEATMAPS])
def test_a_model_is_read_back_with_its_joints(tmp_path, keys: dict[str, Any]):
    torch.manual_seed(0)
    task = built(**keys)
    model = task.model(backbones.build("resnet18"))
    facts = {"arch": "resnet18", "stem": "imagenet", "params": task.params.model_dump(mode="json")}
    facts |= {"classes": ["dust", "cell"], "skeleton": JOINTS.to_json()}
    folder.write(tmp_path / "m", model, facts, [])
    (told, _) = Trained(tmp_path / "m").answers([picture(), picture(300, 40)])
    (box,) = told["boxes"]
    assert list(box["joints"]) == ["left_end", "right_end", "tip"] and box["label"] == "dust"
    assert Trained(tmp_path / "m").task.skeleton == JOINTS


def test_a_model_from_before_there_were_joints_is_read(tmp_path):
    params = task_section(
        {"kind": "classification", "dataset": "d", "backbone": "b", "image_px": 32, "training": {"steps": 1}}
    )
    task = tasks.build(params, ("a", "b"))
    facts = {"arch": "resnet18", "stem": "small", "params": params.model_dump(mode="json"), "classes": ["a", "b"]}
    folder.write(tmp_path / "m", task.model(backbones.build("resnet18", stem="small")), facts, [])
    assert Trained(tmp_path / "m").answers([picture()])[0]["label"] in ("a", "b")
