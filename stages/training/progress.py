"""How a training shows itself: a bar on a terminal, a line now and then elsewhere, every number to MLflow."""

import sys
import time
from collections.abc import Sequence
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from stages.tracking.runs import StageRun

LINE_EVERY_S = 10.0


class Progress:
    """The monitor of a stage's training."""

    def __init__(self, run: StageRun, shown: Sequence[str]) -> None:
        """shown: keys of the validation's metrics that are told on the way."""
        self.run, self.shown = run, shown
        self.bar = Bar(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            disable=not sys.stdout.isatty(),
        )  # fmt: skip
        self.task = self.bar.add_task(run.name)
        self.began_s = self.said_s = time.monotonic()
        self.first_step: int | None = None

    def __enter__(self) -> "Progress":
        self.bar.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.bar.stop()

    def losses(self, step: int, steps: int, values: dict[str, float]) -> None:
        """Losses and rates of a step."""
        self.run.log_metrics(values, step)
        total = sum(value for name, value in values.items() if name.startswith("loss"))
        text = f"loss {total:.3f}  {values['images_per_s']:.0f} img/s  waits for data {values['data_wait_share']:.0%}"
        self.bar.update(self.task, completed=step, total=steps, description=f"{self.run.name}  {text}")
        if self.first_step is None:
            self.first_step = step
        if self.bar.disable and (time.monotonic() - self.said_s > LINE_EVERY_S or step == steps):
            self.said_s = time.monotonic()
            print(f"step {step}/{steps}  {text}{self._remaining(step, steps)}", flush=True)

    def metrics(self, step: int, steps: int, values: dict[str, float]) -> None:
        """Metrics of the validation split."""
        self.run.log_metrics(values, step)
        shown = "  ".join(f"{n} {values[f'val_{n}']:.3f}" for n in self.shown if f"val_{n}" in values)
        self.bar.console.print(f"step {step}/{steps}  validation: {shown}", highlight=False)
        sys.stdout.flush()

    def _remaining(self, step: int, steps: int) -> str:
        assert self.first_step is not None
        done = step - self.first_step
        if not done or step == steps:
            return ""
        left_s = (time.monotonic() - self.began_s) / (done + 1) * (steps - step)
        return f"  {left_s / 60:.0f} min left" if left_s > 90 else f"  {left_s:.0f} s left"
