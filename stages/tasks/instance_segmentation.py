"""Instance segmentation: labelled boxes with the mask of each object."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from stages.data import run_lengths
from stages.data.loader import Batch
from stages.data.samples import Images
from stages.data.targets.instance_segmentation import InstanceSegmentationSamples
from stages.data.transforms import Placement
from stages.metrics.instance_segmentation import InstanceSegmentationMetric, Prediction, Target
from stages.models.backbones import Backbone
from stages.models.folder import write_json
from stages.models.mask_rcnn import MaskRCNN
from stages.params.instance_segmentation import Params
from stages.params.skeleton import Skeleton
from stages.tasks import boxes
from stages.tasks.task import Explained

if TYPE_CHECKING:
    from PIL.Image import Image

    from stages.tasks.evaluation import Evaluation


PICTURE_PX = 640  # the long side of a drawn mask


class Task:
    """A detector that also outlines what it finds; boxes and masks are in pixels of the original image."""

    main_metric = "mask_ap"
    curve_metrics = ("mask_ap", "mask_ap50", "ap")
    columns = ("objects",)

    def __init__(self, params: Params, classes: Sequence[str], skeleton: Skeleton = Skeleton()) -> None:
        self.params, self.classes = params, tuple(classes)

    def samples(self, images: Images, augment_seed: int | None = None) -> InstanceSegmentationSamples:
        """Items with `target` in original pixels, `boxes_xyxy`, `labels` and `masks` on the canvas."""
        params = self.params
        return InstanceSegmentationSamples(
            images, self.classes, params.image_size_px, params.augmentation, augment_seed
        )

    def model(self, backbone: Backbone) -> nn.Module:
        """Mask R-CNN with a feature pyramid; class 0 is the background."""
        params = self.params
        return MaskRCNN(
            backbone,
            len(self.classes),
            params.faster_rcnn,
            params.mask_head,
            label_smoothing=params.label_smoothing,
            dropout=params.dropout,
        )

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Detection's losses and that of the masks."""
        targets = [
            {**target, "masks": [mask and (torch.from_numpy(mask.pixels), mask.left, mask.top) for mask in placed]}
            for target, placed in zip(boxes.targets(batch), batch["masks"], strict=True)
        ]
        return model(batch["images"], boxes.sizes(batch), targets)

    def predict(self, model: nn.Module, batch: Batch) -> list[Prediction]:
        """Boxes and masks in pixels of the original image, best score first."""
        found = model(batch["images"], boxes.sizes(batch), None)
        return [
            self._prediction(output, placement, target)
            for output, placement, target in zip(found, batch["placement"], batch["target"], strict=True)
        ]

    def _prediction(self, output: Mapping[str, Tensor], placement: Placement, target: Target) -> Prediction:
        size, threshold = (target.height, target.width), self.params.mask_head.threshold
        corners = placement.to_original(output["boxes"].float().cpu().numpy())
        cells = output["masks"].cpu().numpy()
        return Prediction(
            target.key,
            corners.clip(0, [target.width, target.height] * 2),
            output["scores"].float().cpu().numpy(),
            output["labels"].cpu().numpy() - 1,
            tuple(run_lengths.pasted(own, box, *size, threshold) for own, box in zip(cells, corners, strict=True)),
        )

    def metric(self) -> InstanceSegmentationMetric:
        """COCO's 12 numbers of masks and of boxes, per-class AP, mean IoU of matched masks and boxes."""
        return InstanceSegmentationMetric(self.classes)

    def answer(self, prediction: Prediction) -> dict[str, Any]:
        """Boxes with labels, scores and masks: COCO's compressed run lengths over the whole image."""
        rows = zip(prediction.labels, prediction.scores, prediction.boxes_xyxy, prediction.masks, strict=True)
        return {
            "boxes": [
                {
                    "label": self.classes[label],
                    "score": float(score),
                    "box_xyxy": [float(v) for v in box],
                    "mask": {"size": list(mask["size"]), "counts": mask["counts"]},
                }
                for label, score, box, mask in rows
            ]
        }

    def prediction(self, key: str, answer: Mapping[str, Any]) -> Prediction:
        """An answer of any version, whose classes may be others, as a prediction for ours.

        ValueError for run lengths that do not fill their image.
        """
        known = [box for box in answer["boxes"] if box["label"] in self.classes]
        for mask in (box["mask"] for box in known):
            if not run_lengths.fills(mask["counts"], *mask["size"]):
                raise ValueError(f"image {key}: run lengths of an answer do not fill the image")
        return Prediction(
            key,
            np.array([box["box_xyxy"] for box in known], np.float32).reshape(-1, 4),
            np.array([box["score"] for box in known], np.float32),
            np.array([self.classes.index(box["label"]) for box in known], np.int64),
            tuple(box["mask"] for box in known),
        )

    def explained(self, model: nn.Module, batch: Batch) -> Explained:
        """The score of the surest box; none where nothing is found."""
        return boxes.explained(model(batch["images"], boxes.sizes(batch), None)[0], self.classes)

    def untrained(self, backbone: Backbone, train: Images) -> nn.Module:
        """The backbone with a neck and heads as they were initialised."""
        return self.model(backbone)

    def draw(self, evaluation: "Evaluation", key: str) -> "Image":
        """A test image twice: with the true masks and with those that were found."""
        from stages.pictures.predictions import draw_detections

        prediction, target = evaluation.metrics["after"].samples[key]
        drawn = [[run_lengths.shrunk(mask, PICTURE_PX) for mask in image.masks] for image in (target, prediction)]
        return draw_detections(evaluation.image(key), target, prediction, self.classes, masks=(drawn[0], drawn[1]))

    def write_results(self, evaluation: "Evaluation", folder: Path) -> None:
        """Truth and predictions in COCO's formats, and pictures: precision and recall of the masks, classes.

        Boxes have a file of their own: in one with both, pycocotools would take the sizes of masks from the boxes.
        """
        from stages.pictures import bars, curves

        metric = evaluation.metrics["after"]
        numbers = metric.compute()
        recall = numbers["precision_recall"]
        (folder / "precision_recall.png").write_bytes(curves.precision_recall(recall["per_class"], recall["recall"]))
        (folder / "classes.png").write_bytes(bars.per_class(numbers["per_class"], ("mask_ap", "mask_ap50", "ap")))
        write_json(folder / "ground_truth.json", metric.masks.ground_truth())
        write_json(folder / "predictions.json", metric.masks.results())
        write_json(folder / "predictions_boxes.json", metric.boxes.results())
