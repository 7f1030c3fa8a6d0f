"""Joints of persons, or of whatever has a skeleton: Keypoint R-CNN, or heatmaps of one person an image."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.data.loader import Batch, Samples
from stages.data.samples import Images
from stages.data.targets.keypoints import KeypointSamples, PersonSamples
from stages.losses.heatmaps import heatmap_loss
from stages.metrics.joints import has_torso
from stages.metrics.keypoints import KeypointMetric, Prediction, Target
from stages.models.backbones import Backbone
from stages.models.folder import write_json
from stages.models.heatmaps import HeatmapNet, decoded
from stages.models.keypoint_rcnn import KeypointRCNN
from stages.params.keypoints import Params
from stages.params.skeleton import Skeleton
from stages.tasks import boxes
from stages.tasks.task import Explained

if TYPE_CHECKING:
    from PIL.Image import Image

    from stages.tasks.evaluation import Evaluation

NOWHERE_PX = -1e5  # of a joint that another version does not know: so far off that it counts as not found


class Task:
    """A finder of joints, which come out in pixels of the original image."""

    columns = ("objects",)

    def __init__(self, params: Params, classes: Sequence[str], skeleton: Skeleton = Skeleton()) -> None:
        if not len(skeleton):
            raise ValueError(f"dataset {params.dataset} has no skeleton, so there are no joints to find: use detection")
        self.params, self.classes, self.skeleton = params, tuple(classes), skeleton
        self.by_heatmaps = params.arch == "heatmaps"
        self.main_metric = "pck" if self.by_heatmaps else "ap"
        self.curve_metrics = ("pck", "ap") if self.by_heatmaps else ("ap", "ap50", "pck")
        label = params.heatmaps.label
        if label is not None and label not in self.classes:
            raise ValueError(f"heatmaps.label {label!r} is no class of {params.dataset}: {', '.join(self.classes)}")
        # What heatmaps find has no class of its own: all of it is of this one.
        self.label = label or self.classes[0]
        self.found_classes = (self.label,) if self.by_heatmaps else self.classes

    def samples(self, images: Images, augment_seed: int | None = None) -> Samples:
        """Items with `target` in original pixels, and `keypoints` on the canvas."""
        params, skeleton = self.params, self.skeleton
        size, augmentation = params.image_size_px, params.augmentation
        if self.by_heatmaps:
            return PersonSamples(images, self.label, skeleton, size, augmentation, params.heatmaps, augment_seed)
        return KeypointSamples(images, self.classes, skeleton, size, augmentation, augment_seed)

    def model(self, backbone: Backbone) -> nn.Module:
        """Keypoint R-CNN with a feature pyramid, or deconvolutions."""
        params = self.params
        if self.by_heatmaps:
            return HeatmapNet(backbone, len(self.skeleton), params.heatmaps, params.dropout)
        return KeypointRCNN(
            backbone,
            len(self.classes),
            len(self.skeleton),
            params.faster_rcnn,
            params.keypoint_head,
            label_smoothing=params.label_smoothing,
            dropout=params.dropout,
        )

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Squared errors of the heatmaps; or Faster R-CNN's four losses and the cross-entropy of the joints."""
        device = batch["images"].device
        if self.by_heatmaps:
            keypoints = torch.tensor(np.stack(batch["keypoints"]), dtype=torch.float32, device=device)
            keypoints[..., :2] /= self.params.heatmaps.stride_px
            return {"loss": heatmap_loss(model(batch["images"]), keypoints, self.params.heatmaps.sigma_cells)}
        targets = [
            {**target, "keypoints": torch.tensor(joints, dtype=torch.float32, device=device)}
            for target, joints in zip(boxes.targets(batch), batch["keypoints"], strict=True)
        ]
        return model(batch["images"], boxes.sizes(batch), targets)

    def predict(self, model: nn.Module, batch: Batch) -> list[Prediction]:
        """Persons with their joints in pixels of the original image, best score first."""
        return self._by_heatmaps(model, batch) if self.by_heatmaps else self._by_regions(model, batch)

    def metric(self) -> KeypointMetric:
        """COCO's 10 numbers by OKS, PCK and PCKh, per class and per joint."""
        params = self.params
        reference = params.pck_reference if has_torso(self.skeleton) else "box"
        by = "pck" if self.by_heatmaps else "ap"
        threshold = 0.0 if self.by_heatmaps else 0.5  # heatmaps always find one, whatever its score
        return KeypointMetric(self.found_classes, self.skeleton, by, reference, params.pck_threshold, threshold)  # type: ignore[arg-type]

    def answer(self, prediction: Prediction) -> dict[str, Any]:
        """Boxes with labels, scores, and joints by name."""
        columns = (prediction.labels, prediction.scores, prediction.boxes_xyxy, prediction.keypoints)
        return {
            "boxes": [
                {
                    "label": self.found_classes[label],
                    "score": float(score),
                    "box_xyxy": [float(v) for v in box],
                    "joints": {
                        name: {"x": float(x), "y": float(y), "score": float(sure)}
                        for name, (x, y, sure) in zip(self.skeleton.joints, joints, strict=True)
                    },
                }
                for label, score, box, joints in zip(*columns, strict=True)
            ]
        }

    def prediction(self, key: str, answer: Mapping[str, Any]) -> Prediction:
        """An answer of any version, whose classes and joints may be others, as a prediction for ours."""
        known = [box for box in answer["boxes"] if box["label"] in self.found_classes]
        unknown = {"x": NOWHERE_PX, "y": NOWHERE_PX, "score": 0.0}
        joints = [
            [[joint["x"], joint["y"], joint["score"]] for name in self.skeleton.joints
             for joint in [box.get("joints", {}).get(name, unknown)]]
            for box in known
        ]  # fmt: skip
        return Prediction(
            key,
            np.array([box["box_xyxy"] for box in known], np.float32).reshape(-1, 4),
            np.array([box["score"] for box in known], np.float32),
            np.array([self.found_classes.index(box["label"]) for box in known], np.int64),
            np.array(joints, np.float32).reshape(-1, len(self.skeleton), 3),
        )

    def explained(self, model: nn.Module, batch: Batch) -> Explained:
        """The score of the surest person, none where nobody is found; of heatmaps the mean of their peaks."""
        if self.by_heatmaps:
            score = model(batch["images"])[0].flatten(1).amax(1).mean()
            return Explained(score, f"{self.label}, joints {float(score.detach()):.2f}")
        return boxes.explained(model(batch["images"], boxes.sizes(batch), None)[0], self.classes)

    def untrained(self, backbone: Backbone, train: Images) -> nn.Module:
        """The backbone with a neck and head as they were initialised."""
        return self.model(backbone)

    def draw(self, evaluation: "Evaluation", key: str) -> "Image":
        """A test image twice: with the true joints and with those that were found."""
        from stages.pictures.skeletons import draw_keypoints

        metric = evaluation.metrics["after"]
        prediction, target = metric.samples[key]
        return draw_keypoints(
            evaluation.image(key), target, prediction, self.found_classes, self.skeleton.edges, metric.score_threshold
        )

    def write_results(self, evaluation: "Evaluation", folder: Path) -> None:
        """Truth and predictions in COCO's formats, and pictures: precision and recall, classes, joints."""
        from stages.pictures import bars, curves

        metric = evaluation.metrics["after"]
        numbers = metric.compute()
        recall = numbers["precision_recall"]
        (folder / "precision_recall.png").write_bytes(curves.precision_recall(recall["per_class"], recall["recall"]))
        (folder / "classes.png").write_bytes(bars.per_class(numbers["per_class"], ("ap", "ap50", "pck")))
        shown = [name for name in ("pck", "pckh") if any(name in row for row in numbers["per_joint"].values())]
        (folder / "joints.png").write_bytes(bars.per_class(numbers["per_joint"], shown))
        write_json(folder / "ground_truth.json", metric.ground_truth())
        write_json(folder / "predictions.json", metric.results())

    def _by_heatmaps(self, model: nn.Module, batch: Batch) -> list[Prediction]:
        params = self.params.heatmaps
        heatmaps = model(batch["images"])
        if params.flip_test:
            mirrored = model(batch["images"].flip(-1)).flip(-1)
            heatmaps = (heatmaps + mirrored[:, list(self.skeleton.mirrored)]) / 2
        cells, heights = decoded(heatmaps, params.decoding, params.sigma_cells)
        points = (cells * params.stride_px).double().cpu().numpy()
        scores = heights.clamp(0, 1).float().cpu().numpy()
        return [
            _person(target, crop.to_original(at), sure)
            for target, crop, at, sure in zip(batch["target"], batch["crop"], points, scores, strict=True)
        ]

    def _by_regions(self, model: nn.Module, batch: Batch) -> list[Prediction]:
        found = model(batch["images"], boxes.sizes(batch), None)
        predictions = []
        for output, placement, target in zip(found, batch["placement"], batch["target"], strict=True):
            corners, joints = (output[name].float().cpu().numpy() for name in ("boxes", "keypoints"))
            places = placement.to_original(joints[..., [0, 1, 0, 1]])[..., :2]
            predictions.append(
                Prediction(
                    target.key,
                    placement.to_original(corners).clip(0, [target.width, target.height] * 2),
                    output["scores"].float().cpu().numpy(),
                    output["labels"].cpu().numpy() - 1,
                    np.concatenate([places, joints[..., 2:]], -1).astype(np.float32),
                )
            )
        return predictions


def _person(target: Target, points: NDArray[np.float64], scores: NDArray[np.float32]) -> Prediction:
    """The one person of an image: their box is that of the joints, within the image."""
    ends = np.concatenate([points.min(0), points.max(0)]).clip(0, [target.width, target.height] * 2)
    keypoints = np.concatenate([points, scores[:, None]], 1)
    return Prediction(
        target.key,
        ends[None].astype(np.float32),
        scores.mean(keepdims=True),
        np.zeros(1, np.int64),
        keypoints[None].astype(np.float32),
    )
