"""What a registered model's answer for an image says: the one place that tells the forms of answers apart.

A version answers with the code that it was registered with, so a form never changes. Another one is a class more here,
and its key what the section of its kind calls ANSWERS.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NotRequired, TypedDict, final

from stages.params import document

SHOWN_SCORE = 0.5  # of a box that is told and drawn, where nobody says otherwise
LIKELY_SCORE = 0.3  # of a box that is logged, and that a person corrects
DOUBTFUL_SCORE = 0.1  # of a box that says how unsure a model is: detectors give many that are less
MIN_SHARE = 0.01  # of the image that a segment fills: the class of a pixel is what it is, whatever its score


class Finding(TypedDict):
    """A label with its score, 0 to 1: of the whole image, of a box or of the pixels of a class."""

    label: str
    score: float
    box_xyxy: NotRequired[Sequence[float]]  # pixels of the upright image
    mask: NotRequired[Mapping[str, Any]]  # of the box's object: COCO's run lengths of the whole image
    joints: NotRequired[Mapping[str, Mapping[str, float]]]  # of the box's object: name -> x, y, score
    segmentation: NotRequired[Mapping[str, Any]]  # of a class: COCO's run lengths of the whole image
    share: NotRequired[float]  # of the image that the class fills


@dataclass(frozen=True)
class Answer(ABC):
    """An answer as JSON, and how to read it."""

    content: Mapping[str, Any]
    form: ClassVar[str]  # key of the findings; "labels" also where there is just one
    nothing: ClassVar[str] = "nothing found"

    @property
    def findings(self) -> Sequence[Finding]:
        """All of them, in the model's order."""
        found: Sequence[Finding] = self.content[self.form]
        return found

    def sure(self, min_score: float) -> list[Finding]:
        """Those that count: all labels, boxes of at least a score, segments that are not tiny."""
        return list(self.findings)

    def first_guess(self) -> dict[str, Any]:
        """The JSON without what a person who corrects it would only have to delete."""
        return dict(self.content)

    def words(self, min_score: float) -> str:
        """What is sure, in one line."""
        return ", ".join(self._words(self.sure(min_score))) or self.nothing

    @property
    @abstractmethod
    def uncertainty(self) -> float:
        """How little the model trusts its answer, 0 to 1."""

    def _words(self, sure: Sequence[Finding]) -> list[str]:
        return [f"{found['label']} {found['score']:.2f}" for found in sure]


@final
class Label(Answer):
    """The likeliest label of the image."""

    form = "labels"

    @property
    def findings(self) -> Sequence[Finding]:
        """That label."""
        return [{"label": self.content["label"], "score": self.content["score"]}]

    @property
    def uncertainty(self) -> float:
        """What its probability lacks."""
        return 1.0 - float(self.content["score"])


@final
class Labels(Answer):
    """Any number of labels of the image, each decided by itself."""

    form, nothing = "labels", "no label"

    @property
    def uncertainty(self) -> float:
        """That of the least sure decision, also of one against a label."""
        return max(_indecision(float(score)) for score in self.content["scores"].values())


@final
class Boxes(Answer):
    """Objects in boxes, perhaps with masks or joints."""

    form = "boxes"

    def sure(self, min_score: float) -> list[Finding]:
        """Those of at least that score."""
        return [box for box in self.findings if box["score"] >= min_score]

    def first_guess(self) -> dict[str, Any]:
        """With the likely boxes alone."""
        return {**self.content, self.form: self.sure(LIKELY_SCORE)}

    @property
    def uncertainty(self) -> float:
        """The mean of the boxes'; one half where there is none."""
        scores = [box["score"] for box in self.sure(DOUBTFUL_SCORE)]
        return sum(map(_indecision, scores)) / len(scores) if scores else 0.5

    def _words(self, sure: Sequence[Finding]) -> list[str]:
        return [f"{count} {label}" for label, count in sorted(Counter(box["label"] for box in sure).items())]


@final
class Segments(Answer):
    """A class for every pixel."""

    form = "segments"

    def sure(self, min_score: float) -> list[Finding]:
        """Those that fill enough of the image."""
        return [segment for segment in self.findings if segment["share"] >= MIN_SHARE]

    @property
    def uncertainty(self) -> float:
        """What the mean probability of all pixels lacks."""
        return 1.0 - sum(float(segment["share"] * segment["score"]) for segment in self.findings)

    def _words(self, sure: Sequence[Finding]) -> list[str]:
        return [f"{segment['label']} {segment['share']:.0%}" for segment in sure]


FORMS: Mapping[str, type[Answer]] = {"label": Label, "labels": Labels, "boxes": Boxes, "segments": Segments}


def read(content: Mapping[str, Any]) -> Answer:
    """The answer that JSON of any version is; RuntimeError for a form that only a newer visionline knows."""
    for key, form in FORMS.items():
        if key in content:
            return form(content)
    raise RuntimeError(f"an answer of {', '.join(content) or 'nothing'}, no form that is known here: update visionline")


def form_of(kind: str) -> str:
    """The form of the answers of a kind of task: "labels", "boxes" or "segments"; ValueError for an unknown kind."""
    form: str = document.module_of(kind).ANSWERS
    return form


def _indecision(score: float) -> float:
    """1 for a score of one half, 0 for one of 0 or 1."""
    return 1 - abs(2 * score - 1)
