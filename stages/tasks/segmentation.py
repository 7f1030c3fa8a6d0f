"""Semantic segmentation: a class for every pixel."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from stages.data import run_lengths
from stages.data.loader import Batch
from stages.data.samples import Images
from stages.data.targets.segmentation import SegmentationSamples
from stages.losses.dense import dice_loss, median_frequency_weights, pixel_cross_entropy
from stages.metrics import cityscapes
from stages.metrics.segmentation import IGNORED, Prediction, SegmentationMetric
from stages.models import deeplabv3, fcn, lraspp
from stages.models.backbones import Backbone
from stages.models.segmenter import Segmenter, upsampled
from stages.params.segmentation import Params
from stages.params.skeleton import Skeleton
from stages.tasks.task import Explained

if TYPE_CHECKING:
    from PIL.Image import Image

    from stages.tasks.evaluation import Evaluation

CHUNK_ELEMENTS = 2**24  # of scores at the original's size: 64 MiB
MIN_EXPLAINED = 0.01  # share of the pixels that a class needs to be worth an explanation


class Task:
    """A segmenter whose class maps come out in pixels of the original image."""

    main_metric = "miou"
    curve_metrics = ("miou", "pixel_accuracy")
    columns = ("mask_offset", "mask_size", "mask_labels", "mask_pixels", "source")

    def __init__(self, params: Params, classes: Sequence[str], skeleton: Skeleton = Skeleton()) -> None:
        self.params, self.classes = params, tuple(classes)
        named = params.class_weights if isinstance(params.class_weights, dict) else {}
        unknown = sorted(named.keys() - set(classes))
        if unknown:
            raise ValueError(f"class_weights: no class {unknown[0]!r}; there are: {', '.join(classes)}")

    def samples(self, images: Images, augment_seed: int | None = None) -> SegmentationSamples:
        """Items with `target` in original pixels, `mask` on the canvas, and the `class_weights` of this split."""
        params = self.params
        samples = SegmentationSamples(images, self.classes, params.image_size_px, params.augmentation, augment_seed)
        samples.class_weights = self._class_weights(samples)
        return samples

    def _class_weights(self, samples: SegmentationSamples) -> Tensor | None:
        weights = self.params.class_weights
        if weights == "none":
            return None
        if isinstance(weights, dict):
            return torch.tensor([weights.get(name, 1.0) for name in self.classes])
        return median_frequency_weights(*map(torch.from_numpy, samples.pixels))

    def model(self, backbone: Backbone) -> Segmenter:
        """The architecture's head on the backbone's maps."""
        params = self.params
        C, has_auxiliary = len(self.classes), params.auxiliary_weight > 0
        if params.arch == "fcn":
            return fcn.build(backbone, C, params.fcn, params.dropout, has_auxiliary)
        if params.arch == "deeplabv3":
            return deeplabv3.build(backbone, C, params.deeplabv3, params.dropout, has_auxiliary)
        return lraspp.build(backbone, C, params.lraspp, params.dropout, has_auxiliary)

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy over labelled pixels, of the auxiliary head too, and Dice."""
        params, device = self.params, batch["images"].device
        targets = torch.stack(batch["mask"]).to(device, torch.int64)
        weight = batch["class_weights"][0]
        weight = weight.to(device) if weight is not None else None
        scores = model(batch["images"])
        losses = {"loss": pixel_cross_entropy(scores.main, targets, IGNORED, weight, params.label_smoothing)}
        if scores.auxiliary is not None:
            auxiliary = pixel_cross_entropy(scores.auxiliary, targets, IGNORED, weight, params.label_smoothing)
            losses["loss_auxiliary"] = params.auxiliary_weight * auxiliary
        if params.dice_weight:
            losses["loss_dice"] = params.dice_weight * dice_loss(scores.main, targets, IGNORED)
        return losses

    def predict(self, model: nn.Module, batch: Batch) -> list[Prediction]:
        """The likeliest class of each pixel of the original image."""
        found = []
        for scores, placement, target in zip(
            model(batch["images"]).main, batch["placement"], batch["target"], strict=True
        ):
            height, width = placement.content_px
            size_hw = (target.classes.shape[0], target.classes.shape[1])
            classes, probability = decide(scores[:, :height, :width], size_hw)
            found.append(Prediction(target.key, classes, _mean_by_class(classes, probability, len(self.classes))))
        return found

    def metric(self) -> SegmentationMetric:
        """Mean IoU, IoU of each class, of boundaries, accuracies, confusion."""
        return SegmentationMetric(self.classes)

    def answer(self, prediction: Prediction) -> dict[str, Any]:
        """The segment of each class that was found, the largest first; `share` is of the image's pixels."""
        height, width = prediction.classes.shape
        counts = np.bincount(prediction.classes.ravel(), minlength=IGNORED + 1)[: len(self.classes)]
        order = np.argsort(-counts, kind="stable")
        segments = [
            {
                "label": self.classes[k],
                "score": float(prediction.scores[k]),
                "share": counts[k] / (height * width),
                "segmentation": run_lengths.encoded(prediction.classes == k),
            }
            for k in order[counts[order] > 0]
        ]
        return {"height": height, "width": width, "segments": segments}

    def prediction(self, key: str, answer: Mapping[str, Any]) -> Prediction:
        """An answer of any version, whose classes may be others, as a prediction for ours."""
        scores = {segment["label"]: segment["score"] for segment in answer["segments"]}
        ours = np.array([scores.get(name, 0.0) for name in self.classes], np.float32)
        return Prediction(key, run_lengths.class_map(answer, self.classes, IGNORED), ours)

    def explained(self, model: nn.Module, batch: Batch) -> Explained:
        """The surest class that is not tiny: the mean of its scores over the pixels that it was given.

        Source: Vinogradova et al. 2020, "Towards Interpretable Semantic Segmentation via Gradient-weighted Class
        Activation Mapping", equation 2.
        """
        height, width = batch["placement"][0].content_px
        scores = model(batch["images"]).main[0, :, :height, :width]
        probability, classes = scores.detach().softmax(0).max(0)
        shares = torch.bincount(classes.flatten(), minlength=len(scores)) / classes.numel()
        sums = torch.bincount(classes.flatten(), probability.flatten(), len(scores))
        sureness = torch.where(shares >= MIN_EXPLAINED, sums / (shares * classes.numel()).clamp(min=1), 0)
        best = int(sureness.argmax())
        words = f"{self.classes[best]} {float(sureness[best]):.2f}, {float(shares[best]):.0%} of the image"
        return Explained(scores[best][classes == best].mean(), words)

    def untrained(self, backbone: Backbone, train: Images) -> nn.Module:
        """The backbone with a head as it was initialised."""
        return self.model(backbone)

    def draw(self, evaluation: "Evaluation", key: str) -> "Image":
        """A test image twice: under its true classes and under those that were found."""
        from stages.pictures.segments import draw_segmentation

        predicted, truth = evaluation.metrics["after"].samples[key].maps()
        return draw_segmentation(evaluation.image(key), truth, predicted, self.classes)

    def write_results(self, evaluation: "Evaluation", folder: Path) -> None:
        """Class maps as index PNGs, as Cityscapes' label ids too where the classes are its; pictures."""
        from stages.pictures import bars, matrices
        from stages.pictures.segments import index_png

        metric = evaluation.metrics["after"]
        numbers = metric.compute()
        (folder / "classes.png").write_bytes(bars.per_class(numbers["per_class"], ("iou", "boundary_iou", "accuracy")))
        shares = np.array(numbers["confusion"], np.float64)
        shares = 100 * shares / np.maximum(shares.sum(1, keepdims=True), 1)
        counts = shares[:, : len(self.classes)].round().astype(int).tolist()
        (folder / "confusion.png").write_bytes(matrices.confusion(counts, self.classes))
        (folder / "classes.txt").write_text("".join(f"{name}\n" for name in self.classes), encoding="utf8")
        (folder / "predictions").mkdir()
        sources = evaluation.column("source") if cityscapes.are_classes(self.classes) else {}
        for key in metric.keys:
            predicted, _ = metric.samples[key].maps()
            (folder / "predictions" / f"{key}.png").write_bytes(index_png(predicted))
            if key in sources:
                file = folder / "cityscapes" / cityscapes.result_name(sources[key])
                file.parent.mkdir(exist_ok=True)
                file.write_bytes(index_png(cityscapes.label_ids(predicted, self.classes)))


