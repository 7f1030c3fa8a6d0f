"""What the log keeps of answers."""

from typing import Any

import pytest

from flows.predict import words
from stages.tracking.requests import said

SCORES = {"cat": 0.75, "dog": 0.5}
SURE, UNSURE = ({"label": "cat", "score": score, "box_xyxy": [0, 0, 1, 1]} for score in (0.75, 0.2))


@pytest.mark.parametrize(
    ("answer", "kept", "line"),
    [
        ({"label": "cat", "score": 0.2, "scores": SCORES}, (("cat",), (0.2,)), "cat 0.20"),
        ({"boxes": [SURE, UNSURE]}, (("cat",), (0.75,)), "1 cat"),
        ({"boxes": []}, ((), ()), "nothing found"),
        (
            {"labels": [{"label": "cat", "score": 0.75}, {"label": "dog", "score": 0.25}], "scores": SCORES},
            (("cat", "dog"), (0.75, 0.25)),
            "cat 0.75, dog 0.25",
        ),
        ({"labels": [], "scores": SCORES}, ((), ()), "no label"),
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
            (("road", "sky"), (0.8124, 0.7)),
            "road 60%, sky 39%",
        ),
    ],
)
def test_labels_and_scores_of_every_form_of_answer(answer: Any, kept: Any, line: str) -> None:
    assert said([answer]) == kept
    assert said([answer, answer]) == (kept[0] * 2, kept[1] * 2)
    assert words(answer) == line
