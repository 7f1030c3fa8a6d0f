"""Vision Transformer (Dosovitskiy et al. 2021), also in the small sizes of DeiT (Touvron et al. 2021)."""

import math
import re
from collections.abc import Mapping, Sequence
from functools import partial

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.models import VisionTransformer
from torchvision.ops import StochasticDepth

from stages.models import simple_pyramid
from stages.models.backbone import Backbone, Layout, truncated_normal_linear
from stages.params.backbone import channels_of

ARCHITECTURES = ("vit_ti_16", "vit_s_16", "vit_b_16", "vit_b_32", "vit_l_16", "vit_l_32")

_IMAGE_PX = 224  # what the position embeddings are made for; other sizes interpolate them
_STRIDES = (4, 8, 16, 32)
_NUM_STAGES = 4
_POSITIONS = "encoder.pos_embedding"
# Width and heads of the sizes that torchvision has no name for (Touvron et al. 2021, table 1).
_DEIT = {"vit_ti_16": (192, 3), "vit_s_16": (384, 6)}
# torchvision's published files still have the names of its first version.
_OLD_NAMES = {"linear_1": "0", "linear_2": "3"}


def build(arch: str, stem: str) -> Backbone:
    """A Vision Transformer; features are a simple pyramid on its last map, built by `features_only`.

    Pooled features are the class token's. For freezing, its layers count as four stages. Attention is global in every
    layer, whatever the image's size: its cost grows with the square of the number of patches.
    """
    net = _net(arch)
    del net.heads
    for block in net.encoder.layers:
        drop_path = StochasticDepth(0.0, "row")  # torchvision's has none
        block.dropout = nn.Sequential(block.dropout, drop_path)
        block.mlp.append(drop_path)
    return _PlainTransformer(arch, net, _layout(arch, net))


def _net(arch: str) -> VisionTransformer:
    if arch not in _DEIT:
        net: VisionTransformer = torchvision.models.get_model(arch, weights=None)
        return net
    width, heads = _DEIT[arch]
    return VisionTransformer(_IMAGE_PX, 16, num_layers=12, num_heads=heads, hidden_dim=width, mlp_dim=4 * width)


def _layout(arch: str, net: VisionTransformer) -> Layout:
    names = [f"encoder.layers.{name}" for name, _ in net.encoder.layers.named_children()]
    quarter = len(names) // _NUM_STAGES
    stages = [names[i : i + quarter] for i in range(0, len(names), quarter)]
    stages[0].insert(0, "conv_proj")
    channels = channels_of(arch)
    halvings = [int(math.log2(net.patch_size / stride)) for stride in _STRIDES]
    return Layout(
        stages=tuple(map(tuple, stages)),
        channels=channels,
        strides=_STRIDES,
        num_features=net.hidden_dim,
        image_px_min=net.patch_size,
        head=partial(truncated_normal_linear, net.hidden_dim),
        head_name="heads.head",
        pooling=("encoder.ln",),
        feature_layers=lambda: [simple_pyramid.level(net.hidden_dim, channels[0], n) for n in halvings],
        # Beyond the last attention, only the class token's cell matters to a classifier.
        explained=(f"{names[-1]}.ln_1",) * _NUM_STAGES,
    )


class _PlainTransformer(Backbone):
    """Tokens instead of maps: the class token, then the patches row by row."""

    @property
    def _vit(self) -> VisionTransformer:
        return self.net

    def maps(self, images: Tensor) -> list[Tensor]:
        """The patches after each stage, [B, width, ceil(H / patch), ceil(W / patch)]."""
        maps, tokens = [], self._tokens(images)
        for names in self.layout.stages:
            tokens = self._through(names, tokens)
            maps.append(self.as_map(tokens, images.shape[-2:]))
        return maps

    def features(self, images: Tensor) -> list[Tensor]:
        last = self.maps(images)[-1]
        H, W = images.shape[-2:]
        levels = zip(self.built_feature_layers(), self.strides, strict=True)
        return [level(last)[..., : math.ceil(H / stride), : math.ceil(W / stride)] for level, stride in levels]

    def forward_taps(self, images: Tensor, taps: Sequence[str]) -> tuple[Tensor, list[Tensor]]:
        """The class token; there are no auxiliary classifiers, so taps is empty."""
        tokens = self._tokens(images)
        for names in self.layout.stages:
            tokens = self._through(names, tokens)
        return self._through(self.layout.pooling, tokens[:, :1])[:, 0], []

    def as_map(self, output: Tensor, image_size: Sequence[int]) -> Tensor:
        return output[:, 1:].transpose(1, 2).unflatten(2, self._grid(image_size))

    def adapted(self, found: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
        """Also torchvision's old names, and position embeddings of another image size, which are interpolated."""
        state, notes = super().adapted(found)
        state = {re.sub(r"(?<=\.mlp\.)linear_[12](?=\.)", lambda m: _OLD_NAMES[m[0]], n): t for n, t in state.items()}
        own = self.net.get_parameter(_POSITIONS)
        table = state.get(_POSITIONS)
        if table is None or table.shape == own.shape or not _can_be_resampled(table, own):
            return state, notes
        state[_POSITIONS] = resampled(table, (_side(own), _side(own)))
        grids = f"{_side(table)}x{_side(table)} to {_side(own)}x{_side(own)} patches"
        return state, (*notes, f"position embeddings interpolated from {grids}")

    def _through(self, names: Sequence[str], tokens: Tensor) -> Tensor:
        for name in names:
            tokens = tokens if name == "conv_proj" else self.net.get_submodule(name)(tokens)
        return tokens

    def _tokens(self, images: Tensor) -> Tensor:
        """Embedded tokens float [B, 1 + patches, width]; images are padded to whole patches at the right and bottom."""
        images = self._input(images)
        H, W = images.shape[-2:]
        net, size = self._vit, self._vit.patch_size
        patches = net.conv_proj(F.pad(images, (0, -W % size, 0, -H % size))).flatten(2).transpose(1, 2)
        tokens = torch.cat([net.class_token.expand(len(images), -1, -1), patches], dim=1)
        table, grid = net.get_parameter(_POSITIONS), self._grid((H, W))
        positions = table if grid == (_side(table),) * 2 else resampled(table, grid)
        dropped: Tensor = net.encoder.dropout(tokens + positions)
        return dropped

    def _grid(self, image_size: Sequence[int]) -> tuple[int, int]:
        rows, columns = (math.ceil(side / self._vit.patch_size) for side in image_size)
        return rows, columns


def resampled(table: Tensor, grid: tuple[int, int]) -> Tensor:
    """Position embeddings float [1, 1 + side^2, D] for another grid of patches, [1, 1 + rows * columns, D].

    The class token's stays. Source: Dosovitskiy et al. 2021, section 3.2; bicubic, as timm does it.
    """
    side = _side(table)
    cells = table[:, 1:].transpose(1, 2).unflatten(2, (side, side))
    cells = F.interpolate(cells, grid, mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([table[:, :1], cells.flatten(2).transpose(1, 2)], dim=1)


def _side(table: Tensor) -> int:
    return math.isqrt(table.shape[1] - 1)


def _can_be_resampled(table: Tensor, own: Tensor) -> bool:
    return table.ndim == 3 and table.shape[::2] == own.shape[::2] and _side(table) ** 2 == table.shape[1] - 1
