"""PAN-FPN: a feature pyramid with a second way, from fine to coarse (Liu et al. 2018, section 3.1)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PathAggregation(nn.Module):
    """Feature maps to levels of one width: from coarse to fine, and back again, each time merged by a CSP block.

    in_channels: of each map, finest first; width: channels of each level; num_blocks: bottlenecks in each CSP block.
    """

    def __init__(self, in_channels: tuple[int, ...], width: int, num_blocks: int) -> None:
        super().__init__()
        num_merges = len(in_channels) - 1
        self.lateral = nn.ModuleList(convolution(channels, width, 1) for channels in in_channels)
        self.down_merges = nn.ModuleList(_CSPBlock(2 * width, width, num_blocks) for _ in range(num_merges))
        self.strided = nn.ModuleList(convolution(width, width, 3, stride=2) for _ in range(num_merges))
        self.up_merges = nn.ModuleList(_CSPBlock(2 * width, width, num_blocks) for _ in range(num_merges))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Float [B, width, H, W] of each level, with the sides of the maps."""
        levels = [lateral(x) for lateral, x in zip(self.lateral, maps, strict=True)]
        for i, merge in reversed(list(enumerate(self.down_merges))):
            coarse = F.interpolate(levels[i + 1], size=levels[i].shape[-2:], mode="nearest")
            levels[i] = merge(torch.cat([levels[i], coarse], dim=1))
        for i, (strided, merge) in enumerate(zip(self.strided, self.up_merges, strict=True), start=1):
            H, W = levels[i].shape[-2:]
            fine = strided(levels[i - 1])[..., :H, :W]  # VGG's maps may be a cell smaller
            levels[i] = merge(torch.cat([fine, levels[i]], dim=1))
        return levels


def convolution(in_channels: int, channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """A padded convolution, batch norm and SiLU, as in the YOLO family since YOLOv4."""
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(channels),
        nn.SiLU(inplace=True),
    )


class _CSPBlock(nn.Module):
    """Half of the channels pass residual bottlenecks, the others pass by (Wang et al. 2020, "CSPNet")."""

    def __init__(self, in_channels: int, channels: int, num_blocks: int) -> None:
        super().__init__()
        half = channels // 2
        self.straight, self.bent = convolution(in_channels, half, 1), convolution(in_channels, half, 1)
        self.blocks = nn.ModuleList(
            nn.Sequential(convolution(half, half, 1), convolution(half, half, 3)) for _ in range(num_blocks)
        )
        self.merge = convolution(2 * half, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        bent = self.bent(x)
        for block in self.blocks:
            bent = bent + block(bent)
        return self.merge(torch.cat([self.straight(x), bent], dim=1))
