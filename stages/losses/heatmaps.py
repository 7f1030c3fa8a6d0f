"""What heatmaps of joints are to look like, and how far they are from it."""

import torch
from torch import Tensor


def gaussians(keypoints: Tensor, height: int, width: int, sigma_cells: float) -> Tensor:
    """Float32 [B, K, height, width]: a Gaussian of height 1 at each joint, 0 for a joint of visibility 0.

    keypoints: float [B, K, 3]: x and y in cells, where the first cell's centre is at 0.5, and visibility. Its middle
    lies where the joint is, not at a cell's centre (Zhang et al. 2020, section 3.2).
    """
    device = keypoints.device
    across = torch.arange(width, device=device) + 0.5 - keypoints[..., :1]
    down = torch.arange(height, device=device) + 0.5 - keypoints[..., 1:2]
    x, y = (torch.exp(-offset.square() / (2 * sigma_cells**2)) for offset in (across, down))
    return (y[..., :, None] * x[..., None, :] * (keypoints[..., 2] > 0)[..., None, None]).float()


def heatmap_loss(heatmaps: Tensor, keypoints: Tensor, sigma_cells: float) -> Tensor:
    """Mean squared error over the cells of the maps of labelled joints (Xiao et al. 2018); 0 without any.

    heatmaps: float [B, K, H, W]; keypoints as in `gaussians`. The paper averages over joints without label, too, which
    only scales the loss.
    """
    is_labelled = (keypoints[..., 2] > 0).float()
    height, width = heatmaps.shape[-2:]
    errors = (heatmaps.float() - gaussians(keypoints, height, width, sigma_cells)).square().mean((2, 3))
    return (errors * is_labelled).sum() / is_labelled.sum().clamp(min=1)
