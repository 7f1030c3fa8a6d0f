"""Plots as PNG bytes: one style, no display, and the same bytes for the same input."""

import functools
import io
from collections.abc import Callable
from typing import Any, ParamSpec

from cycler import cycler
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

P = ParamSpec("P")
DPI = 100
# Okabe & Ito 2008: told apart by colour-blind readers too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F", "#000000")
GREY = "#888888"
STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#B0B0B0",
    "axes.grid": True,
    "axes.prop_cycle": cycler(color=COLOURS),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 11,
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
    "font.size": 10,
    "grid.color": "#E6E6E6",
    "legend.edgecolor": "none",
    "legend.framealpha": 0.8,
    "text.parse_math": False,  # a class may be called "$5"
    "xtick.color": "#444444",
    "ytick.color": "#444444",
}


def picture(draw: Callable[P, Figure]) -> Callable[P, bytes]:
    """Turn a function that draws a Figure into one that returns it as PNG, whatever the machine's matplotlibrc says."""

    @functools.wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> bytes:
        with style.context(["default", STYLE]):
            buffer = io.BytesIO()
            draw(*args, **kwargs).savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
        return buffer.getvalue()

    return drawn


def panel(width_px: int, height_px: int) -> tuple[Figure, Axes]:
    """A figure with one set of axes."""
    figure = Figure(figsize=(width_px / DPI, height_px / DPI), layout="constrained")
    return figure, figure.add_subplot()


def note(axes: Axes, text: str) -> None:
    """Say in the middle of empty axes why they are empty."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=GREY)


def shortened(text: str, length: int = 24) -> str:
    """The text in at most `length` characters."""
    return text if len(text) <= length else text[: length - 1].rstrip(" ,") + "…"
