"""Decoding, cropping and placing, each against another way to the same pixels."""

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torchvision import transforms as torchvision_transforms

from stages.data import transforms
from stages.data.images import inspect
from stages.data.transforms import Placement
from stages.params.augmentation import ClassificationAugmentation, DetectionAugmentation

RED, BLUE = (220, 30, 30), (30, 30, 220)


def encoded(image, fmt, **options):
    buffer = io.BytesIO()
    image.save(buffer, fmt, **options)
    return buffer.getvalue()


def scene(mode="RGB"):
    """The left third red, the rest blue; 48 wide, 32 high."""
    image = Image.new("RGB", (48, 32), BLUE)
    image.paste(RED, (0, 0, 16, 32))
    return image.convert(mode)


def decoded(data):
    facts = inspect(data)
    pixels = transforms.decode(data, facts.mode, facts.format, facts.orientation)
    assert pixels.dtype == torch.uint8 and tuple(pixels.shape) == (3, facts.height, facts.width)
    return pixels


@pytest.mark.parametrize(
    ("fmt", "mode"),
    [("JPEG", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "P"), ("PNG", "L"), ("PNG", "RGBA"), ("GIF", "P")],
)
def test_every_mode_is_decoded_to_rgb(fmt, mode):
    image = scene(mode)
    pixels = decoded(encoded(image, fmt)).permute(1, 2, 0).numpy()
    expected = np.asarray(image.convert("RGB"))
    assert np.abs(pixels[4:28, 4:12].astype(int) - expected[4:28, 4:12]).max() <= 8
    assert np.abs(pixels[4:28, 24:44].astype(int) - expected[4:28, 24:44]).max() <= 8


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_fast_decoder_does_not_forget_the_orientation(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(scene(), "JPEG", quality=95, subsampling=0, exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    assert np.abs(decoded(data).permute(1, 2, 0).numpy().astype(int) - upright).max() <= 4


def test_random_numbers_depend_on_seed_epoch_and_key_alone():
    draws = {
        case: transforms.generator(*case).random()
        for case in [(s, e, k) for s in (0, 1) for e in (0, 1) for k in ("0" * 16, "f" * 16)]
    }
    assert len(set(draws.values())) == 8
    assert all(transforms.generator(*case).random() == value for case, value in draws.items())


def crop(augmentation, seed=0, image=None):
    image = torch.from_numpy(np.asarray(scene()).copy()).permute(2, 0, 1) if image is None else image
    return transforms.random_resized_crop(image, 24, augmentation, np.random.default_rng(seed))


def test_random_crop_repeats_and_varies():
    augmentation = ClassificationAugmentation(brightness=0.3, contrast=0.3)
    assert crop(augmentation).shape == (3, 24, 24) and crop(augmentation).dtype == torch.uint8
    assert torch.equal(crop(augmentation), crop(augmentation))
    noise = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 32, 48), np.uint8))
    assert len({crop(augmentation, seed, noise).numpy().tobytes() for seed in range(8)}) == 8


def test_a_crop_has_the_area_and_the_ratio_that_were_asked_for():
    augmentation = ClassificationAugmentation(crop_scale=(0.2, 0.5), crop_ratio=(0.5, 2.0))
    random = np.random.default_rng(0)
    for _ in range(300):
        top, left, height, width = transforms._crop(torch.Size((200, 300)), augmentation, random)
        assert 0 <= top <= 200 - height and 0 <= left <= 300 - width
        assert 0.19 <= height * width / 60000 <= 0.51 and 0.49 <= width / height <= 2.02


def test_a_crop_that_never_fits_is_the_whole_image():
    wide = torch.zeros(3, 4, 400, dtype=torch.uint8)
    augmentation = ClassificationAugmentation(crop_scale=(0.9, 1.0), crop_ratio=(0.9, 1.1))
    assert transforms._crop(wide.shape[1:], augmentation, np.random.default_rng(0)) == (0, 0, 4, 400)


def test_a_flip_mirrors_left_and_right():
    whole = {"crop_scale": (1.0, 1.0), "crop_ratio": (1.5, 1.5)}
    plain = crop(ClassificationAugmentation(**whole, flip_horizontal=0.0))
    assert torch.equal(crop(ClassificationAugmentation(**whole, flip_horizontal=1.0)), plain.flip(-1))
    assert plain[0, 12, 3] > 200 > 50 > plain[0, 12, 20]  # red left, blue right


def test_brightness_and_contrast_stay_within_their_limits():
    grey = torch.full((3, 24, 24), 100, dtype=torch.uint8)
    values = [int(crop(ClassificationAugmentation(brightness=0.2), s, grey)[0, 0, 0]) for s in range(60)]
    assert 80 <= min(values) < 88 and 112 < max(values) <= 120
    halves = torch.cat([torch.full((3, 24, 12), 60), torch.full((3, 24, 12), 140)], 2).to(torch.uint8)
    plain = {"crop_scale": (1.0, 1.0), "crop_ratio": (1.0, 1.0), "flip_horizontal": 0.0}
    spans = [int(np.ptp(crop(ClassificationAugmentation(**plain, contrast=0.5), s, halves).numpy())) for s in range(60)]
    assert 40 <= min(spans) < 50 and 110 < max(spans) <= 121


def test_central_crop_is_that_of_torchvision():
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 50, 80), np.uint8))
    reference = torchvision_transforms.Compose(
        [torchvision_transforms.Resize(32, antialias=True), torchvision_transforms.CenterCrop(28)]
    )
    difference = transforms.central_crop(image, 28, 0.875).int() - reference(image).int()
    assert difference.abs().max() <= 1  # it rounds elsewhere


