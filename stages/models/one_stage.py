"""What the one-stage detectors share: one forward pass, a prediction for each place, losses or the best boxes."""

from abc import abstractmethod

from torch import Tensor, nn

from stages.models.backbone import Backbone
from stages.models.boxes import best_boxes, check_targets
from stages.models.pyramid import Levels
from stages.params.detectors import OneStageParams

Targets = list[dict[str, Tensor]]


class OneStageDetector(nn.Module):
    """A detector of the same contract as FasterRCNN; an architecture says what it predicts, minimises and decodes."""

    def __init__(self, backbone: Backbone, levels: Levels, params: OneStageParams) -> None:
        super().__init__()
        backbone.features_only()
        self.backbone = backbone
        self.levels, self.params = levels, params

    def forward(
        self, images: Tensor, sizes: list[tuple[int, int]], targets: Targets | None = None
    ) -> dict[str, Tensor] | Targets:
        """Losses while training, detections in eval mode.

        images: float [B, 3, H, W], normalised; sizes: height and width in pixels of each image's content, which
        starts at the upper left; targets: boxes float32 [M, 4] (xyxy, pixels of the canvas) and labels int64 [M]
        (1 to num_classes) for each image, M may be 0.
        Returns scalar losses by name, or for each image boxes float32 [N, 4], labels int64 [N] and scores
        float32 [N], best first.
        """
        if self.training:
            targets = check_targets(targets)
        outputs = self.outputs(self.backbone.features(images)[self.levels.first :])
        if targets is not None and self.training:
            return self.losses(outputs, targets)
        found = zip(*self.boxes_and_scores(outputs), sizes, strict=True)
        return [best_boxes(boxes, scores, size, self.params) for boxes, scores, size in found]

    @abstractmethod
    def outputs(self, maps: list[Tensor]) -> dict[str, Tensor]:
        """What the head says of each of N places, float32 [B, N, ...], and the places themselves, float32 [N, ...].

        In float32 from here on: in bfloat16 a coordinate of 300 px has steps of 2 px.
        """

    @abstractmethod
    def losses(self, outputs: dict[str, Tensor], targets: Targets) -> dict[str, Tensor]:
        """Scalars by name, finite also where the batch holds no object."""

    @abstractmethod
    def boxes_and_scores(self, outputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Boxes float32 [B, N, 4] (xyxy, pixels) and scores of each class float32 [B, N, C]."""


def from_zero(targets: Targets) -> Targets:
    """The targets with labels from 0, for heads that have no background class."""
    return [target | {"labels": target["labels"] - 1} for target in targets]
