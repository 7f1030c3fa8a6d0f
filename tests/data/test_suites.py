"""Rules that a report can be read by: unique names, words, tables that exist, and errors."""

import pytest

from stages.data import facts, suites
from stages.params.dataset import ValidationParams

TASKS = sorted(suites.SUITES)


@pytest.mark.parametrize("task", TASKS)
def test_rules_have_names_of_their_own_and_tables_that_are_derived(task, index_table):
    rules = suites.rules_for(task, "pets", ["cat"], ValidationParams())
    tables = facts.tables(index_table([]), task, ["cat"], ValidationParams())
    assert len({rule.name for rule in rules}) == len(rules)
    assert {rule.table for rule in rules} <= set(tables)
    assert all(rule.words and rule.fault and rule.remedy for rule in rules)


@pytest.mark.parametrize("task", TASKS)
def test_columns_that_name_a_row_exist(task, index_table, sample_rows):
    rows = sample_rows(task, 60)
    for row in rows[:20]:
        row["batch"] = 2
    tables = facts.tables(index_table(rows), task, ["cat"], ValidationParams())
    for name, columns in suites.SHOWN.items():
        assert not len(tables[name]) or set(columns) <= set(tables[name])
        assert suites.FIRST[name] and suites.NOTHING_THERE[name]


def test_remedies_name_the_parameter_by_its_path():
    rules = suites.rules_for("detection", "pets", ["cat"], ValidationParams())
    (inside,) = (rule for rule in rules if rule.name == "inside the image")
    assert "datasets.pets.validation.box_tolerance_px" in inside.remedy


def test_another_task_is_told_which_there_are():
    with pytest.raises(ValueError, match="'panoptic'; there are: classification, detection, segmentation"):
        suites.rules_for("panoptic", "pets", [], ValidationParams())
