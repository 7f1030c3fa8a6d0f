"""Which places learn which object: by hand, and at the edges of the rules."""

import pytest
import torch
from torchvision.ops import box_iou

from stages.losses.assignment import centre_sampled, task_aligned


def grid(stride, side):
    """Square cells of one level on a square image, row by row."""
    corner = torch.arange(0, side, stride, dtype=torch.float32)
    cells = torch.cartesian_prod(corner, corner).flip(1)
    return torch.cat([cells, cells + stride], dim=1)


def centres_of(cells):
    return (cells[:, :2] + cells[:, 2:]) / 2, cells[:, 2] - cells[:, 0]


def boxes(*rows):
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


def test_cells_near_the_centre_learn_the_box():
    cells = grid(8, 64)
    match = centre_sampled(cells, boxes((16, 16, 48, 48)), 1.5)
    centres, _ = centres_of(cells)
    # Within 12 px of (32, 32) on each axis lie the centres 28 and 36 (20 and 44 are exactly 12 away).
    expected = ((centres - 32).abs().amax(1) < 12).long() - 1
    assert match.equal(expected) and (match >= 0).sum() == 4


def test_the_smaller_of_two_boxes_has_a_cell():
    cells = grid(8, 64)
    large, small = (0, 0, 64, 64), (24, 24, 40, 40)
    for rows, number in (((large, small), 1), ((small, large), 0)):
        match = centre_sampled(cells, boxes(*rows), 1.5)
        assert match[(match >= 0)].eq(number).all()


def test_levels_share_objects_by_size():
    cells = torch.cat([grid(8, 256), grid(16, 256), grid(32, 256)])
    level = torch.repeat_interleave(torch.arange(3), torch.tensor([32**2, 16**2, 8**2]))
    rows = boxes((60, 60, 90, 90), (20, 20, 200, 200), (0, 0, 256, 256))
    match = centre_sampled(cells, rows, 1.5)
    assert [sorted({*level[match == k].tolist()}) for k in range(3)] == [[0], [1], [2]]


def test_a_reach_of_exactly_the_limit_belongs_to_the_coarser_level():
    cells = torch.cat([grid(8, 128), grid(16, 128)])
    # The cell centred at (60, 60) reaches 64 px to the right; no level may leave that out.
    match = centre_sampled(cells, boxes((20, 20, 124, 124)), 8.0)
    centres, strides = centres_of(cells)
    farthest = torch.cat([centres - 20, 124 - centres], 1).amax(1)
    inside = torch.cat([centres - 20, 124 - centres], 1).amin(1) > 0
    assert (match[inside & (strides == 8) & (farthest == 64)] == -1).all()
    assert (inside & (strides == 8) & (farthest == 64)).any()
    assert (match[inside & (strides == 16) & (farthest >= 64)] == 0).all()


def test_without_boxes_all_is_background():
    assert centre_sampled(grid(8, 32), boxes(), 1.5).eq(-1).all()
    cells = grid(8, 32)
    aligned = task_aligned(torch.rand(16, 2), cells, *centres_of(cells), boxes(), torch.zeros(0, dtype=torch.int64))
    assert aligned.match.eq(-1).all() and aligned.quality.eq(0).all()


def aligned_by_loops(scores, predicted, centres, strides, truth, labels, most, alpha, beta):
    """The same rule, written out place by place."""
    ious = box_iou(truth, predicted)
    taken = {}
    for m, (box, label) in enumerate(zip(truth.tolist(), labels.tolist(), strict=True)):
        ranked = []
        for n, ((x, y), stride) in enumerate(zip(centres.tolist(), strides.tolist(), strict=True)):
            half_w, half_h = max((box[2] - box[0]) / 2, stride / 2), max((box[3] - box[1]) / 2, stride / 2)
            if abs(x - (box[0] + box[2]) / 2) <= half_w and abs(y - (box[1] + box[3]) / 2) <= half_h:
                ranked.append((float(scores[n, label] ** alpha * ious[m, n] ** beta), n))
        for value, n in sorted(ranked, reverse=True)[:most]:
            if n not in taken or ious[m, n] > ious[taken[n][0], n]:
                taken[n] = (m, value)
    match, quality = torch.full((len(scores),), -1), torch.zeros(len(scores))
    for m in range(len(truth)):
        own = {n: value for n, (k, value) in taken.items() if k == m}
        for n, value in own.items():
            match[n] = m
            quality[n] = value / max(own.values()) * max(float(ious[m, k]) for k in own)
    return match, quality


@pytest.mark.parametrize("seed", range(5))
def test_task_aligned_equals_the_rule_written_out(seed):
    generator = torch.Generator().manual_seed(seed)
    cells = torch.cat([grid(8, 64), grid(16, 64)])
    centres, strides = centres_of(cells)
    predicted = cells + 4 * torch.randn(len(cells), 4, generator=generator) + torch.tensor([-9, -9, 9, 9])
    scores = torch.rand(len(cells), 3, generator=generator)
    corner = 40 * torch.rand(5, 2, generator=generator)
    truth = torch.cat([corner, corner + 3 + 20 * torch.rand(5, 2, generator=generator)], 1)
    labels = torch.randint(3, (5,), generator=generator)
    arguments = (scores, predicted, centres, strides, truth, labels, 6, 1.0, 2.0)
    match, quality = aligned_by_loops(*arguments)
    found = task_aligned(*arguments)
    assert found.match.equal(match)
    torch.testing.assert_close(found.quality, quality)


def test_an_object_smaller_than_a_cell_is_learned():
    cells = grid(16, 64)
    centres, strides = centres_of(cells)
    found = task_aligned(
        torch.full((16, 1), 0.5), cells, centres, strides, boxes((33, 33, 36, 35)), torch.tensor([0]), most=5
    )
    place = ((centres - 40).abs() < 1).all(1)
    assert found.match[place] == 0 and (found.match >= 0).sum() == 1


def test_qualities_do_not_vanish_while_boxes_hardly_overlap():
    cells = grid(8, 64)
    centres, strides = centres_of(cells)
    wide = torch.cat([centres - 200, centres + 200], dim=1)
    found = task_aligned(torch.full((64, 1), 0.01), wide, centres, strides, boxes((20, 20, 40, 40)), torch.tensor([0]))
    best = box_iou(boxes((20, 20, 40, 40)), wide).max()
    torch.testing.assert_close(found.quality.max(), best)
