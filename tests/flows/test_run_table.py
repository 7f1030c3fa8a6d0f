"""The table at the end of a run, in a narrow terminal."""

import io

from rich.console import Console

from flows import run


def test_in_80_columns_no_bound_of_an_interval_is_cut() -> None:
    value = {"value": 0.5, "low": 0.125, "high": 0.875}
    row = {
        "task": "cells-of-blood-by-faster-rcnn", "metric": "mask_ap50", "num_images": 1200,
        "before": value, "scratch": value, "after": value, "aliases": {"challenger": 12, "champion": 11},
    }  # fmt: skip
    out = io.StringIO()
    run.show({"tasks": [row], "promotion": [], "stale": [], "seconds": 1}, Console(file=out, width=80))
    printed = out.getvalue()
    assert "…" not in printed
    assert printed.count("[0.125,") == printed.count("0.875]") == 3
    assert "challenger 12" in printed
    assert "".join(line.split("│")[1].strip() for line in printed.splitlines() if "│" in line) == row["task"]
