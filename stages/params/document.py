"""params.yaml as a whole, and the entry of one stage."""

import importlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.params.backbone import BackboneParams, modules_of
from stages.params.dataset import DatasetParams
from stages.params.model import ModelParams
from stages.params.retraining import RetrainingParams
from stages.params.section import Name, Section
from stages.params.task import TaskParams
from stages.params.tuning import TuningParams

PARAMS_FILE = Path("params.yaml")


def task_kinds() -> list[str]:
    """The kinds of task: the names that are a module both here and in stages/tasks, save the contract's own."""
    return sorted({*modules_of("tasks")} & {*modules_of("params")} - {"task"})


def _task(value: Any, handler: ValidatorFunctionWrapHandler) -> TaskParams:
    """Check a task's entry by the module that its kind names."""
    if isinstance(value, TaskParams) or not isinstance(value, Mapping):
        return handler(value)
    return section_of(value.get("kind")).model_validate(value)


def module_of(kind: Any) -> Any:
    """What a kind says of itself: Params, STARTER and ANSWERS; ValueError with the kinds there are."""
    if kind not in task_kinds():
        raise ValueError(f"unknown kind {kind!r}; there are: {', '.join(task_kinds())}")
    return importlib.import_module(f"stages.params.{kind}")


def section_of(kind: Any) -> type[TaskParams]:
    """The class of a task's entry; ValueError as in module_of."""
    section: type[TaskParams] = module_of(kind).Params
    return section


def starter(kind: str) -> dict[str, Any]:
    """What a kind asks for when somebody first trains a small dataset with it on a laptop."""
    keys: dict[str, Any] = module_of(kind).STARTER
    return keys


Task = Annotated[TaskParams, WrapValidator(_task)]


class Params(Section):
    """The whole of params.yaml; check() also looks at the references between its entries."""

    seed: int = Field(0, ge=0, lt=2**31)
    cpu_threads: int = Field(1, ge=1, le=256, description="threads of one training; part of the result's bits")
    datasets: dict[Name, DatasetParams]
    backbones: dict[Name, BackboneParams]
    tasks: dict[Name, Task]
    models: dict[Name, ModelParams] = Field(default_factory=dict, description="what becomes of a task's versions")
    retraining: RetrainingParams = Field(default_factory=RetrainingParams, description="when, without a person")
    tuning: dict[Name, TuningParams] = Field(default_factory=dict, description="what `visionline tune TASK` tries")


# Group, key of its entries, group that holds what the key names.
REFERENCES = (
    ("backbones", "dataset", "datasets"),
    ("tasks", "dataset", "datasets"),
    ("tasks", "backbone", "backbones"),
)


