"""`kind: detection`: boxes with labels, by one of five architectures; each has a section of its own name."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args

from pydantic import Field, model_validator

from stages.params.augmentation import DetectionAugmentation
from stages.params.backbone import BackboneParams, strides_of
from stages.params.detectors import DetectorParams, FasterRCNNParams, FCOSParams, RetinaNetParams, SSDParams, YOLOParams
from stages.params.task import TaskParams

# What `ingest --task detection` writes, beside what all kinds share.
STARTER: dict[str, Any] = {
    "image_size_px": [256, 320],
    "faster_rcnn": {"fpn_channels": 128, "rpn_proposals_train": 300},
}
ANSWERS = "boxes"  # what an answer holds, for stages/tracking/findings.py

Arch = Literal["faster_rcnn", "retinanet", "fcos", "ssd", "yolo"]
# Who has a layer or a loss for them; elsewhere a value that did nothing would mislead.
WITH_DROPOUT, WITH_LABEL_SMOOTHING = ("faster_rcnn",), ("faster_rcnn", "ssd")


class Params(TaskParams):
    """Parameters of a detector; images are scaled to fit image_size_px and padded at the right and below.

    The section of `arch` is always there after loading; one of another architecture is an error.
    """

    kind: Literal["detection"] = "detection"
    arch: Arch = "faster_rcnn"
    image_size_px: tuple[int, int] = Field((480, 640), description="height, width of the canvas; multiples of 32")
    augmentation: DetectionAugmentation = Field(default_factory=DetectionAugmentation)
    faster_rcnn: FasterRCNNParams | None = None
    retinanet: RetinaNetParams | None = None
    fcos: FCOSParams | None = None
    ssd: SSDParams | None = None
    yolo: YOLOParams | None = None

    @model_validator(mode="before")
    @classmethod
    def _with_own_section(cls, value: Any) -> Any:
        """Defaults are written out, so that a model's folder says what it was built with."""
        if not isinstance(value, Mapping):
            return value
        arch = value.get("arch", "faster_rcnn")
        return {**value, arch: {}} if arch in get_args(Arch) and value.get(arch) is None else value

    @model_validator(mode="after")
    def _fits_arch(self) -> "Params":
        others = [name for name in get_args(Arch) if name != self.arch and getattr(self, name) is not None]
        wrong = [f"{name}: is for arch {name}, but arch is {self.arch}; remove it or change arch" for name in others]
        for key, archs in (("dropout", WITH_DROPOUT), ("label_smoothing", WITH_LABEL_SMOOTHING)):
            if getattr(self, key) and self.arch not in archs:
                wrong.append(
                    f"{key}: arch {self.arch} has none, is {getattr(self, key)}; for {' and '.join(archs)} only"
                )
        if wrong:
            raise ValueError("\n".join(wrong))
        return self

    @property
    def input_px(self) -> tuple[int, ...]:
        """Of the canvas."""
        return self.image_size_px

    def misfits(self, backbone: BackboneParams) -> Iterator[str]:
        """Also levels that the backbone's feature maps do not give."""
        yield from super().misfits(backbone)
        section: DetectorParams = getattr(self, self.arch)
        problem = section.misfit(backbone.arch, strides_of(backbone.arch, backbone.stem))
        if problem:
            yield f"{self.arch}.{problem}"
