"""Masks against pycocotools and against pixels."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pycocotools import mask as coco

from stages.data import run_lengths


def random_masks() -> list[np.ndarray]:
    """Noise, blobs, full and empty masks of many shapes, a single pixel among them."""
    rng = np.random.default_rng(0)
    made = [rng.random(rng.integers(1, 30, 2)) < rng.random() for _ in range(60)]
    for _ in range(60):
        pixels = np.zeros(rng.integers(1, 40, 2), bool)
        y, x = (rng.integers(0, side) for side in pixels.shape)
        pixels[y : y + rng.integers(1, 20), x : x + rng.integers(1, 20)] = True
        made.append(pixels)
    return [*made, np.ones((7, 5), bool), np.zeros((7, 5), bool), np.ones((1, 1), bool)]


@pytest.mark.parametrize("pixels", random_masks())
def test_equal_to_pycocotools(pixels: np.ndarray) -> None:
    theirs = coco.encode(np.asfortranarray(pixels, np.uint8))
    ours = run_lengths.encoded(pixels)
    assert ours == {"size": list(pixels.shape), "counts": theirs["counts"].decode()}
    assert (run_lengths.decoded(ours) == pixels).all()
    assert run_lengths.area(ours) == coco.area(theirs)
    x, y, width, height = coco.toBbox(theirs) if pixels.any() else (0, 0, 0, 0)
    assert run_lengths.box_xyxy(ours) == (x, y, x + width, y + height)
    assert run_lengths.of_runs(run_lengths.runs_of(ours["counts"]), *pixels.shape) == ours
    rows, columns = np.arange(pixels.shape[0])[::2], np.arange(pixels.shape[1])[::-3]
    assert (run_lengths.looked_up(ours, rows, columns) == pixels[np.ix_(rows, columns)]).all()


@pytest.mark.parametrize("counts", ["", "~~~", "o" * 5000, "é", "0o", "P" * 40, "0" * 9 + "oooooooooooo0"])
def test_what_are_no_run_lengths_fills_nothing(counts: str) -> None:
    assert not run_lengths.fills(counts, 48, 64)
    with pytest.raises(ValueError, match="do not fill 64x48 pixels"):
        run_lengths.decoded({"size": [48, 64], "counts": counts})


@pytest.mark.parametrize("runs", [[10], [48 * 64 + 1, -1], [2**62, 2**62], []])
def test_run_lengths_that_would_overrun_never_reach_pycocotools(runs: list[int]) -> None:
    with pytest.raises(ValueError, match="do not fill"):
        run_lengths.of_runs(runs, 48, 64)


def test_of_object() -> None:
    whole = run_lengths.encoded(np.ones((8, 10), bool))
    square = {"polygons": [[1.0, 1, 4, 1, 4, 4, 1, 4]], "rle": None, "label": "a"}
    pixels = np.zeros((8, 10), bool)
    pixels[1:4, 1:4] = True
    assert (run_lengths.decoded(run_lengths.of_object(square, 8, 10)) == pixels).all()
    both = run_lengths.of_object({**square, "polygons": [*square["polygons"], [6.0, 1, 9, 1, 9, 4, 6, 4]]}, 8, 10)
    assert run_lengths.area(both) == 18
    assert run_lengths.of_object({"polygons": [], "rle": whole["counts"], "label": "a"}, 8, 10) == whole
    assert run_lengths.of_object({"polygons": [], "rle": None, "label": "a"}, 8, 10) is None
    outside = {**square, "polygons": [[100.0, 100, 200, 100, 200, 200]]}
    assert run_lengths.of_object(outside, 8, 10) is None  # no pixel of it is in the image
    with pytest.raises(ValueError, match="run lengths of a that do not fill 10x9 pixels"):
        run_lengths.of_object({"polygons": [], "rle": whole["counts"], "label": "a"}, 9, 10)


def test_a_point_far_away_does_not_fill_the_memory() -> None:
    assert run_lengths.area(run_lengths.of_polygons([[0.0, 0, 1e9, 0, 1e9, 1e9, 0, 1e9]], 8, 10)) == 80


def test_of_box_takes_the_pixels_whose_centres_are_inside() -> None:
    assert run_lengths.box_xyxy(run_lengths.of_box((1.4, 2.6, 4.6, 5.4), 8, 10)) == (1, 3, 5, 5)
    assert run_lengths.area(run_lengths.of_box((-3, -3, 100, 100), 8, 10)) == 80
    assert run_lengths.area(run_lengths.of_box((20, 2, 30, 4), 8, 10)) == 0


@pytest.mark.parametrize("seed", range(8))
def test_pasted_equals_grid_sample(seed: int) -> None:
    """Detectron2's formula (layers/mask_ops.py) in torch: a bilinear sample at each pixel's centre, zeros outside."""
    rng = np.random.default_rng(seed)
    height, width = 60, 90
    cells = rng.random((28, 28)).astype(np.float32)
    x1, y1 = rng.uniform(-20, 50, 2)
    box = (x1, y1, x1 + rng.uniform(3, 80), y1 + rng.uniform(3, 60))
    y = (torch.arange(height) + 0.5 - box[1]) / (box[3] - box[1]) * 2 - 1
    x = (torch.arange(width) + 0.5 - box[0]) / (box[2] - box[0]) * 2 - 1
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)[None].double()
    sampled = F.grid_sample(torch.from_numpy(cells)[None, None].double(), grid, align_corners=False)[0, 0].numpy()
    inside = (np.abs(y.numpy()) <= 1)[:, None] & (np.abs(x.numpy()) <= 1)[None]
    found = run_lengths.decoded(run_lengths.pasted(cells, box, height, width))
    unsure = np.abs(sampled - 0.5) < 1e-6
    assert (found == (inside & (sampled >= 0.5)))[~unsure].all()


def test_a_mask_pasted_over_a_box_of_its_own_is_itself() -> None:
    cells = np.zeros((28, 28), np.float32)
    cells[5:20, 3:26] = 1
    found = run_lengths.decoded(run_lengths.pasted(cells, (10, 10, 38, 38), 50, 60))
    assert (found[10:38, 10:38] == (cells > 0)).all() and found.sum() == (cells > 0).sum()


def test_pasted_beside_the_image_is_empty() -> None:
    for box in ((-50, 10, -20, 40), (10, 200, 40, 240), (5, 5, 5, 5)):
        empty = run_lengths.pasted(np.ones((28, 28), np.float32), box, 50, 60)
        assert run_lengths.area(empty) == 0 and run_lengths.fills(empty["counts"], 50, 60)


def test_a_hundred_masks_of_a_large_photo_cost_their_outlines() -> None:
    """Whole, they would be 1.2 GB."""
    cells = np.ones((28, 28), np.float32)
    made = [run_lengths.pasted(cells, (40 * i, 10 * i, 40 * i + 60, 10 * i + 40), 3000, 4000) for i in range(100)]
    assert sum(len(rle["counts"]) for rle in made) < 100_000
    assert run_lengths.area(made[5]) == 60 * 40


def test_shrunk_keeps_the_place() -> None:
    pixels = np.zeros((300, 400), bool)
    pixels[30:60, 100:300] = True
    small = run_lengths.shrunk(run_lengths.encoded(pixels), 40)
    assert small.shape == (30, 40)
    assert small[3:6, 10:30].all() and small.sum() == 60
    assert (run_lengths.shrunk(run_lengths.encoded(pixels), 1000) == pixels).all()
