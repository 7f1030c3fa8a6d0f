"""How well objects are outlined: COCO's numbers of masks, and beside them those of the boxes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stages.metrics import detection
from stages.metrics.bootstrap import ResampledParts
from stages.metrics.detection import DetectionMetric

Rle = Mapping[str, Any]  # a mask of the whole image: size [height, width] and counts, COCO's compressed run lengths
MASK = "mask_"  # before the name of each number that is of masks; those of boxes have detection's names
KEPT = ("num_images", "score_threshold")  # the same for both


@dataclass(frozen=True, eq=False)
class Prediction(detection.Prediction):
    """What is found in one image, in pixels of the original image."""

    masks: tuple[Rle, ...] = ()  # [N]

    def more(self) -> list[dict[str, Any]]:
        """The masks as COCO's `segmentation`."""
        return [{"segmentation": dict(mask)} for mask in self.masks]


@dataclass(frozen=True, eq=False)
class Target(detection.Target):
    """What is in one image, in pixels of the original image; the areas are those of the masks."""

    masks: tuple[Rle, ...] = ()  # [M]

    def more(self) -> list[dict[str, Any]]:
        """The masks as COCO's `segmentation`."""
        return [{"segmentation": dict(mask)} for mask in self.masks]


class InstanceSegmentationMetric:
    """DetectionMetric twice on the same images: by the overlap of masks, and by that of boxes.

    What ranks images, classes and models is the overlap of masks.
    """

    def __init__(self, class_names: Sequence[str], score_threshold: float = 0.5) -> None:
        self.masks = DetectionMetric(class_names, score_threshold, "segm")
        self.boxes = DetectionMetric(class_names, score_threshold)

    @property
    def samples(self) -> dict[str, Any]:
        """Prediction and target of each image."""
        return self.masks.samples

    def update(self, predictions: Sequence[Prediction], targets: Sequence[Target]) -> None:
        """Add images; ValueError as DetectionMetric, and where masks do not fit boxes or image."""
        for prediction, target in zip(predictions, targets, strict=True):
            _check(prediction, target)
        self.masks.update(predictions, targets)
        self.boxes.update(predictions, targets)

    def merge(self, other: "InstanceSegmentationMetric") -> None:
        """Add the images of another state."""
        self.masks.merge(other.masks)
        self.boxes.merge(other.boxes)

    def compute(self) -> dict[str, Any]:
        """DetectionMetric's numbers of boxes and, with mask_ before their names, of masks; curves are of masks."""
        masks, boxes = self.masks.compute(), self.boxes.compute()
        per_class, curves = masks.pop("per_class"), masks.pop("precision_recall")
        return {
            **{name if name in KEPT else MASK + name: value for name, value in masks.items()},
            **boxes,
            "per_class": {
                name: {MASK + measure: found[measure] for measure in ("ap", "ap50")} | boxes["per_class"][name]
                for name, found in per_class.items()
            },
            "precision_recall": curves,
        }

    def per_image(self) -> dict[str, float]:
        """F1 of the masks at IoU 0.5, by key."""
        return self.masks.per_image()

    def worst(self, count: int) -> list[str]:
        """Keys of the images with the lowest per_image() value, the worst first."""
        return self.masks.worst(count)

    def resampled(self) -> ResampledParts:
        """mask_ap, mask_ap50, ap and ap50 for bootstrap resamples of the images."""
        return ResampledParts({MASK: self.masks.resampled(), "": self.boxes.resampled()})

    def part(self, keys: Iterable[str]) -> "InstanceSegmentationMetric":
        """The state of some of the images."""
        chosen = list(keys)
        part = InstanceSegmentationMetric(self.masks.class_names, self.masks.score_threshold)
        part.masks, part.boxes = self.masks.part(chosen), self.boxes.part(chosen)
        return part

    def by_class(self) -> dict[str, ResampledParts]:
        """What resampled() gives, for each class that the truth has."""
        boxes = self.boxes.by_class()
        return {name: ResampledParts({MASK: found, "": boxes[name]}) for name, found in self.masks.by_class().items()}


def _check(prediction: Prediction, target: Target) -> None:
    size = [target.height, target.width]
    for what, image in (("prediction", prediction), ("target", target)):
        if len(image.masks) != len(image.labels):
            raise ValueError(f"{what} of image {image.key}: {len(image.masks)} masks for {len(image.labels)} boxes")
        wrong = [mask["size"] for mask in image.masks if list(mask["size"]) != size]
        if wrong:
            raise ValueError(f"{what} of image {image.key}: a mask of size {wrong[0]}, the image has {size}")
