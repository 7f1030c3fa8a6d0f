"""What is known of the registry leaves nothing to do, or somebody has to look."""

from dataclasses import replace
from typing import Any

import pytest

from stages.tracking import registry, settled
from stages.tracking.records import ModelVersion, Records

CHAMPION = {"alias": "champion", "from": "2026-05-01T12:00:00+00:00", "until": None}
FIRST = ModelVersion(
    name="cells", number="1", created="", status="READY", run_id="", model_hash="m1", report_hash="r1", dataset="",
    dataset_hash="", commit="", tags={registry.CARD: "card"}, aliases=("challenger", "champion"), held=(CHAMPION,),
)  # fmt: skip
OLD = replace(FIRST, aliases=("champion",))
NEW = replace(FIRST, number="2", model_hash="m2", aliases=("challenger",), held=())
JUDGED = replace(NEW, tags={**NEW.tags, registry.DECISION: "run"})


@pytest.mark.parametrize(
    ("contents", "is_automatic", "versions", "expected"),
    [
        ("m1", True, [FIRST], True),
        ("m2", True, [FIRST], False),  # not registered
        ("m1", True, [], False),
        ("m1", True, [replace(FIRST, tags={})], False),  # no card yet
        ("m1", False, [OLD, NEW], False),  # the model went back: it has to be challenger again
        ("m2", False, [OLD, NEW], True),  # a person decides
        ("m2", True, [OLD, NEW], False),  # the gate has to
        ("m2", True, [OLD, JUDGED], True),
        ("m2", True, [replace(OLD, held=(CHAMPION, CHAMPION)), JUDGED], False),
        ("m2", True, [OLD, replace(JUDGED, held=(CHAMPION,))], False),  # the journal and the alias differ
        ("m1", True, [replace(FIRST, held=())], False),
    ],
)
def test_settled(
    monkeypatch: pytest.MonkeyPatch, contents: str, is_automatic: bool, versions: list[Any], expected: bool
) -> None:
    monkeypatch.setattr(registry, "contents", lambda name: (contents, "r1"))
    assert settled.is_settled(Records((), tuple(versions)), "cells", is_automatic) is expected
