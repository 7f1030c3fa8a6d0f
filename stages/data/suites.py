"""Which expectations hold for which kind of dataset, with their severity and words for people."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stages.data.checks import Severity
from stages.data.facts import SPLITS, TRAIN
from stages.params.dataset import ValidationParams


@dataclass(frozen=True)
class Rule:
    """One expectation on one of facts.tables.

    kind and arguments are Great Expectations' class and its arguments. fault tells a failure; it may hold {num} of
    {total} rows, or {observed}. remedy says what to do about it.
    """

    table: str
    name: str
    severity: Severity
    words: str
    kind: str
    arguments: Mapping[str, Any]
    fault: str
    remedy: str

    @property
    def tests_emptiness(self) -> bool:
        """Whether it says something about a table without rows."""
        return self.kind == "ExpectTableRowCountToBeBetween"


# Columns that name a row to a person, in the report and on the pages.
SHOWN = {
    "samples": ("key", "source", "split", "width", "height"),
    "held_out": ("key", "source", "split", "leaked_from", "looks_like", "differing_bits"),
    "labels": ("key", "source", "split", "label"),
    "boxes": ("key", "source", "split", "label", "x1", "y1", "x2", "y2", "image_width", "image_height"),
    "classes": ("class", *SPLITS),
    "drift": ("quantity", "distance", "p_value", "num_newest", "num_rest"),
}

# The first offending row in a few words; {column} is what the expectation is about, {value} what stands there.
FIRST = {
    "samples": "{split} {source} ({column} {value})",
    "held_out": "{split} {source}, like train {value}",
    "labels": "{split} {source} ({value!r})",
    "boxes": "{split} {source} {label} ({x1}, {y1}, {x2}, {y2}) in {image_width}x{image_height}",
    "classes": "{class} ({train} in train)",
    "drift": "{quantity} (distance {distance:.2f}, p {p_value:.0e})",
}

# Why the expectations on a table were skipped.
NOTHING_THERE = {
    "samples": "no samples",
    "held_out": "no val or test samples",
    "labels": "no labels",
    "boxes": "no boxes",
    "classes": "no classes",
    "drift": "one batch only",
}


def rules_for(task: str, name: str, classes: Sequence[str], params: ValidationParams) -> list[Rule]:
    """The expectations on dataset `name`; ValueError for a task that has no suite."""
    if task not in SUITES:
        raise ValueError(f"no expectations for task {task!r}; there are: {', '.join(SUITES)}")
    where = f"datasets.{name}.validation"
    return [
        *_image_rules(params, where),
        *SUITES[task](params, where, classes),
        *_class_rules(params, where),
        *_duplicate_rules(params, where),
        *_drift_rules(params, where),
    ]


def _image_rules(p: ValidationParams, where: str) -> list[Rule]:
    return [
        Rule(
            *("samples", "enough samples", "critical", f"at least {p.min_samples} samples"),
            *("ExpectTableRowCountToBeBetween", {"min_value": p.min_samples}),
            fault=f"only {{observed}} samples, not {p.min_samples}",
            remedy=f"ingest more, or lower {where}.min_samples",
        ),
        Rule(
            *("samples", "unique keys", "critical", "no key occurs twice"),
            *("ExpectColumnValuesToBeUnique", {"column": "key"}),
            fault="{num} of {total} samples share a key",
            remedy="ingest the data into a new dataset",
        ),
        Rule(
            *("samples", "hashed", "critical", "each image has the sha256 of its bytes"),
            *("ExpectColumnValuesToMatchRegex", {"column": "sha256", "regex": "^[0-9a-f]{64}$"}),
            fault="{num} of {total} samples have no sha256",
            remedy="ingest the data into a new dataset",
        ),
        Rule(
            *("samples", "known split", "critical", f"the split is one of {', '.join(SPLITS)}"),
            *("ExpectColumnValuesToBeInSet", {"column": "split", "value_set": list(SPLITS)}),
            fault="{num} of {total} samples are in an unknown split",
            remedy=f"ingest them with --split {' or '.join(SPLITS)}",
        ),
        Rule(
            *("samples", "train split", "critical", "there are train samples"),
            *("ExpectColumnDistinctValuesToContainSet", {"column": "split", "value_set": [TRAIN]}),
            fault="no sample is in split train",
            remedy="ingest some with --split train",
        ),
        _between(
            *("samples", "smallest side", f"the shorter side has at least {p.min_side_px} pixels"),
            *("shorter_px", p.min_side_px, None),
            fault="{num} of {total} images are too small",
            remedy=f"remove them, or lower {where}.min_side_px from {p.min_side_px}",
        ),
        _between(
            *("samples", "largest side", f"the longer side has at most {p.max_side_px} pixels"),
            *("longer_px", None, p.max_side_px),
            fault="{num} of {total} images are too large",
            remedy=f"scale them down, or raise {where}.max_side_px from {p.max_side_px}",
        ),
        _between(
            *("samples", "aspect", f"the longer side is at most {p.max_aspect:g} times the shorter"),
            *("aspect", None, p.max_aspect),
            fault="{num} of {total} images are too narrow",
            remedy=f"remove them, or raise {where}.max_aspect from {p.max_aspect:g}",
        ),
    ]


def _label_rules(p: ValidationParams, where: str, classes: Sequence[str]) -> list[Rule]:
    count = "one label" if p.max_labels_per_image == 1 else f"1 to {p.max_labels_per_image} labels"
    return [
        _between(
            *("samples", "labelled", f"each image has {count}"),
            *("num_labels", 1, p.max_labels_per_image),
            fault=f"{{num}} of {{total}} images do not have {count}",
            remedy=f"fix the annotations and ingest again, or change {where}.max_labels_per_image",
        ),
        _known_labels("labels", classes),
    ]


def _box_rules(p: ValidationParams, where: str, classes: Sequence[str]) -> list[Rule]:
    tolerance = f" (tolerance {p.box_tolerance_px:g} pixels)" if p.box_tolerance_px else ""
    return [
        Rule(
            *("samples", "annotated", "critical", "each image has a list of boxes, which may be empty"),
            *("ExpectColumnValuesToNotBeNull", {"column": "num_boxes"}),
            fault="{num} of {total} images have no annotation of boxes",
            remedy="annotate or remove them, and ingest again",
        ),
        _known_labels("boxes", classes),
        *(
            _between(
                *("boxes", f"positive {side}", f"each box has a positive {side}"),
                *(f"box_{side}", 0, None),
                fault=f"{{num}} of {{total}} boxes have no positive {side}",
                remedy="fix the annotations and ingest again",
                strict=True,
            )
            for side in ("width", "height")
        ),
        _between(
            *("boxes", "inside the image", f"each box lies inside its image{tolerance}"),
            *("outside_px", None, p.box_tolerance_px),
            fault="{num} of {total} boxes reach outside their image",
            remedy=f"fix the annotations and ingest again, or raise {where}.box_tolerance_px from {p.box_tolerance_px:g}",
        ),
    ]


def _class_rules(p: ValidationParams, where: str) -> list[Rule]:
    return [
        _between(
            *("classes", "every class in train", f"each class occurs at least {p.min_train_per_class} times in train"),
            *("train", p.min_train_per_class, None),
            fault=f"{{num}} of {{total}} classes occur less than {p.min_train_per_class} times in train",
            remedy=f"ingest examples, or lower {where}.min_train_per_class",
        ),
        _between(
            *("classes", "balance", f"no class is over {p.max_imbalance:g} times rarer in train than the commonest"),
            *("rarity", None, p.max_imbalance),
            fault=f"{{num}} of {{total}} classes are over {p.max_imbalance:g} times rarer than the commonest",
            remedy=f"ingest more of them, or raise {where}.max_imbalance from {p.max_imbalance:g}",
            severity="warning",
        ),
    ]


def _duplicate_rules(p: ValidationParams, where: str) -> list[Rule]:
    return [
        _null(
            *("held_out", "no leak", "critical", "bytes of train do not occur in val or test", "leaked_from", p.max_leaked),
            fault="{num} of {total} val and test images are train images, too",
            remedy=f"remove them from one side, or raise {where}.max_leaked from {p.max_leaked:g}",
        ),
        _null(
            *("held_out", "no look-alikes", "warning"),
            f"images of val and test differ from those of train in over {p.near_duplicate_bits} of 64 hash bits",
            *("looks_like", p.max_near_duplicates),
            fault="{num} of {total} val and test images look like a train image",
            remedy=f"compare them, or change {where}.near_duplicate_bits or max_near_duplicates",
        ),
        _between(
            *("samples", "no copies", "the same bytes occur once in a split"),
            *("copies", None, 1),
            fault="{num} of {total} images occur more than once in their split",
            remedy=f"remove copies, or raise {where}.max_exact_duplicates from {p.max_exact_duplicates:g}",
            severity="warning",
            tolerated=p.max_exact_duplicates,
        ),
        _null(
            *("samples", "no defects", "warning", "nothing had to be repaired at ingest", "defects", p.max_defects),
            fault="{num} of {total} samples have defects",
            remedy=f"fix the source and ingest again, or raise {where}.max_defects from {p.max_defects:g}",
        ),
    ]


def _drift_rules(p: ValidationParams, where: str) -> list[Rule]:
    return [
        _between(
            *("drift", "no drift", f"the newest batch is like the rest: distance at most {p.max_drift:g}"),
            *("significant_distance", None, p.max_drift),
            fault="{num} of {total} quantities of the newest batch have moved",
            remedy=f"look at the batch, or change {where}.max_drift or drift_p_value",
            severity="warning",
        )
    ]


def _known_labels(table: str, classes: Sequence[str]) -> Rule:
    return Rule(
        *(table, "known labels", "critical", "each label is a class of dataset.yaml"),
        *("ExpectColumnValuesToBeInSet", {"column": "label", "value_set": list(classes)}),
        fault="{num} of {total} labels are not in dataset.yaml",
        remedy="fix the annotations and ingest again",
    )


def _between(
    table: str,
    name: str,
    words: str,
    column: str,
    least: float | None,
    most: float | None,
    *,
    fault: str,
    remedy: str,
    severity: Severity = "critical",
    tolerated: float = 0.0,
    strict: bool = False,
) -> Rule:
    """Values of a column in [least, most], least excluded when strict, but for a tolerated share of the rows."""
    arguments = {"column": column, "min_value": least, "max_value": most, "strict_min": strict, "mostly": 1 - tolerated}
    kind = "ExpectColumnValuesToBeBetween"
    return Rule(table, name, severity, words + _but_for(tolerated), kind, arguments, fault, remedy)


def _null(
    table: str, name: str, severity: Severity, words: str, column: str, tolerated: float, *, fault: str, remedy: str
) -> Rule:
    """Nothing in a column that names a trouble, but for a tolerated share of the rows."""
    arguments = {"column": column, "mostly": 1 - tolerated}
    kind = "ExpectColumnValuesToBeNull"
    return Rule(table, name, severity, words + _but_for(tolerated), kind, arguments, fault, remedy)


def _but_for(tolerated: float) -> str:
    return f", but for {tolerated:.3g} of them" if tolerated else ""


SUITES: dict[str, Callable[[ValidationParams, str, Sequence[str]], list[Rule]]] = {
    "classification": _label_rules,
    "detection": _box_rules,
}
