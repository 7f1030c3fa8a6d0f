"""No secret is in git: what looks like one in a tracked file is named."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PATTERNS = {
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "an AWS key": r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    "a GitHub token": r"\bgh[pousr]_[A-Za-z0-9]{36,}\b",
    "a Slack token or webhook": r"\bxox[abprs]-[A-Za-z0-9-]{10,}|hooks\.slack\.com/services/T[A-Z0-9]{8,}",
    "a Google key": r"\bAIza[A-Za-z0-9_-]{35}\b",
    "a Prefect key": r"\bpn[ub]_[A-Za-z0-9]{20,}\b",
    "a JSON web token": r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.",
    "a password in an address": r"[a-z][a-z0-9+]*://[^\s/:@\"'{}<>$]+:[^\s/:@\"'{}<>$]+@[A-Za-z0-9.-]+",
}
MADE_UP = ("ada:secret@host",)  # in tests and documentation
# Each pattern must find what it is for: built here from parts, so that this file is clean.
EXAMPLES = {
    "a private key": "-----BEGIN RSA " + "PRIVATE KEY-----",
    "an AWS key": "AKIA" + "IOSFODNN7EXAMPLE",
    "a GitHub token": "ghp_" + "a1" * 18,
    "a Slack token or webhook": "xoxb-" + "1234567890-abc",
    "a Google key": "AIza" + "b" * 35,
    "a Prefect key": "pnu_" + "c" * 36,
    "a JSON web token": "eyJ" + "hbGciOiJIUzI1NiJ9" + ".eyJ" + "zdWIiOiIxMjM0In0" + ".x",
    "a password in an address": "postgresql://ada" + ":pass@db.example.org",
}


def found(text: str) -> list[str]:
    """What in a text looks like a secret."""
    return [
        f"{what}: {match[0][:12]}..."
        for what, pattern in PATTERNS.items()
        for match in re.finditer(pattern, text)
        if not any(known in match[0] for known in MADE_UP)
    ]


@pytest.mark.parametrize("what", PATTERNS)
def test_each_kind_is_found(what: str) -> None:
    assert [line for line in found(f"x = '{EXAMPLES[what]}'") if line.startswith(what)]


def test_no_tracked_file_holds_one() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("needs the git checkout, to know which files are tracked")
    told = []
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            told += [f"{name}: {line}" for line in found((ROOT / name).read_text(encoding="utf8", errors="replace"))]
    assert told == []
