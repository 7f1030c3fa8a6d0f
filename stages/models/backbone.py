"""What every backbone offers: features at several scales, pooled features, and stages that can be frozen."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

BATCH_NORMS = nn.modules.batchnorm._BatchNorm
NORMS = (BATCH_NORMS, nn.LayerNorm, nn.GroupNorm)


@dataclass(frozen=True)
class Auxiliary:
    """A second classifier that a published architecture trains on features of an inner layer."""

    name: str  # torchvision's, "aux1"
    after: str  # the layer whose output it reads
    loss_weight: float
    image_px_min: int
    make: Callable[[int], nn.Module]  # number of classes -> module


@dataclass(frozen=True)
class Layout:
    """Where a torchvision network is cut, in torchvision's layer names; features run from finest to coarsest."""

    stages: tuple[tuple[str, ...], ...]
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    num_features: int
    image_px_min: int
    head: Callable[[int], nn.Module]  # number of classes -> last layer
    head_name: str = "fc"
    hidden: tuple[str, ...] = ()  # layers between pooling and head
    auxiliary: tuple[Auxiliary, ...] = ()
    # Cells before and after each side of a stage's input, in `features` only: where a network does not pad its own
    # convolutions or pools, its maps would shrink and lie further right and down on the image from stage to stage.
    paddings: tuple[tuple[int, int], ...] = ((0, 0), (0, 0), (0, 0), (0, 0))


class Backbone(nn.Module):
    """A torchvision network without its classification heads; `net` keeps torchvision's names."""

    def __init__(self, arch: str, net: nn.Module, layout: Layout) -> None:
        super().__init__()
        self.arch, self.stem = arch, "imagenet"
        self.net = net
        self.layout = layout
        self._frozen: tuple[str, ...] = ()
        self._statistics_frozen = False

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each feature map, finest first."""
        return self.layout.channels

    @property
    def strides(self) -> tuple[int, ...]:
        """Image pixels a cell of each feature map, finest first."""
        return self.layout.strides

    @property
    def num_features(self) -> int:
        """Width of the pooled features."""
        return self.layout.num_features

    @property
    def image_px_min(self) -> int:
        """Smallest side of an image that the network can take."""
        return self.layout.image_px_min

    @property
    def auxiliary(self) -> tuple[Auxiliary, ...]:
        """The auxiliary classifiers of the published architecture, built by `Classifier`."""
        return self.layout.auxiliary

    @property
    def stages(self) -> list[nn.Module]:
        """One module a feature map; the stem belongs to the first."""
        return [nn.Sequential(*map(self.net.get_submodule, names)) for names in self.layout.stages]

    def features(self, images: Tensor) -> list[Tensor]:
        """Feature maps float [B, channels[i], ceil(H / strides[i]), ceil(W / strides[i])] of images float [B, 3, H, W].

        Sides that are no multiple of the stride may give one cell less (VGG).
        """
        self._check_size(images)
        maps, x = [], images
        for stage, cells in zip(self.stages, self.layout.paddings, strict=True):
            x = stage(F.pad(x, cells * 2) if any(cells) else x)
            maps.append(x)
        return maps

    def forward(self, images: Tensor) -> Tensor:
        """Pooled features float [B, num_features] of images float [B, 3, H, W]."""
        return self.forward_taps(images, ())[0]

    def forward_taps(self, images: Tensor, taps: Sequence[str]) -> tuple[Tensor, list[Tensor]]:
        """Pooled features, and the output of each layer named in taps (torchvision's names)."""
        self._check_size(images)
        outputs: dict[str, Tensor] = {}
        x = images
        for name in (name for names in self.layout.stages for name in names):
            x = self.net.get_submodule(name)(x)
            if name in taps:
                outputs[name] = x
        x = self.net.get_submodule("avgpool")(x).flatten(1)
        for name in self.layout.hidden:
            x = self.net.get_submodule(name)(x)
        return x, [outputs[name] for name in taps]

    def features_only(self) -> None:
        """Drop the layers that only pooled features need (VGG's two of 4096), for tasks that read `features`."""
        for name in self.layout.hidden:
            if hasattr(self.net, name):
                delattr(self.net, name)

    def set_drop_path(self, rate: float) -> None:
        """Leave residual branches out at random while training (stochastic depth: Huang et al. 2016)."""
        if rate:
            raise ValueError(
                f"drop_path {rate:g}: {self.arch} has no residual branches that can be left out; set it to 0"
            )

    def parameter_stages(self) -> dict[str, int]:
        """Name of each parameter of `net` -> the stage that it belongs to, from 0.

        Hidden layers after pooling belong to the last stage. What lies between the layers of the stages (a
        transformer's position embedding, its last norm) belongs to the stage of the parameter before it.
        """
        starts = [(name, i) for i, names in enumerate(self.layout.stages) for name in names]
        starts += [(name, len(self.layout.stages) - 1) for name in self.layout.hidden]
        found: dict[str, int] = {}
        present = 0
        for name, _ in self.net.named_parameters():
            present = next((i for start, i in starts if name == start or name.startswith(f"{start}.")), present)
            found[name] = present
        return found

    def freeze(self, stages: int | Literal["none", "backbone"]) -> None:
        """Keep the first stages, or the whole backbone, as they are: no gradients, no new statistics in training."""
        most = len(self.layout.stages)
        count = {"none": 0, "backbone": most}[stages] if isinstance(stages, str) else stages
        if not 0 <= count <= most:
            raise ValueError(f"freeze: {count} stages, but {self.arch} has {most}; give 0 to {most} or 'backbone'")
        names = [name for names in self.layout.stages[:count] for name in names]
        self._frozen = ("",) if count == most else tuple(names)
        for name, stage in self.parameter_stages().items():
            if stage < count:
                self.net.get_parameter(name).requires_grad_(False)
        self.train(self.training)

    def freeze_batch_norm(self) -> None:
        """Keep every batch norm as it is, for batches too small to estimate statistics from."""
        for norm in self.norms(BATCH_NORMS):
            norm.requires_grad_(False)
        self.freeze_statistics()

    def freeze_statistics(self) -> None:
        """Keep the mean and variance of every batch norm; its weights may train."""
        self._statistics_frozen = True
        self.train(self.training)

    def train(self, mode: bool = True) -> "Backbone":
        """As nn.Module.train, except that what is frozen stays in eval mode."""
        super().train(mode)
        for name in self._frozen:
            self.net.get_submodule(name).eval()
        for norm in self.norms(BATCH_NORMS) if self._statistics_frozen else ():
            norm.eval()
        return self

    def norms(self, kinds: type | tuple[type, ...] = NORMS) -> list[nn.Module]:
        """The normalising layers of `net`, or those of some kinds."""
        return [module for module in self.net.modules() if isinstance(module, kinds)]

    def _check_size(self, images: Tensor) -> None:
        side = min(images.shape[-2:])
        if side < self.image_px_min:
            raise ValueError(f"{self.arch} needs images of at least {self.image_px_min} px a side, got {side} px")
