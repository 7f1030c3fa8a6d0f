"""Parameters are searched as a user does it; whatever is killed, the search ends with exactly as many trials."""

from pathlib import Path
from typing import Any

TUNING = """
tuning:
  patterns:
    trials: 3
    ranges:
      training.optimizer.lr: {low: 1e-4, high: 1e-1, log: true}
      training.optimizer.weight_decay: {low: 0.0, high: 0.1}
      augmentation.crop_scale: {choices: [[0.35, 1.0], [0.8, 1.0]]}
    overrides: {training.steps: 8, training.validate_every: 2, training.log_every: 4}
    pruner: {startup_trials: 2, warmup: 0.2}
"""


def tuned(clone: Any, text: str = TUNING) -> Any:
    params = clone.root / "params.yaml"
    params.write_text(params.read_text() + text)
    clone.git("commit", "--quiet", "--all", "--message", "ranges")
    return clone


def children(clone: Any) -> list[tuple[str, int, str]]:
    """Run, trial and status of each trial's run in MLflow."""
    rows = clone.sql(
        "SELECT r.run_uuid, t.value, r.status FROM runs r JOIN tags t ON t.run_uuid = r.run_uuid "
        "AND t.key = 'visionline.trial' ORDER BY r.start_time"
    )
    return [(run, int(number), status) for run, number, status in rows]


def tags(clone: Any, run: str) -> dict[str, str]:
    return dict(clone.sql(f"SELECT key, value FROM tags WHERE run_uuid = '{run}'"))


MISTAKES = {
    ("cells",): "cells is no task; there are: patterns, scenes",
    ("scenes",): "has no ranges for scenes: add tuning.scenes",
    ("patterns", "--trials", "0"): "--trials",
    ("patterns",): "must run first: visionline run --only patterns",
}


def test_mistakes_are_told_in_a_line(with_data: Any, tmp_path: Path) -> None:
    clone = tuned(with_data.copy(tmp_path / "project"))
    for arguments, told in MISTAKES.items():
        done = clone.visionline("tune", *arguments)
        assert (done.returncode, told in done.stderr) == (2, True), done.stdout + done.stderr
    bad = TUNING.replace("low: 1e-4", "low: -1").replace("weight_decay", "weight_dekay")
    (clone.root / "params.yaml").write_text((clone.root / "params.yaml").read_text().replace(TUNING, bad))
    done = clone.visionline("tune", "patterns")
    assert done.returncode == 2
    assert "tuning.patterns.ranges.training.optimizer.lr: low -1" in done.stderr
    assert "weight_dekay: unknown key; near: training.optimizer.weight_decay" in done.stderr
