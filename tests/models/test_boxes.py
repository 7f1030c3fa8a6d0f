"""What is kept of the boxes that a detector finds."""

import pytest
import torch

from stages.models.boxes import best_boxes, check_targets
from stages.params.detectors import OneStageParams

TWO = torch.tensor([[0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 11.0, 10.0]])


def test_suppression_is_within_a_class():
    scores = torch.tensor([[0.9, 0.2], [0.8, 0.6]])
    found = best_boxes(TWO, scores, (20, 20), OneStageParams(score_threshold=0.1, nms_iou=0.5))
    assert found["labels"].tolist() == [1, 2]
    assert found["scores"].tolist() == pytest.approx([0.9, 0.6])
    assert found["boxes"].equal(TWO)


@pytest.mark.parametrize(
    ("params", "num_found"),
    [({"nms_iou": 1.0}, 4), ({"nms_iou": 1.0, "score_threshold": 0.65}, 2), ({"max_detections": 1}, 1)],
)
def test_thresholds_and_limits(params, num_found):
    scores = torch.tensor([[0.9, 0.3], [0.7, 0.6]])
    found = best_boxes(TWO, scores, (20, 20), OneStageParams(**params))
    assert len(found["scores"]) == num_found
    assert found["scores"].equal(found["scores"].sort(descending=True).values)


def test_only_the_best_candidates_go_on():
    boxes = torch.arange(20.0)[:, None] * 100 + torch.tensor([0.0, 0.0, 9.0, 9.0])
    scores = torch.linspace(0.1, 0.9, 20)[:, None]
    found = best_boxes(boxes, scores, (3000, 3000), OneStageParams(candidates=10))
    assert found["boxes"].equal(boxes[10:].flip(0))


def test_boxes_are_cut_at_the_content_and_those_outside_it_dropped():
    boxes = torch.tensor([[-5.0, -5.0, 60.0, 70.0], [55.0, 0.0, 90.0, 40.0]])
    found = best_boxes(boxes, torch.tensor([[0.9], [0.8]]), (30, 50), OneStageParams())
    assert found["boxes"].tolist() == [[0, 0, 50, 30]]


def test_nothing_found_keeps_shapes_and_gradients():
    scores = torch.zeros(2, 3, requires_grad=True)
    found = best_boxes(TWO, scores, (20, 20), OneStageParams())
    assert [tuple(found[key].shape) for key in ("boxes", "labels", "scores")] == [(0, 4), (0,), (0,)]
    kept = best_boxes(TWO, scores + 0.5, (20, 20), OneStageParams())
    kept["scores"][0].backward()
    assert scores.grad.sum() == 1


def test_targets_are_checked():
    flat = [{"boxes": TWO}, {"boxes": torch.tensor([[3.0, 3.0, 3.0, 9.0]])}]
    with pytest.raises(ValueError, match=r"image 1 of the batch has a box without area, xyxy \[3.0, 3.0, 3.0, 9.0\]"):
        check_targets(flat)
    with pytest.raises(ValueError, match="targets are missing"):
        check_targets(None)
    assert check_targets(flat[:1]) == flat[:1]
