"""A search for parameters: how the best rose from trial to trial, and the metric against each parameter."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stages.pictures.figure import COLOURS, DPI, GREY, note, picture, shortened

PANEL_PX = (420, 320)
MAX_COLUMNS = 3
# State of a trial -> colour and marker.
LOOKS = {"complete": (COLOURS[0], "o"), "pruned": (GREY, "x"), "failed": (COLOURS[1], "x")}


@picture
def study(trials: Sequence[Mapping[str, Any]], metric: str, logarithmic: Collection[str] = ()) -> Figure:
    """The history of a study and a panel for each parameter, as PNG bytes.

    trials: `number`, `state` (complete, pruned, failed), `value` (the best of its validations, None without any) and
    `values` by key; logarithmic: keys that are drawn on such a scale. A trial without a value lies at the lower edge.
    """
    keys = list(trials[0]["values"]) if trials else []
    columns = min(MAX_COLUMNS, 1 + len(keys))
    rows = math.ceil((1 + len(keys)) / columns)
    figure = Figure(figsize=(columns * PANEL_PX[0] / DPI, rows * PANEL_PX[1] / DPI), layout="constrained")
    history = figure.add_subplot(rows, columns, 1)
    _draw_history(history, trials, metric)
    for place, key in enumerate(keys, start=2):
        axes = figure.add_subplot(rows, columns, place, sharey=history if trials else None)
        _draw_slice(axes, trials, key, key in logarithmic)
    return figure


def _draw_history(axes: Axes, trials: Sequence[Mapping[str, Any]], metric: str) -> None:
    if not trials:
        note(axes, "no trial has ended")
        return
    axes.set(title="best of each trial", xlabel="trial", ylabel=metric)
    for state in LOOKS:
        _scatter(axes, state, [(t["number"], t["value"]) for t in trials if t["state"] == state], _floor(trials))
    best, line = -math.inf, []
    for trial in trials:
        best = max(best, trial["value"]) if trial["state"] == "complete" else best
        line.append(best if math.isfinite(best) else math.nan)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.step([t["number"] for t in trials], line, where="post", color=COLOURS[2], linewidth=1.6, label="best so far")
    axes.legend(fontsize=8)


def _draw_slice(axes: Axes, trials: Sequence[Mapping[str, Any]], key: str, is_logarithmic: bool) -> None:
    axes.set_title(shortened(key, 40))
    values = [trial["values"][key] for trial in trials]
    places: list[float] = values
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        names = sorted({str(value) for value in values})
        places = [float(names.index(str(value))) for value in values]
        axes.set_xticks(range(len(names)), [shortened(name, 12) for name in names])
        axes.set_xlim(-0.5, len(names) - 0.5)
    elif is_logarithmic:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5))
    for state in LOOKS:
        points = [(x, t["value"]) for x, t in zip(places, trials, strict=True) if t["state"] == state]
        _scatter(axes, state, points, _floor(trials))


def _floor(trials: Sequence[Mapping[str, Any]]) -> float:
    return min((trial["value"] for trial in trials if trial["value"] is not None), default=0.0)


def _scatter(axes: Axes, state: str, points: Sequence[tuple[float, float | None]], floor: float) -> None:
    if points:
        colour, marker = LOOKS[state]
        x, y = [p[0] for p in points], [floor if p[1] is None else p[1] for p in points]
        axes.scatter(x, y, s=28, color=colour, marker=marker, alpha=0.85, label=state)
