"""SimpleBaseline (Xiao et al. 2018, arXiv:1804.06208): deconvolutions on a backbone, one heatmap a joint."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.models.backbone import Backbone
from stages.params.keypoints import HeatmapParams

_OFFSETS = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1))


class HeatmapNet(nn.Module):
    """Heatmaps of K joints in cells of params.stride_px.

    Each deconvolution (4 x 4, stride 2) doubles the map; `pyramid` adds the backbone's map of the same stride through a
    1 x 1 convolution. ValueError when the backbone's last map is finer than the heatmaps are to be.
    """

    def __init__(self, backbone: Backbone, num_joints: int, params: HeatmapParams, dropout: float = 0.0) -> None:
        super().__init__()
        backbone.features_only()
        self.backbone = backbone
        stride = backbone.strides[-1]
        if stride < params.stride_px:
            raise ValueError(
                f"heatmaps.stride_px {params.stride_px}: the last map of {backbone.arch} has stride {stride}; give "
                f"{stride} or less"
            )
        count, width = int(math.log2(stride // params.stride_px)), params.channels
        self.dropout = nn.Dropout2d(dropout)
        self.up = nn.ModuleList(_doubling(backbone.channels[-1] if i == 0 else width, width) for i in range(count))
        self.lateral = nn.ModuleDict()
        for i in range(1, count + 1) if params.features == "pyramid" else ():
            if stride // 2**i in backbone.strides:
                finer = backbone.channels[backbone.strides.index(stride // 2**i)]
                self.lateral[str(i)] = nn.Conv2d(finer, width, 1)
        self.last = nn.Conv2d(width if count else backbone.channels[-1], num_joints, 1)
        nn.init.normal_(self.last.weight, std=0.001)
        if self.last.bias is not None:
            nn.init.zeros_(self.last.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Float32 [B, K, H / stride, W / stride] of images float [B, 3, H, W]; a joint's own cell is near 1."""
        maps = self.backbone.features(images)
        strides = self.backbone.strides
        x = self.dropout(maps[-1])
        for i, layer in enumerate(self.up, start=1):
            x = layer(x)
            if str(i) in self.lateral:
                x = x + self.lateral[str(i)](maps[strides.index(strides[-1] // 2**i)])
        found: Tensor = self.last(x)
        return found.float()


def _doubling(in_channels: int, channels: int) -> nn.Sequential:
    deconvolution = nn.ConvTranspose2d(in_channels, channels, 4, stride=2, padding=1, bias=False)
    nn.init.normal_(deconvolution.weight, std=0.001)  # as in the paper's code
    return nn.Sequential(deconvolution, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))


def decoded(heatmaps: Tensor, method: str, sigma_cells: float) -> tuple[Tensor, Tensor]:
    """Places float32 [B, K, 2] (x, y in cells, the first one's centre at 0.5) and heights [B, K] of the peaks.

    method: "dark" or "quarter". ValueError for a map of less than 3 cells a side.
    """
    height, width = heatmaps.shape[-2:]
    if min(height, width) < 3:
        raise ValueError(f"heatmaps of {width} x {height} cells are too small to look into: make image_size_px larger")
    heights, places = heatmaps.flatten(2).max(2)
    rows, columns = places // width, places % width
    offset = (_dark if method == "dark" else _quarter)(heatmaps, rows, columns, sigma_cells)
    return torch.stack([columns, rows], -1) + 0.5 + offset, heights


def _quarter(heatmaps: Tensor, rows: Tensor, columns: Tensor, sigma_cells: float) -> Tensor:
    """A quarter of a cell towards the higher neighbour, on each axis (Newell et al. 2016); 0 at the border."""
    near = _neighbours(heatmaps, rows, columns)
    slopes = torch.stack([near[..., 1, 2] - near[..., 1, 0], near[..., 2, 1] - near[..., 0, 1]], -1)
    return 0.25 * slopes.sign() * _is_inside(heatmaps, rows, columns)


def _dark(heatmaps: Tensor, rows: Tensor, columns: Tensor, sigma_cells: float) -> Tensor:
    """To the peak of the Gaussian through the logarithm of the smoothed map (Zhang et al. 2020, equations 4 to 9).

    At most a cell away; 0 at the border, and where the map is not curved like a peak.
    """
    smooth = _smoothed(heatmaps.double(), sigma_cells).clamp(min=1e-10).log()
    near = _neighbours(smooth, rows, columns)
    dx, dy = (near[..., 1, 2] - near[..., 1, 0]) / 2, (near[..., 2, 1] - near[..., 0, 1]) / 2
    dxx = near[..., 1, 2] - 2 * near[..., 1, 1] + near[..., 1, 0]
    dyy = near[..., 2, 1] - 2 * near[..., 1, 1] + near[..., 0, 1]
    dxy = (near[..., 2, 2] - near[..., 2, 0] - near[..., 0, 2] + near[..., 0, 0]) / 4
    determinant = dxx * dyy - dxy**2
    is_peak = (dxx < 0) & (determinant > 1e-10)
    safe = torch.where(is_peak, determinant, 1.0)
    offset = -torch.stack([(dyy * dx - dxy * dy) / safe, (dxx * dy - dxy * dx) / safe], -1)
    kept = is_peak[..., None] & _is_inside(heatmaps, rows, columns)
    return torch.where(kept, offset.clamp(-1, 1), 0.0).float()


def _smoothed(heatmaps: Tensor, sigma_cells: float) -> Tensor:
    """Blurred with the Gaussian that joints are drawn with, so that one peak is left."""
    reach = max(1, round(2.5 * sigma_cells))
    taps = torch.arange(-reach, reach + 1, dtype=heatmaps.dtype, device=heatmaps.device)
    kernel = torch.exp(-(taps**2) / (2 * sigma_cells**2))
    kernel = kernel / kernel.sum()
    flat = heatmaps.flatten(0, 1)[:, None]
    flat = F.conv2d(F.pad(flat, (reach, reach, 0, 0), "replicate"), kernel.view(1, 1, 1, -1))
    flat = F.conv2d(F.pad(flat, (0, 0, reach, reach), "replicate"), kernel.view(1, 1, -1, 1))
    return flat[:, 0].view_as(heatmaps)


def _neighbours(heatmaps: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The 3 x 3 cells [B, K, 3, 3] around places [B, K]; at the border those next to it."""
    height, width = heatmaps.shape[-2:]
    rows, columns = rows.clamp(1, height - 2), columns.clamp(1, width - 2)
    flat = heatmaps.flatten(2)
    cells = [flat.gather(2, ((rows + dy) * width + columns + dx)[..., None])[..., 0] for dy, dx in _OFFSETS]
    return torch.stack(cells, -1).unflatten(-1, (3, 3))


def _is_inside(heatmaps: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    height, width = heatmaps.shape[-2:]
    return ((rows > 0) & (rows < height - 1) & (columns > 0) & (columns < width - 1))[..., None]