def decide(scores: Tensor, size_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Scores float [C, h, w] as the likeliest class uint8 [H, W] and its probability float32 [H, W].

    The scores are scaled a few classes at a time: of a large image with many classes they would not fit into memory.
    """
    step = max(1, CHUNK_ELEMENTS // (size_hw[0] * size_hw[1]))
    best = torch.full(size_hw, -torch.inf, device=scores.device)
    total, classes = torch.zeros_like(best), torch.zeros(size_hw, dtype=torch.int64, device=scores.device)
    for start in range(0, len(scores), step):
        part = upsampled(scores[None, start : start + step], size_hw)[0]
        highest, place = part.max(0)
        classes = torch.where(highest > best, place + start, classes)
        before, best = best, torch.maximum(best, highest)
        total = total * (before - best).exp() + (part - best).exp().sum(0)
    return classes.to(torch.uint8).cpu().numpy(), (1 / total).cpu().numpy()


def _mean_by_class(classes: np.ndarray, probability: np.ndarray, num_classes: int) -> np.ndarray:
    """Mean probability float32 [C] of the pixels of each class; 0 where it has none."""
    sums = np.bincount(classes.ravel(), probability.ravel(), num_classes)
    return (sums / np.maximum(np.bincount(classes.ravel(), minlength=num_classes), 1)).astype(np.float32)
