"""Stage `validate NAME`: check a dataset against its expectations before anything trains on it."""

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from stages.data import data_docs, facts, suites
from stages.data.checks import Check, counted, stopping_lines
from stages.data.dataset import Dataset
from stages.data.shards import replace_file
from stages.params import document
from stages.tracking.process import LOCAL_STATE, locked, stage_main
from stages.tracking.runs import stage_run

REPORTS = Path("reports/validate")
FAILED = LOCAL_STATE / "failed"
SITE = LOCAL_STATE / "data-docs"
TABLE_COLUMNS = 120  # of text; the stage's output goes to a log as often as to a terminal
STYLES = {"passed": "green", "failed": "bold red", "skipped": "dim", "warning": "yellow"}


def validate(key: str) -> None:
    """Write reports/validate/KEY.json, KEY.passed unless something critical failed, and the pages in SITE/KEY.

    ValueError with a line for each critical expectation that failed; the report is then in FAILED, too, because DVC
    deletes the outputs of a failed stage before its next run.
    """
    params = document.dataset_params(key).validation
    dataset = Dataset(Path("data") / key)
    rules = suites.rules_for(dataset.task, key, dataset.classes, params)
    with stage_run("validate", key) as run:
        run.log_params(params.model_dump(mode="json"))
        run.log_dataset(key, "validation")
        tables = facts.tables(dataset.table(columns=facts.COLUMNS), dataset.task, dataset.classes, params)
        checks = check(key, tables, rules)
        print_checks(key, checks)
        stopping = stopping_lines(checks)
        write(key, report(dataset, tables, checks), passed=not stopping)
        run.log_metrics(counted(checks))
        run.log_artifact(REPORTS / f"{key}.json")
        run.log_artifact(SITE / key / "validations", "data-docs")
        if stopping:
            raise ValueError("\n".join(stopping))


def check(key: str, tables: Mapping[str, pd.DataFrame], rules: Sequence[suites.Rule]) -> list[Check]:
    """Check the tables and publish the pages that tell of it."""
    from stages.data import expectations  # Great Expectations takes seconds to import: after all that can be wrong

    building = SITE / f".{key}"
    shutil.rmtree(building, ignore_errors=True)  # of a process that was killed
    checks = expectations.check(tables, rules, key, building)
    with locked("data-docs"):
        data_docs.publish(building, SITE, key, counted(checks))
    return checks


def report(dataset: Dataset, tables: Mapping[str, pd.DataFrame], checks: Sequence[Check]) -> dict[str, Any]:
    """What reports/validate/KEY.json holds: the same for the same data and parameters."""
    return {
        "dataset": dataset.name,
        "task": dataset.task,
        "passed": not stopping_lines(checks),
        "counts": counted(checks),
        "samples": dataset.splits,
        **_counts(dataset.task, tables),
        "drift": tables["drift"].to_dict("records"),
        "checks": [asdict(check) for check in checks],
    }


def _counts(task: str, tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """What each class has in each split: samples or boxes; of masks, images and pixels."""
    named = {"classification": {"labels": "classes"}, "segmentation": {"images": "classes", "pixels": "pixels"}}
    return {
        name: tables[table].drop(columns="rarity").set_index("class").to_dict("index")
        for name, table in named.get(task, {"boxes": "classes"}).items()
    }


def write(key: str, content: Mapping[str, Any], passed: bool) -> None:
    """Write the report, and KEY.passed, which later stages depend on: it leaves out the details, so they stay fresh."""
    data = (json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode()
    replace_file(REPORTS / f"{key}.json", data)
    failed, mark = FAILED / f"validate-{key}.json", REPORTS / f"{key}.passed"
    if passed:
        replace_file(mark, b"passed\n")
        failed.unlink(missing_ok=True)
    else:
        replace_file(failed, data)
        mark.unlink(missing_ok=True)


def print_checks(key: str, checks: Sequence[Check]) -> None:
    """Print a line for each expectation, and the faults of those that only warn."""
    table = Table("", "expectation", "observed", title=f"{key}: expectations", title_justify="left", box=None)
    for check in checks:
        word = "warning" if check.status == "failed" and not check.stops else check.status
        table.add_row(word, check.expectation, check.observed, style=STYLES[word])
    console = Console(width=TABLE_COLUMNS, highlight=False, markup=False)
    console.print(table)
    for check in checks:
        if check.status == "failed" and not check.stops:
            console.print(f"warning: {check.fault}; {check.remedy}", soft_wrap=True)


if __name__ == "__main__":
    stage_main({"validate": validate}, sys.argv[1:])
