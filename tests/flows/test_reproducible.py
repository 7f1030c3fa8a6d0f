"""The same commit and data give the same bytes, in another folder and with other stages beside."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.long]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def test_another_clone_makes_the_same_models_and_reports(ran: Any, with_data: Any, tmp_path: Path) -> None:
    other = with_data.copy(tmp_path / "elsewhere")
    shutil.copytree(ran.clone.root / "reports/validate", other.root / "reports/validate")

    def stages(*commands: tuple[str, ...]) -> None:
        for name, *arguments in commands:
            done = other.stage(name, *arguments)
            assert done.returncode == 0, done.stderr

    with ThreadPoolExecutor(2) as pool:
        control = pool.submit(stages, ("finetune", "patterns", "--control"))
        stages(("pretrain", "shapes-resnet18"))
        scenes = pool.submit(
            stages, ("finetune", "scenes", "--control"), ("finetune", "scenes"), ("evaluate", "scenes")
        )
        stages(("finetune", "patterns"))
        control.result()
        stages(("evaluate", "patterns"))
        scenes.result()

    for folder in ("models", "reports/evaluate"):
        made, expected = contents(other.root / folder), contents(ran.clone.root / folder)
        expected = {name: data for name, data in expected.items() if ".gitignore" not in name}
        assert sorted(made) == sorted(expected)
        assert [name for name, data in made.items() if data != expected[name]] == []
