"""Which expectations hold for which kind of dataset, with their severity and words for people."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stages.data.checks import Severity
from stages.data.facts import TRAIN
from stages.data.splits import SPLITS
from stages.params.dataset import ValidationParams

ROW_COUNT = "ExpectTableRowCountToBeBetween"  # the one kind that says something about a table without rows
BETWEEN = "ExpectColumnValuesToBeBetween"


@dataclass(frozen=True)
class Condition:
    """A class of great_expectations.expectations and its arguments."""

    kind: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Rule:
    """One expectation on one of facts.tables."""

    table: str
    name: str
    severity: Severity
    words: str
    condition: Condition
    fault: str  # what is wrong when it fails; may hold {num} of {total} rows, or {observed}
    remedy: str


# Columns that name a row to a person, in the report and on the pages.
SHOWN = {
    "samples": ("key", "source", "split", "width", "height"),
    "held_out": ("key", "source", "split", "leaked_from", "looks_like", "differing_bits"),
    "labels": ("key", "source", "split", "label"),
    "boxes": ("key", "source", "split", "label", "x1", "y1", "x2", "y2", "image_width", "image_height"),
    "segments": ("key", "source", "split", "label", "pixels"),
    "classes": ("class", *SPLITS),
    "drift": ("quantity", "distance", "p_value", "num_newest", "num_rest"),
}

# The first offending row in a few words; {column} is what the expectation is about, {value} what stands there.
FIRST = {
    "samples": "{split} {source} ({column} {value})",
    "held_out": "{split} {source}, like train {value}",
    "labels": "{split} {source} ({value!r})",
    "boxes": "{split} {source} {label} ({x1}, {y1}, {x2}, {y2}) in {image_width}x{image_height}",
    "segments": "{split} {source} ({value!r})",
    "classes": "{class} ({train} in train)",
    "drift": "{quantity} (distance {distance:.2f}, p {p_value:.1g})",
}

# Why the expectations on a table were skipped.
NOTHING_THERE = {
    "samples": "no samples",
    "held_out": "no val or test samples",
    "labels": "no labels",
    "boxes": "no boxes",
    "segments": "no labelled pixels",
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
        *_batch_rules(params, where),
    ]


def _image_rules(p: ValidationParams, where: str) -> list[Rule]:
    return [
        Rule(
            table="samples",
            name="enough samples",
            severity="critical",
            words=f"at least {p.min_samples} samples",
            condition=Condition(ROW_COUNT, {"min_value": p.min_samples}),
            fault=f"only {{observed}} samples, not {p.min_samples}",
            remedy=f"ingest more, or lower {where}.min_samples",
        ),
        Rule(
            table="samples",
            name="unique keys",
            severity="critical",
            words="no key occurs twice",
            condition=Condition("ExpectColumnValuesToBeUnique", {"column": "key"}),
            fault="{num} of {total} samples share a key",
            remedy="ingest the data into a new dataset",
        ),
        Rule(
            table="samples",
            name="hashed",
            severity="critical",
            words="each image has the sha256 of its bytes",
            condition=Condition("ExpectColumnValuesToMatchRegex", {"column": "sha256", "regex": "^[0-9a-f]{64}$"}),
            fault="{num} of {total} samples have no sha256",
            remedy="ingest the data into a new dataset",
        ),
        *_split_rules(),
        *_size_rules(p, where),
    ]


def _split_rules() -> list[Rule]:
    return [
        Rule(
            table="samples",
            name="known split",
            severity="critical",
            words=f"the split is one of {', '.join(SPLITS)}",
            condition=_one_of("split", SPLITS),
            fault="{num} of {total} samples are in an unknown split",
            remedy=f"ingest them with a split of {', '.join(SPLITS)}",
        ),
        Rule(
            table="samples",
            name="train split",
            severity="critical",
            words="there are train samples",
            condition=Condition("ExpectColumnDistinctValuesToContainSet", {"column": "split", "value_set": [TRAIN]}),
            fault="no sample is in split train",
            remedy="ingest some that are",
        ),
    ]


def _size_rules(p: ValidationParams, where: str) -> list[Rule]:
    return [
        Rule(
            table="samples",
            name="smallest side",
            severity="critical",
            words=f"the shorter side has at least {p.min_side_px} pixels",
            condition=_between("shorter_px", least=p.min_side_px),
            fault="{num} of {total} images are too small",
            remedy=f"remove them, or lower {where}.min_side_px from {p.min_side_px}",
        ),
        Rule(
            table="samples",
            name="largest side",
            severity="critical",
            words=f"the longer side has at most {p.max_side_px} pixels",
            condition=_between("longer_px", most=p.max_side_px),
            fault="{num} of {total} images are too large",
            remedy=f"scale them down, or raise {where}.max_side_px from {p.max_side_px}",
        ),
        Rule(
            table="samples",
            name="aspect",
            severity="critical",
            words=f"the longer side is at most {p.max_aspect:g} times the shorter",
            condition=_between("aspect", most=p.max_aspect),
            fault="{num} of {total} images are too narrow",
            remedy=f"remove them, or raise {where}.max_aspect from {p.max_aspect:g}",
        ),
    ]


def _label_rules(p: ValidationParams, where: str, classes: Sequence[str]) -> list[Rule]:
    count = "one label" if p.max_labels_per_image == 1 else f"1 to {p.max_labels_per_image} labels"
    return [
        Rule(
            table="samples",
            name="labelled",
            severity="critical",
            words=f"each image has {count}",
            condition=_between("num_labels", least=1, most=p.max_labels_per_image),
            fault=f"{{num}} of {{total}} images do not have {count}",
            remedy=f"fix the annotations and ingest again, or change {where}.max_labels_per_image",
        ),
        _known_labels("labels", classes),
    ]


def _box_rules(p: ValidationParams, where: str, classes: Sequence[str]) -> list[Rule]:
    tolerance = f" (tolerance {p.box_tolerance_px:g} pixels)" if p.box_tolerance_px else ""
    return [
        Rule(
            table="samples",
            name="annotated",
            severity="critical",
            words="each image has a list of boxes, which may be empty",
            condition=Condition("ExpectColumnValuesToNotBeNull", {"column": "num_boxes"}),
            fault="{num} of {total} images were never annotated with boxes",
            remedy="annotate or remove them, and ingest again",
        ),
        _known_labels("boxes", classes),
        *(_positive_side(side) for side in ("width", "height")),
        Rule(
            table="boxes",
            name="inside the image",
            severity="critical",
            words=f"each box lies inside its image{tolerance}",
            condition=_between("outside_px", most=p.box_tolerance_px),
            fault="{num} of {total} boxes reach outside their image",
            remedy=f"fix the annotations and ingest again, or raise {where}.box_tolerance_px",
        ),
    ]


def _positive_side(side: str) -> Rule:
    return Rule(
        table="boxes",
        name=f"positive {side}",
        severity="critical",
        words=f"each box has a positive {side}",
        condition=_between(f"box_{side}", above=0),
        fault=f"{{num}} of {{total}} boxes have no positive {side}",
        remedy="fix the annotations and ingest again",
    )


def _mask_rules(p: ValidationParams, where: str, classes: Sequence[str]) -> list[Rule]:
    return [
        Rule(
            table="samples",
            name="masked",
            severity="critical",
            words="each image has a mask",
            condition=Condition("ExpectColumnValuesToNotBeNull", {"column": "unlabelled"}),
            fault="{num} of {total} images have no mask",
            remedy="annotate or remove them, and ingest again",
        ),
        _known_labels("segments", classes),
        Rule(
            table="samples",
            name="labelled pixels",
            severity="warning",
            words=f"at most {100 * p.max_unlabelled:g} % of an image are not labelled{_but_for(p.max_defects)}",
            condition=_between("unlabelled", most=p.max_unlabelled, tolerated=p.max_defects),
            fault=f"{{num}} of {{total}} masks leave over {100 * p.max_unlabelled:g} % of their image open",
            remedy=f"name the values that they lack, or raise {where}.max_unlabelled from {p.max_unlabelled:g}",
        ),
    ]


def _known_labels(table: str, classes: Sequence[str]) -> Rule:
    return Rule(
        table=table,
        name="known labels",
        severity="critical",
        words="each label is a class of dataset.yaml",
        condition=_one_of("label", classes),
        fault="{num} of {total} labels are not in dataset.yaml",
        remedy="fix the annotations and ingest again",
    )


def _class_rules(p: ValidationParams, where: str) -> list[Rule]:
    return [
        Rule(
            table="classes",
            name="every class in train",
            severity="critical",
            words=f"train has each class at least {p.min_train_per_class} times",
            condition=_between("train", least=p.min_train_per_class),
            fault=f"{{num}} of {{total}} classes occur less than {p.min_train_per_class} times in train",
            remedy=f"ingest examples, or lower {where}.min_train_per_class",
        ),
        Rule(
            table="classes",
            name="balance",
            severity="warning",
            words=f"no class of train is over {p.max_imbalance:g} times rarer than the commonest",
            condition=_between("rarity", most=p.max_imbalance),
            fault=f"{{num}} of {{total}} classes are over {p.max_imbalance:g} times rarer than the commonest",
            remedy=f"ingest more of them, or raise {where}.max_imbalance from {p.max_imbalance:g}",
        ),
    ]


def _duplicate_rules(p: ValidationParams, where: str) -> list[Rule]:
    return [
        Rule(
            table="held_out",
            name="no leak",
            severity="critical",
            words=f"no val or test image has the bytes of a train image{_but_for(p.max_leaked)}",
            condition=_null("leaked_from", p.max_leaked),
            fault="{num} of {total} val and test images are train images, too",
            remedy=f"remove them from one side, or raise {where}.max_leaked from {p.max_leaked:g}",
        ),
        Rule(
            table="held_out",
            name="no look-alikes",
            severity="warning",
            words=f"no val or test image looks like a train image ({p.near_duplicate_bits} of 64 hash bits differ)"
            + _but_for(p.max_near_duplicates),
            condition=_null("looks_like", p.max_near_duplicates),
            fault="{num} of {total} val and test images look like a train image",
            remedy=f"compare them, or change {where}.near_duplicate_bits or max_near_duplicates",
        ),
        Rule(
            table="samples",
            name="no copies",
            severity="warning",
            words=f"the same bytes occur once in a split{_but_for(p.max_exact_duplicates)}",
            condition=_between("copies", most=1, tolerated=p.max_exact_duplicates),
            fault="{num} of {total} images occur more than once in their split",
            remedy=f"remove copies, or raise {where}.max_exact_duplicates from {p.max_exact_duplicates:g}",
        ),
    ]


def _batch_rules(p: ValidationParams, where: str) -> list[Rule]:
    return [
        Rule(
            table="samples",
            name="no defects",
            severity="warning",
            words=f"nothing had to be repaired at ingest{_but_for(p.max_defects)}",
            condition=_null("defects", p.max_defects),
            fault="{num} of {total} samples have defects",
            remedy=f"fix the source and ingest again, or raise {where}.max_defects from {p.max_defects:g}",
        ),
        Rule(
            table="drift",
            name="no drift",
            severity="warning",
            words=f"sizes and labels of the newest batch are like the rest: distances up to {p.max_drift:g}",
            condition=_between("significant_distance", most=p.max_drift),
            fault="{num} of {total} quantities of the newest batch have moved",
            remedy=f"look at the batch, or change {where}.max_drift or drift_p_value",
        ),
    ]


def _between(
    column: str,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    tolerated: float = 0.0,
) -> Condition:
    """Values in [least, most] or in (above, most], but for a tolerated share of the rows."""
    lower = {"min_value": least if above is None else above, "strict_min": above is not None}
    return Condition(BETWEEN, {"column": column, "max_value": most, "mostly": 1 - tolerated, **lower})


def _one_of(column: str, values: Sequence[str]) -> Condition:
    return Condition("ExpectColumnValuesToBeInSet", {"column": column, "value_set": list(values)})


def _null(column: str, tolerated: float) -> Condition:
    """Nothing in a column that names a trouble, but for a tolerated share of the rows."""
    return Condition("ExpectColumnValuesToBeNull", {"column": column, "mostly": 1 - tolerated})


def _but_for(tolerated: float) -> str:
    return f", but for {100 * tolerated:g} %" if tolerated else ""


SUITES: dict[str, Callable[[ValidationParams, str, Sequence[str]], list[Rule]]] = {
    "classification": _label_rules,
    "detection": _box_rules,
    "segmentation": _mask_rules,
}
