"""What of an answer is logged, whatever its form."""

import pytest

from stages.tracking.requests import said

BOX = {"label": "cell", "score": 0.9, "box_xyxy": [0, 0, 1, 1]}


@pytest.mark.parametrize(
    ("answer", "labels", "scores"),
    [
        ({"label": "cat", "score": 0.1, "scores": {"cat": 0.1}}, ("cat",), (0.1,)),
        ({"boxes": [BOX, BOX | {"score": 0.2}]}, ("cell",), (0.9,)),
        ({"boxes": []}, (), ()),
        (
            {
                "height": 4,
                "width": 4,
                "segments": [
                    {"label": "road", "score": 0.81239, "share": 0.6, "segmentation": {}},
                    {"label": "sky", "score": 0.7, "share": 0.392, "segmentation": {}},
                    {"label": "pole", "score": 0.9, "share": 0.008, "segmentation": {}},
                ],
            },
            ("road", "sky"),
            (0.8124, 0.7),
        ),
    ],
)
def test_labels_and_scores_of_an_answer(answer, labels, scores):
    assert said([answer]) == (labels, scores)
    assert said([answer, answer]) == (labels * 2, scores * 2)
