"""Object detection: labelled boxes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn

from stages.data.loader import Batch
from stages.data.samples import Images
from stages.data.targets.detection import DetectionSamples
from stages.metrics.detection import DetectionMetric, Prediction
from stages.models import faster_rcnn, fcos, retinanet, ssd, yolo
from stages.models.backbones import Backbone
from stages.models.folder import write_json
from stages.params.detection import Params
from stages.params.skeleton import Skeleton
from stages.tasks import boxes
from stages.tasks.task import Explained

if TYPE_CHECKING:
    from PIL.Image import Image

    from stages.tasks.evaluation import Evaluation

# By the names that params/detection.py knows; each module has a build().
ARCHITECTURES = {"faster_rcnn": faster_rcnn, "retinanet": retinanet, "fcos": fcos, "ssd": ssd, "yolo": yolo}


class Task:
    """A detector whose boxes come out in pixels of the original image."""

    main_metric = "ap"
    curve_metrics = ("ap", "ap50")
    columns = ("objects",)

    def __init__(self, params: Params, classes: Sequence[str], skeleton: Skeleton = Skeleton()) -> None:
        self.params, self.classes = params, tuple(classes)

    def samples(self, images: Images, augment_seed: int | None = None) -> DetectionSamples:
        """Items with `target` in original pixels, `boxes_xyxy` and `labels` on the canvas."""
        return DetectionSamples(images, self.classes, self.params.image_size_px, self.params.augmentation, augment_seed)

    def model(self, backbone: Backbone) -> nn.Module:
        """The detector that `arch` names; class 0 is the background."""
        return ARCHITECTURES[self.params.arch].build(backbone, len(self.classes), self.params)

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The detector's own losses: of classes and boxes, and what else it predicts."""
        return model(batch["images"], boxes.sizes(batch), boxes.targets(batch))

    def predict(self, model: nn.Module, batch: Batch) -> list[Prediction]:
        """Boxes in pixels of the original image, best score first."""
        found = model(batch["images"], boxes.sizes(batch), None)
        return [
            Prediction(
                target.key,
                placement.to_original(output["boxes"].float().cpu().numpy()).clip(0, [target.width, target.height] * 2),
                output["scores"].float().cpu().numpy(),
                output["labels"].cpu().numpy() - 1,
            )
            for output, placement, target in zip(found, batch["placement"], batch["target"], strict=True)
        ]

    def metric(self) -> DetectionMetric:
        """COCO's 12 numbers, per-class AP, mean IoU of matched boxes."""
        return DetectionMetric(self.classes)

    def answer(self, prediction: Prediction) -> dict[str, Any]:
        """Boxes with labels and scores."""
        rows = zip(prediction.labels, prediction.scores, prediction.boxes_xyxy, strict=True)
        return {
            "boxes": [
                {"label": self.classes[label], "score": float(score), "box_xyxy": [float(v) for v in box]}
                for label, score, box in rows
            ]
        }

    def prediction(self, key: str, answer: Mapping[str, Any]) -> Prediction:
        """An answer of any version, whose classes may be others, as a prediction for ours."""
        known = [box for box in answer["boxes"] if box["label"] in self.classes]
        return Prediction(
            key,
            np.array([box["box_xyxy"] for box in known], np.float32).reshape(-1, 4),
            np.array([box["score"] for box in known], np.float32),
            np.array([self.classes.index(box["label"]) for box in known], np.int64),
        )

    def explained(self, model: nn.Module, batch: Batch) -> Explained:
        """The score of the surest box; none where nothing is found."""
        return boxes.explained(model(batch["images"], boxes.sizes(batch), None)[0], self.classes)

    def untrained(self, backbone: Backbone, train: Images) -> nn.Module:
        """The backbone with a neck and head as they were initialised."""
        return self.model(backbone)

    def draw(self, evaluation: "Evaluation", key: str) -> "Image":
        """A test image twice: with the true boxes and with those that were found."""
        from stages.pictures.predictions import draw_detections

        prediction, target = evaluation.metrics["after"].samples[key]
        return draw_detections(evaluation.image(key), target, prediction, self.classes)

    def write_results(self, evaluation: "Evaluation", folder: Path) -> None:
        """Truth and predictions in COCO's formats, and pictures: precision and recall, classes."""
        from stages.pictures import bars, curves

        metric = evaluation.metrics["after"]
        numbers = metric.compute()
        recall = numbers["precision_recall"]
        (folder / "precision_recall.png").write_bytes(curves.precision_recall(recall["per_class"], recall["recall"]))
        (folder / "classes.png").write_bytes(bars.per_class(numbers["per_class"], ("ap", "ap50")))
        write_json(folder / "ground_truth.json", metric.ground_truth())
        write_json(folder / "predictions.json", metric.results())