def read(path: Path = PARAMS_FILE) -> dict[str, Any]:
    """The plain content of a params file; ValueError with the line when it is no YAML mapping."""
    try:
        content = YAML(typ="safe").load(path.read_text(encoding="utf8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is not here: visionline init RECIPE makes one") from None
    except YAMLError as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: must hold keys (seed, cpu_threads, datasets, backbones, tasks), is {content!r}")
    return content


def load(path: Path = PARAMS_FILE) -> Params:
    """The checked params file; ValueError lists all errors at once, one a line, with their paths."""
    return check(read(path), str(path))


def check(content: Mapping[str, Any], where: str = str(PARAMS_FILE)) -> Params:
    """The checked content of a params file; errors as in load."""
    wrong = "".join(f"\n{where}: {line}" for line in _wrong_names(content))
    try:
        params: Params = _validated(Params, content, where)
    except ValueError as error:
        raise ValueError(f"{error}{wrong}") from None
    wrong += "".join(f"\n{where}: {line}" for line in (*_wrong_pairs(params), *_wrong_tuning(params, content)))
    if wrong:
        raise ValueError(wrong.removeprefix("\n"))
    return params


def _wrong_names(content: Mapping[str, Any]) -> list[str]:
    """References to what is not there and names that come twice, also where an entry is wrong in itself."""
    there = {group: value if isinstance(value, Mapping) else {} for group, value in content.items()}
    wrong = [
        f"{group}.{name}.{key}: no {target[:-1]} {entry[key]!r}; there are: {_listed(there.get(target, ()))}"
        for group, key, target in REFERENCES
        for name, entry in there.get(group, {}).items()
        if isinstance(entry, Mapping) and key in entry and entry[key] not in [*there.get(target, ())]
    ]
    wrong += [
        f"{group}.{name}: no task {name!r}; there are: {_listed(there.get('tasks', ()))}"
        for group in ("models", "tuning")
        for name in there.get(group, {})
        if name not in there.get("tasks", ())
    ]
    both = [name for name in there.get("tasks", ()) if name in there.get("backbones", ())]
    return wrong + [f"tasks.{name}: a backbone has this name too" for name in both]


def _wrong_pairs(params: Params) -> Iterator[str]:
    """Tasks that their backbone can't carry."""
    for name, task in params.tasks.items():
        if task.backbone in params.backbones:
            yield from (f"tasks.{name}.{line}" for line in task.misfits(params.backbones[task.backbone]))


def _wrong_tuning(params: Params, content: Mapping[str, Any]) -> Iterator[str]:
    """Keys and values of `tuning` that do not fit their task, each tried in its entry."""

    def errors(entry: Mapping[str, Any]) -> str | None:
        try:
            _validated(Task, entry, "")
        except ValueError as error:
            return "; ".join(line.removeprefix(": ") for line in str(error).splitlines())
        return None

    for name, tuning in params.tuning.items():
        if name in params.tasks:
            yield from (
                f"tuning.{name}.{line}"
                for line in tuning.problems(content["tasks"][name], section_of(params.tasks[name].kind), errors)
            )


def _listed(names: Iterable[Any]) -> str:
    return ", ".join(map(str, names)) or "none"


def dataset_params(name: str) -> DatasetParams:
    """The entry of one dataset in ./params.yaml."""
    return _validated(DatasetParams, _entry("datasets", name), f"{PARAMS_FILE}: datasets.{name}")


def backbone_params(name: str) -> BackboneParams:
    """The entry of one backbone in ./params.yaml."""
    return _validated(BackboneParams, _entry("backbones", name), f"{PARAMS_FILE}: backbones.{name}")


def task_params(name: str) -> TaskParams:
    """The entry of one task in ./params.yaml, of the class that its kind names."""
    return _validated(Task, _entry("tasks", name), f"{PARAMS_FILE}: tasks.{name}")


def task_section(content: Mapping[str, Any], where: str = "model.json") -> TaskParams:
    """A task's section that lies elsewhere, such as in a model's own folder."""
    return _validated(Task, content, where)


def model_params(name: str) -> ModelParams:
    """What ./params.yaml says of a task's registered versions; the defaults where it says nothing."""
    entry: ModelParams = _validated(ModelParams, (read().get("models") or {}).get(name, {}), f"models.{name}")
    return entry


def tuning_params(name: str) -> TuningParams:
    """What ./params.yaml says of a task's tuning; ValueError where it says nothing."""
    entries = read().get("tuning") or {}
    if name not in entries:
        raise ValueError(f"{PARAMS_FILE} has no ranges for {name}: add tuning.{name}")
    entry: TuningParams = _validated(TuningParams, entries[name], f"{PARAMS_FILE}: tuning.{name}")
    return entry


def seed() -> int:
    """The seed that all randomness of a run comes from."""
    return int(read().get("seed", 0))


def cpu_threads() -> int:
    """Threads of one training."""
    return int(read().get("cpu_threads", 1))


def _entry(group: str, name: str) -> Any:
    entries = read().get(group) or {}
    if name not in entries:
        raise ValueError(f"{PARAMS_FILE}: no {group[:-1]} {name!r}; there are: {_listed(entries)}")
    return entries[name]


def _validated(kind: Any, value: Any, where: str) -> Any:
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise ValueError("\n".join(f"{where}: {line}" for e in error.errors() for line in _lines(e))) from None


def _lines(error: Any) -> list[str]:
    """An error of pydantic's in words: where, what, and the value that stands there."""
    place = ".".join(str(part) for part in error["loc"] if not _is_union_branch(part))
    if error["type"] == "extra_forbidden":
        return [f"{place}: unknown key (mistyped?)"]
    if error["type"] == "missing":
        return [f"{place}: is missing"]
    if error["type"] == "value_error" and isinstance(error["input"], dict):
        return [
            f"{place}: {line}" if place else line for line in error["msg"].removeprefix("Value error, ").split("\n")
        ]
    what = f"{error['msg'].removeprefix('Value error, ')}, is {error['input']!r}"
    return [f"{place}: {what}" if place else what]


def _is_union_branch(part: Any) -> bool:
    """Whether a part of pydantic's location names its own machinery rather than a key of the file."""
    return isinstance(part, str) and (part.startswith(("literal[", "constrained-", "function-")) or part == "[key]")