def test_central_crop_of_a_small_image_fills_the_square():
    assert transforms.central_crop(torch.zeros(3, 3, 9, dtype=torch.uint8), 32, 1.0).shape == (3, 32, 32)


@pytest.mark.parametrize("size", [(80, 160), (160, 80), (7, 300), (64, 64), (1, 1)])
def test_fit_keeps_the_ratio_within_the_canvas(size):
    placement = transforms.fit(size, (64, 96))
    height, width = placement.content_px
    assert height <= 64 and width <= 96 and (height == 64 or width == 96)
    assert abs(height - size[0] * placement.scale) <= 1 and abs(width - size[1] * placement.scale) <= 1


def test_boxes_on_a_canvas_by_hand():
    boxes = np.array([[10.0, 5, 30, 25]])
    plain = Placement(2.0, -4.0, -2.0, (60, 100))
    assert plain.to_canvas(boxes).tolist() == [[16, 8, 56, 48]]
    assert plain.to_original(plain.to_canvas(boxes)).tolist() == boxes.tolist()
    flipped = Placement(2.0, -4.0, -2.0, (60, 100), is_flipped_x=True, is_flipped_y=True)
    assert flipped.to_canvas(boxes).tolist() == [[100 - 56, 60 - 48, 100 - 16, 60 - 8]]
    assert plain.to_canvas(np.array([[-10.0, 20, 90, 50]])).tolist() == [[0, 38, 100, 60]]  # cut at the content
    assert plain.to_canvas(np.zeros((0, 4))).shape == (0, 4)


@pytest.mark.parametrize("scale", [(0.5, 0.5), (1.0, 1.0), (2.5, 2.5)])
@pytest.mark.parametrize("size", [(80, 160), (300, 100)])
def test_boxes_follow_the_pixels(size, scale):
    """A bright rectangle is drawn, the image placed, and its place on the canvas looked up in the pixels."""
    augmentation = DetectionAugmentation(flip_horizontal=0.5, flip_vertical=0.5, scale=scale)
    seen, box = 0, np.round(np.array([[0.4 * size[1], 0.45 * size[0], 0.6 * size[1], 0.7 * size[0]]]))
    image = torch.zeros(3, *size, dtype=torch.uint8)
    left, top, right, bottom = box[0].astype(int)
    image[:, top:bottom, left:right] = 255
    canvas = torch.empty(3, 128, 160, dtype=torch.uint8)
    flips = set()
    for seed in range(25):
        placement = transforms.augmented_fit(size, (128, 160), augmentation, np.random.default_rng(seed))
        flips.add((placement.is_flipped_x, placement.is_flipped_y))
        transforms.place(image, placement, canvas)
        expected = placement.to_canvas(box)[0]
        rows, columns = np.nonzero(canvas[0].numpy() > 180)
        if len(rows) and min(expected[2:] - expected[:2]) > 2:
            found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert np.abs(found - expected).max() <= max(1.5, placement.scale)  # a pixel of the original
            seen += 1
    assert seen >= 10 and len(flips) == 4


def test_what_the_image_leaves_free_is_grey():
    canvas = torch.zeros(3, 32, 64, dtype=torch.uint8)
    transforms.place(torch.zeros(3, 20, 20, dtype=torch.uint8), transforms.fit((20, 20), (32, 64)), canvas)
    assert canvas[:, :, :32].max() == 0 and canvas[:, :, 32:].unique().tolist() == [transforms.CANVAS_GREY]


GREY = torch.full((3, 40, 60), 114, dtype=torch.uint8)


def rectangle(image):
    """Top, bottom, left, right of what is no longer grey."""
    rows, columns = (image != 114).any(0).nonzero(as_tuple=True)
    return int(rows.min()), int(rows.max()) + 1, int(columns.min()), int(columns.max()) + 1


def test_erasing_puts_noise_into_one_rectangle_of_the_papers_sizes():
    for seed in range(200):
        image = transforms.erased(GREY, 1.0, np.random.default_rng(seed))
        top, bottom, left, right = rectangle(image)
        height, width = bottom - top, right - left
        assert 0.01 < height * width / 2400 < 0.45 and 0.25 < height / width < 4, (height, width)
        inside = image[:, top:bottom, left:right]
        assert (inside != 114).float().mean() > 0.95, "noise, not one colour"
        if inside.numel() > 600:
            assert 90 < inside.float().mean() < 165 and inside.float().std() > 50
    assert bool((GREY == 114).all()), "the original stays"


def test_erasing_is_as_likely_as_asked_and_repeats():
    found = [transforms.erased(GREY, 0.25, np.random.default_rng(seed)) for seed in range(400)]
    assert 70 < sum(not torch.equal(image, GREY) for image in found) < 130
    again = [transforms.erased(GREY, 0.25, np.random.default_rng(seed)) for seed in range(400)]
    assert all(torch.equal(a, b) for a, b in zip(found, again, strict=True))


def test_without_erasing_nothing_is_drawn():
    random = np.random.default_rng(3)
    assert transforms.erased(GREY, 0.0, random) is GREY
    assert random.random() == np.random.default_rng(3).random()


def test_an_image_too_small_for_a_rectangle_stays():
    image = torch.zeros(3, 1, 1, dtype=torch.uint8)
    assert torch.equal(transforms.erased(image, 1.0, np.random.default_rng(0)), image)


def test_a_training_crop_is_erased():
    augmentation = ClassificationAugmentation(random_erasing=1.0, flip_horizontal=0.0)
    plain = ClassificationAugmentation(flip_horizontal=0.0)
    changed = (crop(augmentation) != crop(plain)).any(0)
    assert 0.01 < changed.float().mean() < 0.45
