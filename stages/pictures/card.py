"""The model card (Mitchell et al. 2019) as one self-contained HTML page of plain data."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

FEW_SAMPLES = 20
COLUMNS = {"before": "before", "scratch": "from scratch", "after": "this version"}
SIZES = ("small", "medium", "large")
SIZED = ("mask_ap", "mask_ar", "ap", "ar")  # what is told for each size, where it was measured

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#222;background:#fff;max-width:62rem;margin:2rem auto;padding:0 1rem}
h1{margin:0;font-size:1.7rem}h2{margin:2.2rem 0 .6rem;font-size:1.15rem;border-bottom:1px solid #ccc}
.lead{color:#555;margin:.2rem 0 1rem}.note{color:#666;font-size:.9rem}
table{border-collapse:collapse}table+table{margin-top:1rem}
td,th{padding:.25rem .9rem .25rem 0;text-align:left;vertical-align:top}
th{font-weight:600}tbody tr{border-top:1px solid #e6e6e6}.facts th{white-space:nowrap;color:#555}
td.number{font-variant-numeric:tabular-nums}.interval{color:#777;font-size:.85rem;white-space:nowrap}
meter{width:6rem;margin-right:.5rem}code{font-size:.85rem;overflow-wrap:anywhere}
img{max-width:100%;height:auto}.row{display:flex;flex-wrap:wrap;gap:1rem}figure{margin:0}
figcaption{font-size:.85rem;max-width:14rem}
"""


@dataclass(frozen=True)
class Card:
    """What a model card tells; texts are plain, not HTML."""

    name: str
    version: str
    purpose: str
    limits: str
    classes: Mapping[str, str]  # label -> name for people
    input_px: str  # "64 × 64"
    counts: Mapping[str, int]  # split -> samples
    lineage: Sequence[tuple[str, str]]  # what, which
    report: Mapping[str, Any]  # reports/evaluate/KEY.json
    champion: Mapping[str, Any] | None  # the champion's report, if it can be compared
    champion_note: str
    pictures: Mapping[str, bytes] = field(default_factory=dict)  # file name -> PNG
    saliency: Sequence[tuple[str, bytes]] = ()  # caption, PNG


def page(card: Card) -> str:
    """The card as HTML that asks no host for anything."""
    title = f"{card.name}, version {card.version}"
    sections = {
        "Purpose": _purpose(card),
        "Data and lineage": _lineage(card),
        "Metrics": _metrics(card),
        "Slices": _slices(card),
        "Calibration": _calibration(card),
        "Failures": _failures(card),
        "Saliency": _saliency(card),
        "Limits": _limits(card),
    }
    body = "".join(f"<section><h2>{name}</h2>{content}</section>" for name, content in sections.items())
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<link rel="icon" href="data:,"><title>{escape(title)}: model card</title><style>{STYLE}</style></head>'
        f'<body><h1>{escape(title)}</h1><p class="lead">{escape(summary(card))}</p>{body}</body></html>\n'
    )


def summary(card: Card) -> str:
    """What the model is and does, in one sentence."""
    report = card.report
    metric = report["main_metric"]
    value = _shown(report["after"]["intervals"].get(metric) or {"value": report["after"].get(metric)})
    return f"{report['kind']} of {len(card.classes)} classes: {metric} {value} on {report['num_images']} test images"


def _purpose(card: Card) -> str:
    named = [label if label == title else f"{label} ({title})" for label, title in card.classes.items()]
    text = _paragraph(card.purpose) if card.purpose else _note("params.yaml says none: set `models.NAME.purpose`.")
    facts = [("task", str(card.report["kind"])), ("input", f"{card.input_px} px"), ("classes", ", ".join(named))]
    return text + _facts(facts)


def _lineage(card: Card) -> str:
    counts = ", ".join(f"{split} {count}" for split, count in card.counts.items())
    return _facts([("dataset", card.report["dataset"]), ("samples", counts), *card.lineage])


def _metrics(card: Card) -> str:
    report = card.report
    reports = {title: report[name] for name, title in COLUMNS.items() if name in report}
    if card.champion is not None:
        reports["champion"] = card.champion["after"]
    rows = [
        [escape(metric), *(_value(numbers["intervals"].get(metric)) for numbers in reports.values())]
        for metric in report["after"]["intervals"]
    ]
    spans = f"Intervals hold {report['confidence']:.0%}: {report['resamples']} bootstrap resamples over images."
    return (
        _table(["", *reports], rows)
        + _note(f"{spans if report['resamples'] else 'No intervals: resamples is 0.'} {card.champion_note}")
        + "".join(_paragraph(finding) for finding in report["findings"])
        + _picture(card, "comparison.png", "the models side by side")
    )


