"""Coarse stages that keep their resolution: strides become dilation, the weights stay (Chen et al. 2017)."""

from dataclasses import replace

from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from stages.models.backbone import Backbone


def dilate(backbone: Backbone, output_stride: int) -> None:
    """Make the last stages of a residual network as fine as output_stride; other families stay as they are.

    Each value of the former maps is still there, at every second place: the same convolutions, on a finer grid. Also
    the BasicBlocks of resnet18 and 34, which torchvision does not dilate.
    """
    stages = backbone.stages
    strides, factor = [backbone.strides[0]], 1
    for stage, before, after in zip(stages[1:], backbone.strides, backbone.strides[1:], strict=False):
        blocks = [module for module in stage.modules() if isinstance(module, BasicBlock | Bottleneck)]
        is_strided = after > before
        if blocks and is_strided and after // factor > output_stride:
            _dilate_stage(blocks, factor, factor * (after // before))
            factor *= after // before
        elif blocks and factor > 1:
            _dilate_stage(blocks, factor, factor)
        strides.append(after // factor)
    backbone.layout = replace(backbone.layout, strides=tuple(strides))


def _dilate_stage(blocks: list[nn.Module], before: int, after: int) -> None:
    """Take the stride out of the first block; what comes before it is dilated by `before`, what follows by `after`."""
    rate = before
    for block in blocks:
        for module in block.modules():
            if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
                strided = module.stride != (1, 1)
                module.stride, module.dilation, module.padding = (1, 1), (rate, rate), (rate, rate)
                rate = after if strided else rate
            elif isinstance(module, nn.Conv2d):
                module.stride = (1, 1)  # the shortcut
        rate = after
