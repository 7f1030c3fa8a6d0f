"""What came out of one expectation, and how it is told to a person."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["critical", "warning"]
Status = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True)
class Check:
    """One expectation and what was found; offending holds the first rows that break it, num_offending counts all."""

    name: str
    severity: Severity
    status: Status
    expectation: str  # in words
    observed: str
    num_checked: int
    num_offending: int
    offending: tuple[dict[str, Any], ...]
    fault: str  # what is wrong and where first, in one line; empty unless it failed
    remedy: str

    @property
    def stops(self) -> bool:
        """Whether nothing may train on these data."""
        return self.status == "failed" and self.severity == "critical"


def stopping_lines(checks: Sequence[Check]) -> list[str]:
    """One line for each critical expectation that failed: what, where first, what to do."""
    return [f"{check.fault}; {check.remedy}" for check in checks if check.stops]


def counted(checks: Sequence[Check]) -> dict[str, int]:
    """Numbers of expectations that passed, failed critically, only warn and could not be tested."""
    return {
        "passed": sum(check.status == "passed" for check in checks),
        "critical": sum(check.stops for check in checks),
        "warnings": sum(check.status == "failed" and not check.stops for check in checks),
        "skipped": sum(check.status == "skipped" for check in checks),
    }
