"""Which feature maps a detector reads, and where their cells lie."""

import pytest
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from stages.models import backbones, pyramid
from stages.params.detectors import FCOSParams, YOLOParams


@pytest.fixture(scope="module")
def resnet():
    return backbones.build("resnet18")


@pytest.mark.parametrize(
    ("finest", "num_levels", "channels", "strides"),
    [
        (4, 4, (64, 128, 256, 512), (4, 8, 16, 32)),
        (8, 3, (128, 256, 512), (8, 16, 32)),
        (8, 5, (128, 256, 512), (8, 16, 32, 64, 128)),
        (16, 3, (256, 512), (16, 32, 64)),
    ],
)
def test_levels_are_the_maps_and_what_is_added(resnet, finest, num_levels, channels, strides):
    levels = pyramid.choose(resnet, FCOSParams(finest_stride_px=finest, num_levels=num_levels))
    assert (levels.channels, levels.strides) == (channels, strides)
    assert levels.num_added == len(strides) - len(channels)
    assert levels.first == 4 - len(channels)


@pytest.mark.parametrize("num_levels", [2, 6])
def test_too_few_and_too_many_levels_are_refused(resnet, num_levels):
    message = (
        f"num_levels: {num_levels} levels, but resnet18 has 3 feature maps of stride 8 and more; give 3 to 5 levels"
    )
    with pytest.raises(ValueError, match=message):
        pyramid.choose(resnet, FCOSParams(num_levels=num_levels))


def test_a_small_stem_has_no_map_of_stride_sixteen():
    with pytest.raises(ValueError, match="has 0 feature maps of stride 16 and more; give 8 or less"):
        pyramid.choose(backbones.build("resnet18", stem="small"), YOLOParams(finest_stride_px=16))


def test_strides_that_do_not_double_are_refused(resnet, monkeypatch):
    monkeypatch.setattr(type(resnet), "strides", (4, 8, 16, 64))
    with pytest.raises(ValueError, match=r"strides that double, resnet18 has \(4, 8, 16, 64\)"):
        pyramid.choose(resnet, YOLOParams(finest_stride_px=4))


def test_pyramid_equals_torchvisions_with_two_levels_added():
    torch.manual_seed(0)
    levels = pyramid.Levels(1, (8, 16, 24), (8, 16, 32, 64, 128))
    ours = pyramid.FeaturePyramid(levels, 8)
    theirs = FeaturePyramidNetwork([8, 16, 24], 8, LastLevelP6P7(8, 8))
    names = {"fpn.": "", "added.0.": "extra_blocks.p6.", "added.1.": "extra_blocks.p7."}
    state = {}
    for name, tensor in ours.state_dict().items():
        prefix = next(p for p in names if name.startswith(p))
        state[names[prefix] + name.removeprefix(prefix)] = tensor
    theirs.load_state_dict(state)
    maps = [torch.randn(2, c, s, s + 1) for c, s in ((8, 16), (16, 8), (24, 4))]
    expected = theirs({str(i): x for i, x in enumerate(maps)})
    for level, wanted in zip(ours(maps), expected.values(), strict=True):
        torch.testing.assert_close(level, wanted)


def test_anchors_equal_torchvisions_where_strides_divide_the_canvas():
    maps = [torch.zeros(1, 4, 8, 16), torch.zeros(1, 4, 4, 8)]
    sizes, ratios = ((16.0, 20.0), (32.0, 40.0)), (0.5, 1.0)
    image = ImageList(torch.zeros(1, 3, 64, 128), [(64, 128)])
    expected = AnchorGenerator(sizes, (ratios, ratios))(image, maps)[0]
    anchors = pyramid.PyramidAnchors(sizes, ratios, (8, 16))
    assert anchors.on(maps).equal(expected)
    assert anchors(image, [x.bfloat16() for x in maps])[0].equal(expected)


def test_cells_tile_the_canvas():
    maps = [torch.zeros(1, 1, 4, 8), torch.zeros(1, 1, 2, 4)]
    centres, strides = pyramid.cell_centres(maps, (8, 16))
    assert centres[:3].tolist() == [[4, 4], [12, 4], [20, 4]] and centres[31].tolist() == [60, 28]
    assert centres[32].tolist() == [8, 8] and centres[-1].tolist() == [56, 24]
    assert strides.tolist() == [8.0] * 32 + [16.0] * 8
    # Mirrored, they are the same places: neither side of an image is further away.
    mirrored = torch.stack([64 - centres[:, 0], centres[:, 1]], 1)
    assert {(*c,) for c in mirrored.tolist()} == {(*c,) for c in centres.tolist()}
