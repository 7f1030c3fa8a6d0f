"""From a backbone's feature maps to the levels that a detector reads, and where their cells lie on the image."""

from collections import OrderedDict
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import FeaturePyramidNetwork

from stages.models.backbone import Backbone
from stages.params.detectors import DetectorParams


@dataclass(frozen=True)
class Levels:
    """The feature maps of a backbone that are read, and the coarser levels that a detector adds to them."""

    first: int  # place of the first map that is read
    channels: tuple[int, ...]  # of each map that is read
    strides: tuple[int, ...]  # image pixels a cell of each level, the added ones too

    @property
    def num_added(self) -> int:
        """Levels beyond the maps, each of twice the stride of the one before."""
        return len(self.strides) - len(self.channels)


def choose(backbone: Backbone, params: DetectorParams) -> Levels:
    """The levels of an architecture, from the map of stride finest_stride_px on.

    Raises ValueError, naming the parameter, when it has more or fewer than the backbone's maps allow, and when the
    strides do not double.
    """
    problem = params.misfit(backbone.arch, backbone.strides)
    if problem is not None:
        raise ValueError(problem)
    first = sum(stride < params.finest_stride_px for stride in backbone.strides)
    strides = backbone.strides[first:]
    if any(coarse != 2 * fine for fine, coarse in pairwise(strides)):
        raise ValueError(f"a feature pyramid needs strides that double, {backbone.arch} has {backbone.strides}")
    num_added = (params.levels.num or len(strides)) - len(strides)
    added = tuple(strides[-1] * 2 ** (i + 1) for i in range(num_added))
    return Levels(first, tuple(backbone.channels[first:]), (*strides, *added))


class FeaturePyramid(nn.Module):
    """FPN (Lin et al. 2017) with levels added by strided convolutions, as RetinaNet and FCOS do (P6 and P7)."""

    def __init__(self, levels: Levels, channels: int) -> None:
        super().__init__()
        self.fpn = FeaturePyramidNetwork(list(levels.channels), channels)
        self.added = nn.ModuleList(nn.Conv2d(channels, channels, 3, 2, 1) for _ in range(levels.num_added))
        for conv in self.added:
            nn.init.kaiming_uniform_(conv.weight, a=1)  # type: ignore[arg-type]
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Float [B, channels, H, W] of each level, finest first."""
        levels = list(self.fpn(OrderedDict((str(i), x) for i, x in enumerate(maps))).values())
        for i, conv in enumerate(self.added):
            levels.append(conv(F.relu(levels[-1]) if i else levels[-1]))
        return levels


class PyramidAnchors(AnchorGenerator):
    """Anchors in float32 whatever autocast chose, at the pyramid's own strides rather than inferred ones.

    sizes_px: the square roots of the areas, for each level; ratios: height over width. They lie around the upper left
    corner of each cell, as torchvision's do: with padded convolutions of odd size, a cell looks at that point.
    """

    def __init__(
        self, sizes_px: tuple[tuple[float, ...], ...], ratios: tuple[float, ...], strides: tuple[int, ...]
    ) -> None:
        super().__init__(sizes_px, (ratios,) * len(sizes_px))
        self._strides = strides

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """The same anchors float32 [N, 4], xyxy in pixels, for each image."""
        return [self.on(feature_maps)] * len(image_list.image_sizes)

    def on(self, feature_maps: list[Tensor]) -> Tensor:
        """Anchors float32 [N, 4], xyxy in pixels, cell by cell and level by level."""
        device = feature_maps[0].device
        self.set_cell_anchors(torch.float32, device)
        grids = [list(x.shape[-2:]) for x in feature_maps]
        return torch.cat(self.grid_anchors(grids, [[torch.tensor(s, device=device)] * 2 for s in self._strides]))


def cell_centres(feature_maps: list[Tensor], strides: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Centres float32 [N, 2] (x, y in pixels) of all cells, row by row and level by level, and strides float32 [N].

    Cell i covers the pixels from i * stride to (i + 1) * stride (Tian et al. 2019, section 3.1).
    """
    centres, stride_of = [], []
    for level, stride in zip(feature_maps, strides, strict=True):
        y, x = (torch.arange(n, dtype=torch.float32, device=level.device) for n in level.shape[-2:])
        grid = torch.cartesian_prod(y, x).flip(1)
        centres.append((grid + 0.5) * stride)
        stride_of.append(torch.full((len(grid),), float(stride), device=level.device))
    return torch.cat(centres), torch.cat(stride_of)


def group_norm(channels: int) -> nn.GroupNorm:
    """Norm of 8 channels a group, as torchvision's heads of 256 channels have; it knows no batch."""
    return nn.GroupNorm(channels // 8, channels)
