"""Changes to params.yaml that keep its comments and order."""

import difflib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.params.document import PARAMS_FILE, check
from stages.params.files import write_atomically as write_atomically


def set_values(assignments: Mapping[str, str], path: Path = PARAMS_FILE) -> list[str]:
    """Set `tasks.cells.training.steps` and the like to YAML values; returns the paths that changed.

    A key that is not in the file yet is added when the schema knows it; ValueError otherwise, file untouched.
    """
    yaml, document = _open(path)
    changed = _assign(document, assignments)
    if changed:
        _write(yaml, document, path)
    return changed


def difference(assignments: Mapping[str, str], path: Path = PARAMS_FILE) -> str:
    """What set_values would change, as a unified diff that `git apply` takes; '' for nothing. The file stays."""
    yaml, document = _open(path)
    if not _assign(document, assignments):
        return ""
    before, after = path.read_text(encoding="utf8"), _checked(yaml, document, path)
    lines = difflib.unified_diff(before.splitlines(True), after.splitlines(True), f"a/{path}", f"b/{path}")
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def _assign(document: Any, assignments: Mapping[str, str]) -> list[str]:
    changed = []
    for dotted, text in assignments.items():
        *parents, key = dotted.split(".")
        section = _section(document, parents, dotted)
        value = _value(text, dotted)
        if key not in section or section[key] != value:
            section[key] = value
            changed.append(dotted)
    return changed


def _section(document: Any, parents: Sequence[str], dotted: str) -> Any:
    """The mapping that a dotted path leads to, made where there is none yet."""
    section = document
    for i, parent in enumerate(parents, start=1):
        if section.get(parent) is None:
            section[parent] = {}
        section = section[parent]
        if not isinstance(section, dict):
            raise ValueError(f"{dotted}: {'.'.join(parents[:i])} holds a value, no keys")
    return section


def _value(text: str, dotted: str) -> Any:
    try:
        return YAML().load(text)  # which keeps a list or a mapping in a line that was given in one
    except YAMLError:
        raise ValueError(f"{dotted}: {text!r} is no YAML value; quote it if it is a text") from None


def add_entries(entries: Mapping[str, Mapping[str, Any]], path: Path = PARAMS_FILE) -> list[str]:
    """Add `{"datasets": {name: entry}, ...}` where the names are missing; returns what was added, as dotted paths."""
    yaml, document = _open(path)
    added = []
    for group, named in entries.items():
        if document.get(group) is None:
            document[group] = {}
        for name, entry in named.items():
            if name not in document[group]:
                document[group][name] = entry
                added.append(f"{group}.{name}")
    if added:
        _write(yaml, document, path)
    return added


def _open(path: Path) -> tuple[YAML, Any]:
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 100_000  # a line that grows is not broken in the middle of a value
    return yaml, yaml.load(path.read_text(encoding="utf8"))


def _write(yaml: YAML, document: Any, path: Path) -> None:
    write_atomically(path, _checked(yaml, document, path).encode())


def _checked(yaml: YAML, document: Any, path: Path) -> str:
    """The text of a changed document; ValueError when the schema refuses it."""
    text = io.StringIO()
    yaml.dump(document, text)
    check(YAML(typ="safe").load(text.getvalue()), str(path))
    return text.getvalue()
