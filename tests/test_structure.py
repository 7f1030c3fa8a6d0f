"""The architecture, as rules that a change can break: arrows, doors, deps of dvc.yaml, sizes."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages.params.document import task_kinds

ROOT = Path(__file__).parents[1]
VERBS = sorted(f.stem for f in (ROOT / "stages").glob("[a-z]*.py"))
STAGES = ["validate", "pretrain", "finetune", "evaluate", "register"]

# Who may import whom: a package imports from those of its own rank or below.
# Models may use losses: a detector's forward pass gives its losses, because some sample in the middle of it.
RANKS = {"params": 0, "losses": 1, "models": 2, "metrics": 2, "pictures": 2}
RANKS |= dict.fromkeys(("data", "tasks", "objectives", "training", "tracking", "tuning"), 3)
DOORS = {
    "captum": ("stages/tasks/saliency.py",),
    "optuna": ("stages/tuning/",),
    "prefect": ("flows/",),
    "dvc": ("flows/", "stages/data/pointers.py", "stages/data/objects.py"),
    "mlflow": ("stages/tracking/", "stages/register.py"),
    "great_expectations": ("stages/data/",),
    # run_lengths.py: what the index, the targets and the answers do with masks, which metrics and readers do not.
    "pycocotools": ("stages/metrics/", "stages/data/formats/", "stages/data/run_lengths.py"),
}


def sources() -> list[Path]:
    return sorted(f for top in ("flows", "stages") for f in (ROOT / top).rglob("*.py"))


def name_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, Path]:
    return {name_of(file): file for file in sources()}


@cache
def imports(file: Path, with_typing: bool = False) -> frozenset[str]:
    """Every name a file imports, also within functions; not what only type checkers see."""
    return frozenset(_imports(ast.parse(file.read_text(encoding="utf8")), with_typing))


def _imports(node: ast.AST, with_typing: bool) -> Iterator[str]:
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test) and not with_typing:
        return
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    if isinstance(node, ast.ImportFrom) and node.module:
        names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (n if n in modules() else node.module for n in names)
    for child in ast.iter_child_nodes(node):
        yield from _imports(child, with_typing)


def own_imports(module: str) -> set[str]:
    return {name for name in imports(modules()[module]) if name in modules()}


def package(module: str) -> str:
    return module.split(".")[1] if module.count(".") > 1 else ""


def test_imports_point_downward() -> None:
    wrong = []
    for module in modules():
        for target in own_imports(module):
            if module.startswith("flows"):
                allowed = target.startswith(("flows", "stages.params", "stages.tracking"))
            elif module.split(".")[-1] in VERBS and module.count(".") == 1:
                allowed = target.startswith("stages.") and package(target) != ""
            else:
                allowed = target.startswith("stages") and RANKS.get(package(target), 9) <= RANKS.get(package(module), 9)
            if not allowed:
                wrong.append(f"{module} -> {target}")
    assert not wrong


def test_models_metrics_and_pictures_stay_apart() -> None:
    wrong = [
        f"{m} -> {t}"
        for m in modules()
        for t in own_imports(m)
        if RANKS.get(package(m)) == RANKS.get(package(t)) == 2 and package(m) != package(t)
    ]
    assert not wrong


def test_training_knows_no_task() -> None:
    wrong = [(m, t) for m in modules() for t in own_imports(m) if package(m) == "training" and package(t) == "tasks"]
    assert not wrong


def test_no_import_cycles() -> None:
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path[path.index(module) :], module))
        if module not in done:
            for target in sorted(own_imports(module)):
                visit(target, (*path, module))
            done.add(module)

    for module in modules():
        visit(module, ())


@pytest.mark.parametrize("vendor", DOORS)
def test_one_door_per_vendor(vendor: str) -> None:
    users = [
        file.relative_to(ROOT).as_posix()
        for file in sources()
        if any(name == vendor or name.startswith(f"{vendor}.") for name in imports(file, with_typing=True))
    ]
    assert users, f"nobody imports {vendor}: the rule is out of date"
    assert not [user for user in users if not user.startswith(DOORS[vendor])]


def closure(module: str, key_modules: set[str]) -> set[str]:
    """All that a stage imports, its kind's modules included; tracking only watches and is left out."""
    found, todo = set(), {module, *key_modules}
    while todo:
        current = todo.pop()
        if current not in found and package(current) != "tracking":
            found.add(current)
            todo |= own_imports(current)
    return found