def _slices(card: Card) -> str:
    after = card.report["after"]
    tables = [_scores("class", after["per_class"])]
    if "per_joint" in after:
        tables.append(_scores("joint", after["per_joint"]))
    measures = [m for m in SIZED if any(f"{m}_{size}" in after for size in SIZES)]
    if measures:
        sizes = {size: {m: after.get(f"{m}_{size}") for m in measures} for size in SIZES}
        tables.append(_scores("object size (COCO)", sizes))
    return "".join(tables)


def _scores(what: str, slices: Mapping[str, Mapping[str, float | int | None]]) -> str:
    """One row a slice, one column a measure; measures are in [0, 1], counts are whole numbers."""
    measures = list(next(iter(slices.values()), {}))
    rows = [[escape(name), *(_bar(scores[measure]) for measure in measures)] for name, scores in slices.items()]
    return _table([what, *measures], rows)


def _calibration(card: Card) -> str:
    after = card.report["after"]
    if "ece" in after:
        words = f"Expected calibration error {after['ece']:.3f}, negative log likelihood {after['nll']:.3f}."
        return _paragraph(words) + _picture(card, "reliability.png", "accuracy against confidence")
    if "precision_recall" not in after:
        return _paragraph("How often a pixel's score is right was not measured.")
    words = "Scores rank what is found; how often a score is right was not measured beyond precision at each recall:"
    return _paragraph(words) + _picture(card, "precision_recall.png", "precision against recall")


def _failures(card: Card) -> str:
    words = "The test images that this version does worst on, the worst first."
    return _paragraph(words) + _picture(card, "worst.png", "the worst test images")


def _saliency(card: Card) -> str:
    shown = "".join(
        f'<figure><img src="{_data_uri(png)}" alt=""><figcaption>{escape(words)}</figcaption></figure>'
        for words, png in card.saliency
    )
    words = "What in test images, spread over the split, speaks for the surest answer (HiResCAM by Captum), from "
    return _paragraph(f"{words}yellow to red; for a detector, for its surest box.") + f'<div class="row">{shown}</div>'


def _limits(card: Card) -> str:
    report = card.report
    few = [name for name, scores in report["after"]["per_class"].items() if _support(scores) < FEW_SAMPLES]
    told = [
        f"Measured on {report['num_images']} images of the test split of {report['dataset']}, from where its training "
        "images come too; nothing here tells how it does on images of another origin.",
        f"Images are scaled to {card.input_px} px: what is too small to be seen then is not found.",
        "It knows its classes and nothing else: what is none of them still gets one of their names, or is passed over.",
    ]
    if few:
        told.append(f"Under {FEW_SAMPLES} test samples, so that their numbers mean little: {', '.join(few)}.")
    items = "".join(f"<li>{escape(line)}</li>" for line in told)
    return (_paragraph(card.limits) if card.limits else "") + f"<ul>{items}</ul>"


def _support(scores: Mapping[str, Any]) -> int:
    return int(scores["support"] if "support" in scores else scores["num_truth"])


def _shown(interval: Mapping[str, float | None]) -> str:
    value, low, high = (interval.get(name) for name in ("value", "low", "high"))
    if value is None:
        return "–"
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _value(interval: Mapping[str, float | None] | None) -> str:
    value, _, span = _shown(interval or {}).partition(" ")
    return f'{value} <span class="interval">{span}</span>'


def _bar(value: float | int | None) -> str:
    if value is None:
        return "–"
    return str(value) if isinstance(value, int) else f'<meter value="{value:.4f}"></meter>{value:.3f}'


def _facts(facts: Iterable[tuple[str, str]]) -> str:
    rows = "".join(f"<tr><th>{escape(what)}</th><td>{escape(which)}</td></tr>" for what, which in facts)
    return f'<table class="facts"><tbody>{rows}</tbody></table>'


def _table(head: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are HTML already."""
    heads = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = "".join("<tr>" + "".join(f'<td class="number">{cell}</td>' for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table>"


def _picture(card: Card, name: str, words: str) -> str:
    if name not in card.pictures:
        return _note(f"{name} was not drawn.")
    return f'<img src="{_data_uri(card.pictures[name])}" alt="{escape(words)}">'


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def _note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'
