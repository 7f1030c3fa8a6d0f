"""What answers of every form say: in words, in the log, and to whoever labels."""

from typing import Any

import pytest

from stages.tracking import findings, requests

SCORES = {"cat": 0.75, "dog": 0.5}
SURE, SURE_ANT, LIKELY, DOUBTFUL, NOISE = (
    {"label": label, "score": score, "box_xyxy": [0, 0, 1, 1]}
    for label, score in (("cat", 0.75), ("ant", 0.75), ("dog", 0.375), ("cat", 0.125), ("cat", 0.0625))
)
ROAD, SKY, POLE = (
    {"label": label, "score": score, "share": share, "segmentation": {}}
    for label, score, share in (("road", 0.81239, 0.6), ("sky", 0.25, 0.392), ("pole", 0.9, 0.008))
)
LABEL = {"label": "cat", "score": 0.2, "scores": {"cat": 0.2, "dog": 0.1}}
LABELS = {"labels": [{"label": "cat", "score": 0.75}, {"label": "dog", "score": 0.25}], "scores": SCORES}
CASES: list[tuple[dict[str, Any], tuple[Any, Any], str, float]] = [
    (LABEL, (("cat",), (0.2,)), "cat 0.20", 0.8),
    (LABELS, (("cat", "dog"), (0.75, 0.25)), "cat 0.75, dog 0.25", 1.0),
    ({"labels": [], "scores": {"cat": 0.25, "dog": 0.125}}, ((), ()), "no label", 0.5),
    ({"boxes": [SURE, LIKELY, DOUBTFUL, NOISE]}, (("cat", "dog"), (0.75, 0.375)), "1 cat", 0.5),
    ({"boxes": [SURE, SURE, SURE_ANT]}, (("cat", "cat", "ant"), (0.75,) * 3), "1 ant, 2 cat", 0.5),
    ({"boxes": [NOISE]}, ((), ()), "nothing found", 0.5),
    ({"height": 4, "width": 4, "segments": [ROAD, SKY, POLE]}, (("road", "sky"), (0.8124, 0.25)), "road 60%, sky 39%",
     1 - 0.487434 - 0.098 - 0.0072),
    ({"height": 4, "width": 4, "segments": [POLE]}, ((), ()), "nothing found", 1 - 0.0072),
]  # fmt: skip


@pytest.mark.parametrize(("content", "logged", "line", "uncertainty"), CASES)
def test_what_an_answer_of_every_form_says(content: Any, logged: Any, line: str, uncertainty: float) -> None:
    answer = findings.read(content)
    assert answer.words(findings.SHOWN_SCORE) == line
    assert answer.uncertainty == pytest.approx(uncertainty)
    assert requests.said([content]) == logged
    assert requests.said([content, content]) == (logged[0] * 2, logged[1] * 2)


def test_each_form_has_a_case() -> None:
    assert {type(findings.read(content)) for content, *_ in CASES} == {*findings.FORMS.values()}


def test_a_person_is_given_the_likely_boxes_and_of_all_else_everything() -> None:
    for content, *_ in CASES:
        boxes = [box for box in content.get("boxes", []) if box in (SURE, SURE_ANT, LIKELY)]
        assert findings.read(content).first_guess() == content | ({"boxes": boxes} if "boxes" in content else {})


def test_of_many_findings_the_log_keeps_the_first() -> None:
    labels, _ = requests.said([{"boxes": [SURE] * 101}, LABEL])
    assert len(labels) == requests.MAX_FINDINGS + 1


@pytest.mark.parametrize(("content", "named"), [({"depth": [], "unit": "m"}, "depth, unit"), ({}, "nothing")])
def test_a_form_that_only_a_newer_visionline_knows_is_named(content: Any, named: str) -> None:
    with pytest.raises(RuntimeError, match=f"an answer of {named}, no form that is known here: update visionline"):
        findings.read(content)
