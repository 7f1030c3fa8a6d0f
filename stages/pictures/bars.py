"""Bars: models side by side, classes side by side, confidence against accuracy."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stages.pictures.figure import COLOURS, DPI, GREY, panel, picture, shortened

MAX_CLASSES = 50


@picture
def comparison(compared: Mapping[str, Any]) -> Figure:
    """Each model's metrics with their intervals, and below them the paired differences in words, as PNG bytes.

    `compared` is what stages.metrics.bootstrap.compare returns; a null value leaves its bar out.
    """
    models = [name for name in compared if name != "differences"]
    metrics = list(compared[models[0]])
    words = _differences_in_words(compared.get("differences", {}))
    figure, axes = panel(max(620, 90 * len(models) * len(metrics) + 120), 380 + 17 * len(words))
    width = 0.8 / len(models)
    for m, model in enumerate(models):
        places = [i - 0.4 + (m + 0.5) * width for i in range(len(metrics))]
        values = [compared[model][metric] for metric in metrics]
        _draw_model(axes, model, COLOURS[m % len(COLOURS)], width, list(zip(places, values, strict=True)))
    axes.set_xticks(range(len(metrics)), metrics, fontsize=11)
    axes.set_xlim(-0.55, len(metrics) - 0.45)
    axes.set_ylim(0, axes.get_ylim()[1] * 1.05)
    axes.grid(axis="x", visible=False)
    axes.legend(ncols=len(models), loc="lower left", bbox_to_anchor=(0, 1))
    axes.set_xlabel("\n".join(words), family="DejaVu Sans Mono", fontsize=9, color="#444444", x=0, ha="left")
    return figure


@picture
def per_class(scores: Mapping[str, Mapping[str, float | None]], measures: Sequence[str]) -> Figure:
    """Measures in [0, 1] of each class, the best class by the first measure on top, as PNG bytes.

    `scores` is "per_class" of a metric's compute(). Of more than 50 classes the worst 50 are drawn; a null is
    no bar, and a class with nulls alone is left out.
    """
    known = [name for name in scores if any(scores[name][measure] is not None for measure in measures)]
    ranked = sorted(known, key=lambda name: -(scores[name][measures[0]] or 0.0))[-MAX_CLASSES:]
    figure, axes = panel(760, 110 + max(1, len(ranked)) * (12 * len(measures) + 8))
    height = 0.8 / len(measures)
    for m, measure in enumerate(measures):
        places = [-i + 0.4 - (m + 0.5) * height for i in range(len(ranked))]
        values = [scores[name][measure] for name in ranked]
        bars = axes.barh(places, [v or 0.0 for v in values], height * 0.9, color=COLOURS[m], label=measure)
        axes.bar_label(bars, ["" if v is None else f"{v:.2f}" for v in values], fontsize=8, padding=3, color="#444444")
    axes.set_yticks([-i for i in range(len(ranked))], [shortened(name) for name in ranked])
    axes.set(xlim=(0, 1.08), ylim=(-len(ranked) + 0.4, 0.6))
    axes.grid(axis="y", visible=False)
    title = "" if len(ranked) == len(known) else f"the {len(ranked)} worst of {len(known)} classes"
    axes.set_title(title, loc="right")
    axes.legend(ncols=len(measures), loc="lower left", bbox_to_anchor=(0, 1))
    return figure


@picture
def reliability(
    bins: Sequence[Mapping[str, Any]], ece: float, of: str = "the most probable class", counted: str = "images"
) -> Figure:
    """Accuracy against confidence, and below it how many predictions have that confidence, as PNG bytes.

    `bins` and `ece` are "reliability" and "ece" of ClassificationMetric.compute(); of and counted say what the
    confidence is of, and what a bin holds. Source: Guo et al. 2017, figure 1.
    """
    figure = Figure(figsize=(520 / DPI, 600 / DPI), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    filled = [b for b in bins if b["count"]]
    left, right = [b["low"] for b in filled], [b["high"] for b in filled]
    accuracy, confidence = [b["accuracy"] for b in filled], [b["confidence"] for b in filled]
    width, total = (bins[0]["high"] - bins[0]["low"]) * 0.94, sum(b["count"] for b in filled)
    above.bar(left, accuracy, width, align="edge", color=COLOURS[5], label="accuracy")
    above.hlines(confidence, left, right, color=COLOURS[1], linewidth=2.5, label="mean confidence")
    above.vlines([(a + b) / 2 for a, b in zip(left, right, strict=True)], accuracy, confidence, color=COLOURS[1])
    above.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
    above.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="accuracy", title=f"expected calibration error {ece:.3f}")
    above.legend(loc="best")
    below.bar(left, [b["count"] / total for b in filled], width, align="edge", color=GREY)
    below.set(xlabel=f"confidence of {of}", ylabel=f"share of {counted}")
    return figure


def _draw_model(
    axes: Axes, name: str, colour: str, width: float, values: Sequence[tuple[float, Mapping[str, Any]]]
) -> None:
    shown = [(x, v) for x, v in values if v["value"] is not None]
    axes.bar([x for x, _ in shown], [v["value"] for _, v in shown], width * 0.92, color=colour, label=name)
    for x, v in shown:
        axes.vlines(x, v["low"], v["high"], color="#222222", linewidth=1.5)
        place = (x, max(v["value"], v["high"]))
        axes.annotate(f"{v['value']:.3f}", place, (0, 3), textcoords="offset points", ha="center", fontsize=9)


def _differences_in_words(differences: Mapping[str, Mapping[str, Mapping[str, float | None]]]) -> list[str]:
    """One line a difference: "after-before   ap    +0.120  [+0.080, +0.160]  p 0.002"."""
    return [
        f"{pair:<13}  {metric:<5} {d['value']:+.3f}  [{d['low']:+.3f}, {d['high']:+.3f}]  p {d['p']:.3f}"
        for pair, metrics in differences.items()
        for metric, d in metrics.items()
        if d["value"] is not None
    ]
