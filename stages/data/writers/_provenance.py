"""Licence and origin beside an export whose format has no place for them."""

from pathlib import Path

from stages.data.dataset import Description


def write_licence(folder: Path, description: Description) -> None:
    """LICENCE.txt, where there is something to say."""
    lines = [f"Licence: {description.licence}"] if description.licence else []
    lines += [f"Origin: {description.origin}"] if description.origin else []
    if lines:
        (folder / "LICENCE.txt").write_text("\n".join(lines) + "\n", encoding="utf8")
