"""The generated dataset: scenes of textured shapes, drawn from a seed and written in genuine on-disk formats."""

from stages.data.shapes.classification import write_imagefolder, write_imagenet
from stages.data.shapes.detection import write_coco, write_voc

__all__ = ["write_coco", "write_imagefolder", "write_imagenet", "write_voc"]
