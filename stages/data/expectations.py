"""Expectations on a dataset, run by Great Expectations: the only door to it."""

import math
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read at import

import great_expectations as gx
import great_expectations.expectations as gxe
import pandas as pd
from great_expectations.core import ExpectationSuiteValidationResult, ExpectationValidationResult, RunIdentifier
from great_expectations.data_context.data_context.abstract_data_context import AbstractDataContext
from great_expectations.data_context.types.base import ProgressBarsConfig
from great_expectations.data_context.types.resource_identifiers import ValidationResultIdentifier
from great_expectations.expectations.expectation import Expectation
from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

from stages.data.checks import Check
from stages.data.suites import FIRST, NOTHING_THERE, ROW_COUNT, SHOWN, Rule

NUM_SHOWN = 20  # offending rows that a check lists


def check(
    tables: Mapping[str, pd.DataFrame], rules: Sequence[Rule], name: str, pages: Path | None = None
) -> list[Check]:
    """What the tables of dataset `name` are found to be: one Check a rule, in the order of the rules.

    tables: from facts.tables; rules: from suites.rules_for. pages: a folder for Great Expectations' HTML (Data Docs).
    RuntimeError when an expectation could not be evaluated.
    """
    context = _context(pages)
    run = RunIdentifier(run_name=name, run_time=datetime.now(UTC))
    checks = {rule: _skipped(rule) for rule in rules}
    for table in dict.fromkeys(rule.table for rule in rules):
        testable = [rule for rule in rules if rule.table == table and _is_testable(rule, tables[table])]
        if testable:
            checks |= _checked(context, f"{name}-{table}", tables[table], testable, run)
    if pages is not None:
        context.build_data_docs()
    return list(checks.values())


def _context(pages: Path | None) -> AbstractDataContext:
    """A Great Expectations project in memory, without progress bars, whose HTML goes to `pages`."""
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    for default in context.get_site_names():
        context.delete_data_docs_site(default)
    if pages is not None:
        backend = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(pages.absolute())}
        site: Any = {"class_name": "SiteBuilder", "show_how_to_buttons": False, "store_backend": backend}
        context.add_data_docs_site("visionline", site)
    return context


def _is_testable(rule: Rule, frame: pd.DataFrame) -> bool:
    return len(frame) > 0 or rule.condition.kind == ROW_COUNT


def _expectation(rule: Rule) -> Expectation:
    words = {"severity": rule.severity, "description": rule.words, "notes": rule.remedy, "meta": {"check": rule.name}}
    return getattr(gxe, rule.condition.kind)(**rule.condition.arguments, **words)


def _checked(
    context: AbstractDataContext, name: str, frame: pd.DataFrame, rules: Sequence[Rule], run: RunIdentifier
) -> dict[Rule, Check]:
    """Run the rules on their table, as one suite; the result stays in the context, for the pages."""
    asset = context.data_sources.add_pandas(name).add_dataframe_asset("index")
    batch = asset.add_batch_definition_whole_dataframe("all")
    suite = context.suites.add(gx.ExpectationSuite(name=name, expectations=[_expectation(rule) for rule in rules]))
    definition = context.validation_definitions.add(gx.ValidationDefinition(name=name, data=batch, suite=suite))
    # Great Expectations would look up its index columns for every offending row, 0.1 ms each: row numbers are free.
    wanted = {"result_format": "SUMMARY", "partial_unexpected_count": NUM_SHOWN}
    validation = definition.run(batch_parameters={"dataframe": frame}, result_format=wanted, run_id=run)
    found = {_config(result).meta["check"]: result for result in validation.results}
    for result in validation.results:
        _raise_if_broken(result)
        _name_rows(result, frame, SHOWN[rules[0].table])
    _keep(context, name, validation)
    return {rule: _told(rule, found[rule.name], frame) for rule in rules}


def _config(result: ExpectationValidationResult) -> ExpectationConfiguration:
    assert result.expectation_config is not None  # only results that are compared by hand have none
    return result.expectation_config


def _raise_if_broken(result: ExpectationValidationResult) -> None:
    """RuntimeError when an expectation could not be evaluated, which is not the same as failing."""
    info = result.exception_info or {}
    for part in [info] if "raised_exception" in info else info.values():
        if part["raised_exception"]:
            name = _config(result).meta["check"]
            raise RuntimeError(f"expectation {name!r} could not be evaluated: {part['exception_message']}")


def _name_rows(result: ExpectationValidationResult, frame: pd.DataFrame, shown: Sequence[str]) -> None:
    """Put columns that a person knows in place of the row numbers of what was unexpected."""
    numbers = result.result.get("partial_unexpected_index_list")
    if numbers:
        column = _config(result).kwargs["column"]
        names = [name for name in shown if name != column]
        rows = [
            {name: _plain(row[name]) for name in (column, *names)} for row in frame.iloc[numbers].to_dict("records")
        ]
        result.result |= {
            "partial_unexpected_index_list": rows,
            "unexpected_index_list": rows,
            "unexpected_index_column_names": names,
        }


def _keep(context: AbstractDataContext, name: str, validation: ExpectationSuiteValidationResult) -> None:
    """Store a result again, for the pages, after its rows got names."""
    store = context.validation_results_store
    for key in store.list_keys():
        if isinstance(key, ValidationResultIdentifier) and key.expectation_suite_identifier.name == name:
            store.set(key, validation)


def _told(rule: Rule, result: ExpectationValidationResult, frame: pd.DataFrame) -> Check:
    found = result.result
    rows = found.get("partial_unexpected_index_list") or []
    num, total = found.get("unexpected_count", 0), found.get("element_count", len(frame))
    column = _config(result).kwargs.get("column")
    observed = f"{num} of {total}" if "unexpected_count" in found else _observed(found)
    fault = "" if result.success else rule.fault.format(num=num, total=total, observed=observed)
    if fault and rows:
        fault += ", first: " + FIRST[rule.table].format_map({**rows[0], "column": column, "value": rows[0][column]})
    return Check(
        name=rule.name,
        severity=rule.severity,
        status="passed" if result.success else "failed",
        expectation=rule.words,
        observed=observed,
        num_checked=total,
        num_offending=num,
        offending=tuple(rows),
        fault=fault,
        remedy=rule.remedy,
    )


def _skipped(rule: Rule) -> Check:
    return Check(rule.name, rule.severity, "skipped", rule.words, NOTHING_THERE[rule.table], 0, 0, (), "", rule.remedy)


def _observed(found: dict[str, Any]) -> str:
    """What an expectation on a whole table saw."""
    if found.get("observed_value") is not None:
        return str(found["observed_value"])
    missing = found.get("partial_missing_list")
    return f"missing: {', '.join(map(str, missing))}" if missing else "as expected"


def _plain(value: Any) -> Any:
    """A cell of a table for JSON: whole numbers without a point, null for what is missing or not finite."""
    value = value.item() if hasattr(value, "item") else value
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() else value
