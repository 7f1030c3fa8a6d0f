"""Every key of the schema: closed sections, bounded numbers, and a unit or a reason where the name gives none."""

import importlib
from typing import Annotated, get_args

import pytest
from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, TypeAdapter

from stages.params.document import Params, task_kinds
from stages.params.training import TrainingParams


def sections(model, seen=None):
    """A section and all that lie in it."""
    seen = {} if seen is None else seen
    name = f"{model.__module__}.{model.__name__}"
    if name in seen:
        return seen
    seen[name] = model
    for field in model.model_fields.values():
        for part in parts(field.annotation):
            if isinstance(part, type) and issubclass(part, BaseModel):
                sections(part, seen)
    return seen


def parts(annotation):
    yield annotation
    for argument in get_args(annotation):
        yield from parts(argument)


ALL = sections(Params) | {
    name: section
    for kind in task_kinds()
    for name, section in sections(importlib.import_module(f"stages.params.{kind}").Params).items()
}
FIELDS = [(name, key, field) for name, model in ALL.items() for key, field in model.model_fields.items()]


def is_number(field):
    return field.annotation in (int, float, int | None, float | None)


def test_sections_of_every_kind_are_found():
    assert len(task_kinds()) >= 2 and len(ALL) > 10 and len(FIELDS) > 60


@pytest.mark.parametrize("model", ALL.values(), ids=ALL)
def test_sections_are_frozen_and_closed(model):
    assert model.model_config["frozen"] is True and model.model_config["extra"] == "forbid"
    assert model.__doc__ and model.__doc__.strip().endswith(".")


def test_every_number_has_a_range():
    bounds = (Ge, Gt, Le, Lt)
    unbounded = [
        f"{name}.{key}" for name, key, field in FIELDS
        if is_number(field) and not any(isinstance(m, bounds) for m in field.metadata)
    ]  # fmt: skip
    assert not unbounded


@pytest.mark.parametrize("model", ALL.values(), ids=ALL)
def test_every_default_lies_in_its_range(model):
    for field in model.model_fields.values():
        if not field.is_required() and field.default_factory is None and field.default is not None:
            kind = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
            TypeAdapter(kind).validate_python(field.default)


@pytest.mark.parametrize("key", ["freeze", "freeze_norm"])
def test_keys_of_older_files_are_told_in_todays_words(key):
    with pytest.raises(ValueError, match=f"{key} is no key any more: write `adaptation: "):
        TrainingParams.model_validate({"steps": 1, key: "none"})