# The modules that an entry's kind or objective names, which no import statement shows.
NAMED = {
    "pretrain": [{"stages.objectives.supervised"}],
    "finetune": [{f"stages.tasks.{k}", f"stages.params.{k}"} for k in task_kinds()],
}
NAMED["evaluate"] = NAMED["control"] = NAMED["finetune"]


def deps_of(stage: str, named: set[str]) -> set[str]:
    entry = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"][stage]["do"]
    kind = next((name.rpartition(".")[2] for name in named), "")
    return {dep.replace("${item.kind}", kind).replace("${item.objective}", kind) for dep in entry["deps"]}


@pytest.mark.parametrize("stage", ["validate", "pretrain", "finetune", "control", "evaluate"])
def test_deps_cover_imports(stage: str) -> None:
    verb = "finetune" if stage == "control" else stage
    for named in NAMED.get(stage, [set()]):
        deps = deps_of(stage, named)
        files = {modules()[m].relative_to(ROOT).as_posix() for m in closure(f"stages.{verb}", named)}
        files = {f for f in files if (ROOT / f).stat().st_size > 0}  # empty __init__.py
        if stage != "evaluate":  # only evaluate draws; a task's other methods do not
            files = {f for f in files if not f.startswith("stages/pictures/")}
        missing = {f for f in files if not any(f == dep or f.startswith(f"{dep}/") for dep in deps)}
        assert not missing, f"dvc.yaml: {stage} imports but does not depend on {sorted(missing)}"
        existing = {dep for dep in deps if dep.startswith("stages/")}
        assert not {dep for dep in existing if not (ROOT / dep).exists()}


def test_a_task_does_not_concern_pretraining() -> None:
    assert not [dep for dep in deps_of("pretrain", {"stages.objectives.supervised"}) if "tasks" in dep]


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import stages.params.document, stages.params.detection, stages.params.classification, stages.params.edit",
        "import stages.tracking.registry, stages.tracking.runs, stages.tracking.findings",
        "import flows.__main__, flows.run, flows.graph, flows.history, flows.status, flows.ingest, flows.tune",
        "import stages.data.dataset, stages.data.formats, stages.data.images, stages.ingest",
        "import stages.pretrain, stages.finetune, stages.evaluate, stages.register, stages.tune",
    ],
)
def test_light_modules_load_neither_torch_nor_great_expectations(statement: str) -> None:
    heavy = {"torch", "great_expectations", "mlflow", "optuna", "prefect", "matplotlib"}
    assert not loaded_by(statement) & heavy


def test_a_trace_asks_mlflow_before_it_loads_what_reads_the_data() -> None:
    assert not loaded_by("import stages.trace") & {"numpy", "pyarrow", "dvc", "mlflow"}


def functions() -> Iterator[tuple[str, int]]:
    for file in sources():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno
                yield f"{file.relative_to(ROOT)}:{node.lineno} {node.name}", node.end_lineno - node.lineno + 1


def test_sizes() -> None:
    assert not [str(file) for file in sources() if file.read_text(encoding="utf8").count("\n") > 400]
    sizes = sorted(lines for _, lines in functions())
    assert not [place for place, lines in functions() if lines > 80]
    assert sizes[len(sizes) // 2] <= 10
    assert sizes[int(0.9 * len(sizes))] <= 35


def test_names_say_something() -> None:
    empty = {"utils", "helpers", "common", "base", "manager", "core", "misc", "util", "helper"}
    assert not [str(file) for file in sources() if file.stem in empty]
