"""What every backbone offers: features at several scales, pooled features, and stages that can be frozen."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from stages.models.timm_names import IMAGENET_MEAN, IMAGENET_STD, converted
from stages.params.backbone import DROP_PATH_FAMILIES

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
    pooling: tuple[str, ...] = ("avgpool",)  # layers from the last stage to one vector an image
    hidden: tuple[str, ...] = ()  # layers between that vector and the head
    auxiliary: tuple[Auxiliary, ...] = ()
    channel_dim: int = 1  # of what a stage gives: 3 is [B, H, W, C]
    # One module a stage that turns its output into the feature map; built for tasks that read `features` alone.
    feature_layers: Callable[[], Sequence[nn.Module]] | None = None
    explained: tuple[str, ...] = ()  # the layer of each stage that a heat map is made of; (): its last
    # Cells before and after each side of a stage's input, in `features` only: where a network does not pad its own
    # convolutions or pools, its maps would shrink and lie further right and down on the image from stage to stage.
    paddings: tuple[tuple[int, int], ...] = ((0, 0), (0, 0), (0, 0), (0, 0))
    # In `features` only, a stage's input is padded at the right and the bottom to sides of a multiple of these cells:
    # convolutions without overlap would leave out the rest.
    multiples: tuple[int, ...] = (1, 1, 1, 1)


def cut_by_stride(layers: nn.Sequential, name: str = "features") -> tuple[tuple[str, ...], ...]:
    """Stages that end before the layers that reach strides 8, 16 and 32; the last layer, a wide one, is in none."""
    strided = [i for i, layer in enumerate(layers) if any(_is_strided(module) for module in layer.modules())]
    starts = (0, *strided[2:], len(layers) - 1)
    return tuple(tuple(f"{name}.{i}" for i in range(*ends)) for ends in pairwise(starts))


def _is_strided(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and module.stride[0] > 1


def truncated_normal_linear(num_features: int, num_classes: int) -> nn.Linear:
    """A last layer as transformers and ConvNeXt initialise it; torchvision's ViT starts from 0, its authors' too."""
    layer = nn.Linear(num_features, num_classes)
    nn.init.trunc_normal_(layer.weight, std=0.02)
    nn.init.zeros_(layer.bias)
    return layer


class Backbone(nn.Module):
    """A torchvision network without its classification heads; `net` keeps torchvision's names."""

    def __init__(self, arch: str, net: nn.Module, layout: Layout) -> None:
        super().__init__()
        self.arch, self.stem = arch, "imagenet"
        self.net = net
        self.layout = layout
        self.feature_layers = nn.ModuleList()
        self._frozen: tuple[str, ...] = ()
        self._statistics_frozen = False
        self.set_drop_path(0.0)

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
        maps = self.maps(images)
        if self.layout.feature_layers is None:
            return maps
        return [layer(x) for layer, x in zip(self.built_feature_layers(), maps, strict=True)]

    def built_feature_layers(self) -> nn.ModuleList:
        """The layers that `features_only` built; RuntimeError where a task forgot to call it."""
        if not len(self.feature_layers):
            raise RuntimeError(f"{self.arch}: call features_only() before features(); it builds the layers of the maps")
        return self.feature_layers

    def maps(self, images: Tensor) -> list[Tensor]:
        """What each stage gives, [B, C, h, w]: the features, or what `feature_layers` make them of."""
        maps, x = [], self._input(images)
        for i, stage in enumerate(self.stages):
            x = stage(self._padded(x, i))
            maps.append(self.as_map(x, images.shape[-2:]))
        return maps

    def as_map(self, output: Tensor, image_size: Sequence[int]) -> Tensor:
        """What a layer of a stage gave, as [B, C, h, w]; image_size: height and width of the images, pixels."""
        return output.movedim(self.layout.channel_dim, 1)

    def explained_layer(self, stage: int) -> nn.Module:
        """The layer of a stage that a heat map is made of; `as_map` gives its output the shape of one."""
        named = self.layout.explained
        return self.net.get_submodule(named[stage] if named else self.layout.stages[stage][-1])

    def forward(self, images: Tensor) -> Tensor:
        """Pooled features float [B, num_features] of images float [B, 3, H, W]."""
        return self.forward_taps(images, ())[0]

    def forward_taps(self, images: Tensor, taps: Sequence[str]) -> tuple[Tensor, list[Tensor]]:
        """Pooled features, and the output of each layer named in taps (torchvision's names)."""
        outputs: dict[str, Tensor] = {}
        x = self._input(images)
        for name in (name for names in self.layout.stages for name in names):
            x = self.net.get_submodule(name)(x)
            if name in taps:
                outputs[name] = x
        for name in self.layout.pooling:
            x = self.net.get_submodule(name)(x)
        x = x.flatten(1)
        for name in self.layout.hidden:
            x = self.net.get_submodule(name)(x)
        return x, [outputs[name] for name in taps]

    def features_only(self) -> None:
        """For tasks that read `features`: drop the weights that only pooled features need, build those of the maps."""
        for name in (*self.layout.pooling, *self.layout.hidden):
            parent, _, last = name.rpartition(".")
            layers = self.net.get_submodule(parent)
            if any(True for _ in getattr(layers, last, nn.Identity()).parameters()):
                delattr(layers, last)
        if self.layout.feature_layers and not len(self.feature_layers):
            self.feature_layers = nn.ModuleList(self.layout.feature_layers())

    def set_drop_path(self, rate: float) -> None:
        """Stochastic depth (Huang et al. 2016): how often the last residual block is left out of a sample's path.

        The rates of the blocks before it fall in a line to 0 at the first. Raises ValueError for families without.
        """
        blocks = [module for module in self.net.modules() if isinstance(module, StochasticDepth)]
        if rate and not blocks:
            raise ValueError(
                f"drop_path {rate}: {self.arch} has none; families that have it: {', '.join(DROP_PATH_FAMILIES)}"
            )
        for i, block in enumerate(blocks):
            block.p = rate * i / max(1, len(blocks) - 1)

    def adapted(self, found: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
        """A published state dict under this network's names, and what was changed on the way, in words.

        Raises ValueError for a layout that can't be translated.
        """
        return converted(self.arch, self.net, found)

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
        """Keep every batch norm as it is, for batches too small to estimate statistics from.

        Networks with layer norms alone (ConvNeXt, ViT, Swin) have no such statistics: nothing is frozen there.
        """
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

    def _padded(self, x: Tensor, stage: int) -> Tensor:
        before, after = self.layout.paddings[stage]
        multiple = self.layout.multiples[stage]
        bottom, right = (-side % multiple for side in (x.shape[-2:] if multiple > 1 else (0, 0)))
        cells = (before, after + right, before, after + bottom)
        return F.pad(x, cells) if any(cells) else x

    def _input(self, images: Tensor) -> Tensor:
        """The images as the network wants them; ValueError where they are too small.

        They come with ImageNet's mean 0 and deviation 1. With stem "inception" the network gets them in [-1, 1]:
        torchvision's `transform_input`.
        """
        side = min(images.shape[-2:])
        if side < self.image_px_min:
            raise ValueError(f"{self.arch} needs images of at least {self.image_px_min} px a side, got {side} px")
        if self.stem != "inception":
            return images
        mean, std = (images.new_tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
        return images * (2 * std) + (2 * mean - 1)
