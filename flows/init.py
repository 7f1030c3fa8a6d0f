"""The operation `init`: start from a documented params file of recipes/."""

from pathlib import Path

from flows import history
from flows.project import UsageError
from stages.params import document
from stages.params.edit import write_atomically

RECIPES = Path("recipes")


def names() -> list[str]:
    """The recipes there are."""
    return sorted(file.stem for file in RECIPES.glob("*.yaml"))


def init(recipe: str, force: bool) -> str:
    """Make a recipe the repository's params.yaml and commit it; UsageError when that would lose uncommitted changes."""
    file = RECIPES / f"{recipe}.yaml"
    if recipe not in names():
        raise UsageError(f"no recipe {recipe!r}; there are: {', '.join(names())}")
    target = document.PARAMS_FILE
    changed = target.exists() and history.git("status", "--porcelain", "--", str(target))
    if changed and not force:
        raise UsageError(f"{target} has changes that are not committed: commit them, or add --force to give them up")
    document.load(file)
    write_atomically(target, file.read_bytes())
    history.commit_only([target], f"init {recipe}")
    return recipe
