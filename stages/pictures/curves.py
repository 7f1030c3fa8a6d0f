"""Lines: what happened over the steps of a training, and precision against recall."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stages.pictures.figure import COLOURS, DPI, GREY, note, picture, shortened

Series = Sequence[tuple[float, float]]  # (step, value) in the order of steps
PANEL_PX = (520, 340)
MAX_COLUMNS = 3
MAX_CLASSES_NAMED = 7


@picture
def curves(history: Mapping[str, Mapping[str, Series]], smoothing: Mapping[str, float] | None = None) -> Figure:
    """One panel a quantity ("loss", "top1", "learning rate"), one line a series ("train", "val"), as PNG bytes.

    Smoothing gives a quantity the weight of the past, in [0, 1), in an exponential moving average; the raw line stays,
    faint. Lines of up to 20 values are never smoothed. Values that are not finite are gaps.
    """
    columns = min(MAX_COLUMNS, max(1, len(history)))
    rows = math.ceil(max(1, len(history)) / columns)
    figure = Figure(figsize=(columns * PANEL_PX[0] / DPI, rows * PANEL_PX[1] / DPI), layout="constrained")
    if not history:
        note(figure.add_subplot(), "nothing was recorded")
    for place, (quantity, series) in enumerate(history.items(), start=1):
        _draw_quantity(figure.add_subplot(rows, columns, place), quantity, series, (smoothing or {}).get(quantity, 0.0))
    return figure


@picture
def precision_recall(per_class: Mapping[str, Mapping[str, Sequence[float]] | None], recall: Sequence[float]) -> Figure:
    """Precision [101] against recall [101] by class, left at IoU 0.5, right as the mean of IoU 0.5 to 0.95, as PNG.

    The curves are those of DetectionMetric.compute()["precision_recall"], null for a class without truth. The legend
    names the best few classes with their area, which is the average precision; the black line is the mean of classes.
    """
    figure = Figure(figsize=(10.4, 4.6), layout="constrained")
    for place, (name, title) in enumerate(
        [("iou_50", "IoU 0.50"), ("iou_50_95", "mean over IoU 0.50 to 0.95")], start=1
    ):
        axes = figure.add_subplot(1, 2, place)
        axes.set(title=title, xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
        _draw_classes(axes, recall, {label: np.array(c[name]) for label, c in per_class.items() if c is not None})
    return figure


def smoothed(values: Sequence[float], smoothing: float) -> list[float]:
    """Exponential moving average without the bias of its start (Kingma & Ba 2015, section 3); gaps stay gaps."""
    average, weight, result = 0.0, 0.0, []
    for value in values:
        if math.isfinite(value):
            average = smoothing * average + (1 - smoothing) * value
            weight = smoothing * weight + (1 - smoothing)
        result.append(average / weight if math.isfinite(value) else math.nan)
    return result


def _draw_quantity(axes: Axes, quantity: str, series: Mapping[str, Series], smoothing: float) -> None:
    axes.set(title=quantity, xlabel="step")
    if not any(series.values()):
        note(axes, "nothing was recorded")
    for i, (name, points) in enumerate((name, points) for name, points in series.items() if points):
        steps, values = zip(*points, strict=True)
        colour = COLOURS[i % len(COLOURS)]
        # A few evaluations are points to see; hundreds of losses are a line.
        marker = "o" if len(points) <= 20 else ""
        is_smoothed = smoothing > 0 and len(points) > 20
        if is_smoothed:
            axes.plot(steps, values, color=colour, alpha=0.25, linewidth=1)
        shown = smoothed(values, smoothing) if is_smoothed else values
        axes.plot(steps, shown, color=colour, marker=marker, markersize=4, label=shortened(name))
    if len(series) > 1:
        axes.legend()


def _draw_classes(axes: Axes, recall: Sequence[float], precision: Mapping[str, Any]) -> None:
    if not precision:
        note(axes, "no class has truth")
        return
    ranked = sorted(precision, key=lambda name: (-precision[name].mean(), name))
    for i, name in enumerate(ranked):
        label = f"{shortened(name)}  {precision[name].mean():.3f}" if i < MAX_CLASSES_NAMED else None
        colour = COLOURS[i] if i < MAX_CLASSES_NAMED else GREY
        axes.plot(recall, precision[name], color=colour, linewidth=1.6 if label else 0.6, label=label)
    mean = np.mean(list(precision.values()), axis=0)
    axes.plot(recall, mean, color="black", linewidth=2.4, linestyle="--", label=f"all classes  {mean.mean():.3f}")
    axes.legend(fontsize=9, loc="lower left")
