"""Mixed batches against the formulas of the papers."""

import pytest
import torch

from stages.data.mixing import mixed
from stages.params.augmentation import ClassificationAugmentation

IMAGES = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 16, 20).contiguous()  # each of one value
TARGETS = torch.tensor([0, 1, 2, 0])


def mix(seed=0, images=IMAGES, targets=TARGETS, **keys):
    torch.manual_seed(seed)
    return mixed(images, targets, 3, ClassificationAugmentation(**keys))


def test_off_is_off_and_draws_nothing():
    state = torch.get_rng_state()
    images, targets = mixed(IMAGES, TARGETS, 3, ClassificationAugmentation())
    assert images is IMAGES and targets is TARGETS
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("seed", range(5))
def test_mixup_blends_images_and_truth_by_one_share(seed):
    images, targets = mix(seed, mixup_alpha=0.4)
    other = IMAGES.roll(1, 0)
    share = float(images[1].mean())  # of image 1, whose pixels are 1; image 0 is black
    torch.testing.assert_close(images, share * IMAGES + (1 - share) * other)
    truth = torch.nn.functional.one_hot(TARGETS, 3).float()
    torch.testing.assert_close(targets, share * truth + (1 - share) * truth.roll(1, 0))


@pytest.mark.parametrize("seed", range(5))
def test_cutmix_pastes_one_rectangle_and_counts_its_pixels(seed):
    images, targets = mix(seed, cutmix_alpha=1.0)
    is_other = images != IMAGES
    assert (is_other == is_other[:1]).all(), "the same rectangle in each image"
    torch.testing.assert_close(images[is_other], IMAGES.roll(1, 0)[is_other])
    rows, columns = (is_other[0, 0].any(axis).nonzero() for axis in (1, 0))
    if len(rows):
        assert is_other[0, 0, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].all()
    share = 1 - float(is_other[0, 0].float().mean())
    truth = torch.nn.functional.one_hot(TARGETS, 3).float()
    torch.testing.assert_close(targets, share * truth + (1 - share) * truth.roll(1, 0))


def test_both_take_turns():
    kinds = set()
    for seed in range(20):
        images, _ = mix(seed, mixup_alpha=1.0, cutmix_alpha=1.0)
        kinds.add(len(images[1].unique()))  # 1: blended evenly; 2: cut
    assert {1, 2} <= kinds


def test_the_seed_of_a_step_decides():
    first, second = mix(7, mixup_alpha=0.4), mix(7, mixup_alpha=0.4)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0], mix(8, mixup_alpha=0.4)[0])


def test_shares_of_several_labels_are_mixed_too():
    several = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    images, targets = mix(targets=several, mixup_alpha=1.0)
    share = float(images[1].mean())
    torch.testing.assert_close(targets, share * several + (1 - share) * several.roll(1, 0))


@pytest.mark.parametrize("keys", [{"mixup_alpha": 0.4}, {"cutmix_alpha": 1.0}, {"mixup_alpha": 1, "cutmix_alpha": 1}])
def test_an_image_alone_is_mixed_with_itself(keys):
    images, targets = mix(images=IMAGES[:1], targets=TARGETS[:1], **keys)
    torch.testing.assert_close(images, IMAGES[:1])
    torch.testing.assert_close(targets, torch.tensor([[1.0, 0.0, 0.0]]))
