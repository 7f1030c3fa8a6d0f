"""Confusion matrices: which class is taken for which."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from stages.pictures.figure import COLOURS, note, panel, picture, shortened

MAX_CLASSES = 50
MAX_CLASSES_WITH_COUNTS = 20
TOP_CONFUSIONS = 30


@picture
def confusion(counts: Sequence[Sequence[int]], class_names: Sequence[str]) -> Figure:
    """Counts [C, C], rows the truth, columns the prediction, as PNG bytes; the colour is the share of the row.

    Of more than 50 classes the 30 most frequent confusions are listed instead.
    """
    matrix = np.array(counts, np.int64)
    names = [shortened(name, 18) for name in class_names]
    return _grid(matrix, names) if len(names) <= MAX_CLASSES else _most_frequent(matrix, names)


def top_confusions(counts: NDArray[np.int64], count: int) -> list[tuple[int, int, int]]:
    """(truth, predicted, how often) of the most frequent mistakes in counts [C, C], the most frequent first."""
    mistakes = counts - np.diag(counts.diagonal())
    order = np.argsort(-mistakes, axis=None, kind="stable")[:count]
    truth, predicted = np.unravel_index(order, counts.shape)
    found = zip(truth.tolist(), predicted.tolist(), mistakes[truth, predicted].tolist(), strict=True)
    return [(t, p, n) for t, p, n in found if n]


def _grid(matrix: NDArray[np.int64], names: Sequence[str]) -> Figure:
    C = len(names)
    cell_px = int(np.clip(760 / C, 17, 64))
    size = 9 if cell_px > 20 else 7.5
    label_px = round(max(len(name) for name in names) * size * 0.85) + 10
    is_upright = label_px > cell_px
    figure, axes = panel(140 + label_px + C * cell_px, 60 + (label_px if is_upright else 15) + C * cell_px)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(C), names, rotation=90 if is_upright else 0, fontsize=size)
    axes.set_yticks(range(C), names, fontsize=size)
    axes.set(xlabel="predicted", ylabel="truth")
    axes.grid(visible=False)
    axes.tick_params(length=0)
    if C <= MAX_CLASSES_WITH_COUNTS:
        _write_counts(axes, matrix, shares)
    figure.colorbar(image, ax=axes, shrink=0.7, label="share of the true class")
    return figure


def _write_counts(axes: Axes, matrix: NDArray[np.int64], shares: NDArray[np.float64]) -> None:
    for row, column in np.argwhere(matrix).tolist():
        colour = "white" if shares[row, column] > 0.55 else "#333333"
        axes.text(column, row, str(matrix[row, column]), ha="center", va="center", color=colour, fontsize=9)


def _most_frequent(matrix: NDArray[np.int64], names: Sequence[str]) -> Figure:
    found = top_confusions(matrix, TOP_CONFUSIONS)
    figure, axes = panel(760, 110 + 20 * max(5, len(found)))
    axes.set_title(f"the most frequent confusions of {len(names)} classes: truth → predicted")
    if not found:
        note(axes, "no image was confused")
        return figure
    bars = axes.barh(range(len(found)), [n for _, _, n in found], color=COLOURS[1])
    axes.bar_label(bars, padding=3, fontsize=9)
    axes.set_yticks(range(len(found)), [f"{names[t]} → {names[p]}" for t, p, _ in found])
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.set_xlabel("images")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", visible=False)
    return figure
