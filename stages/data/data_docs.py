"""The site of validation pages: one folder a dataset, and an index of them all."""

import html
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from stages.params.files import write_atomically

SUMMARY = "summary.json"


def publish(pages: Path, site: Path, name: str, counts: Mapping[str, int]) -> Path:
    """Move freshly built pages in place of the dataset's former ones and list all datasets; returns the index.

    counts: from checks.counted. Only one process at a time may publish to a site.
    """
    (pages / SUMMARY).write_text(json.dumps(dict(counts)), encoding="utf8")
    target = site / name
    shutil.rmtree(target, ignore_errors=True)
    pages.rename(target)
    index = site / "index.html"
    write_atomically(index, _page(site).encode())
    return index


def _page(site: Path) -> str:
    rows = "\n".join(_row(file.parent) for file in sorted(site.glob(f"*/{SUMMARY}")))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Datasets as last validated</title>\n'
        "<style>body { font: 16px sans-serif; margin: 2em } td, th { padding: .3em 1em; text-align: left }\n"
        ".failed { color: #b00020 } .warned { color: #8a5a00 } .passed { color: #1b6e2e }</style></head>\n"
        "<body><h1>Datasets as last validated</h1>\n"
        "<table><tr><th>dataset</th><th>result</th><th>expectations on</th></tr>\n"
        f"{rows}\n</table></body></html>\n"
    )


def _row(folder: Path) -> str:
    counts = json.loads((folder / SUMMARY).read_text(encoding="utf8"))
    state = "failed" if counts["critical"] else "warned" if counts["warnings"] else "passed"
    words = ", ".join(f"{number} {name}" for name, number in counts.items() if number)
    pages = sorted((folder / "validations").glob("**/*.html"))
    links = " ".join(_link(page, folder) for page in pages)
    return f'<tr><td>{html.escape(folder.name)}</td><td class="{state}">{html.escape(words)}</td><td>{links}</td></tr>'


def _link(page: Path, folder: Path) -> str:
    """A link to a page validations/NAME-TABLE/..., named by its table."""
    table = page.relative_to(folder / "validations").parts[0].removeprefix(f"{folder.name}-")
    where = page.relative_to(folder.parent).as_posix()
    return f'<a href="{html.escape(where)}">{html.escape(table.replace("_", " "))}</a>'
