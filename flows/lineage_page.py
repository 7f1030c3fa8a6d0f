"""A lineage as one page that needs nothing else: the graph drawn, each node a link to its facts; no script."""

import html
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from flows.lineage_layout import layout

WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN = 228, 50, 64, 22, 16  # pixels of the drawing
TITLE_CHARS, LINE_CHARS = 26, 36
MIN_SCALE = 0.75  # a wide drawing shrinks to the window, but not below what can be read
TITLES = {
    "alias": "Alias",
    "version": "Model version",
    "run": "Run",
    "dataset": "Dataset version",
    "image": "Image",
    "missing": "Not found",
}

STYLE = """
:root { color-scheme: light dark; --ink: #1d2530; --soft: #5b6675; --paper: #fff; --panel: #f5f7fa; --line: #c9d1db;
  --alias: #8a3ffc; --version: #137333; --run: #1a5fb4; --dataset: #b06000; --image: #5b6675; --missing: #c01c28; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e9f0; --soft: #9aa7b8; --paper: #151a21; --panel: #1d242d;
  --line: #3a4552; --alias: #be95ff; --version: #6fcf97; --run: #78b4ff; --dataset: #ffb74d; --image: #9aa7b8;
  --missing: #ff7b84; } }
* { box-sizing: border-box; }
body { margin: 0; font: 14px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper); height: 100vh;
  display: grid; grid-template-rows: auto minmax(0, 1fr); }
header { padding: 16px 24px 10px; } h1 { margin: 0; font-size: 20px; } header p { margin: 4px 0; color: var(--soft); }
main { display: grid; grid-template-columns: minmax(0, 1fr) minmax(320px, 28%); border-top: 1px solid var(--line); }
@media (max-width: 900px) { body { height: auto; } main { grid-template-columns: minmax(0, 1fr); } }
.drawing { overflow: auto; padding: 8px; } svg { display: block; width: 100%; height: auto; }
aside { overflow: auto; padding: 4px 20px 24px; background: var(--panel);
  border-left: 1px solid var(--line); overflow-wrap: anywhere; }
section { display: none; scroll-margin-top: 40px; } section:target { display: block; }
main:not(:has(section:target)) section.first { display: block; }
h2 { margin: 12px 0 2px; font-size: 16px; } h3 { margin: 16px 0 4px; font-size: 13px; }
.kind { color: var(--soft); font-size: 12px; text-transform: uppercase; letter-spacing: .06em; margin-top: 12px; }
table { border-collapse: collapse; width: 100%; font-size: 13px; } td, th { padding: 3px 8px 3px 0; text-align: left;
  vertical-align: top; border-bottom: 1px solid var(--line); font-weight: normal; }
th { color: var(--soft); width: 38%; }
code { font: 12px/1.5 ui-monospace, monospace; } pre { white-space: pre-wrap; background: var(--paper); padding: 8px;
  border: 1px solid var(--line); border-radius: 6px; margin: 4px 0; font: 12px/1.5 ui-monospace, monospace; }
.lists { padding: 4px 16px 24px; max-width: 1000px; overflow-wrap: anywhere; }
.notes li { color: var(--missing); } a { color: var(--run); }
.box rect { fill: var(--paper); stroke: var(--line); stroke-width: 1.2; } .box:hover rect, .box:focus rect {
  stroke-width: 2.5; } .box text { fill: var(--ink); font-size: 13px; font-weight: 600; }
.box text.small { fill: var(--soft); font-size: 11px; font-weight: 400; } .way { fill: none; stroke: var(--line);
  stroke-width: 1.5; } .way:hover { stroke: var(--ink); stroke-width: 3; } .box.root rect { stroke-width: 2.2; }
"""


def page(document: Mapping[str, Any], lines: Sequence[str], mlflow: str | None) -> str:
    """The page of a lineage as `trace --json` gives it.

    lines: what is said of it below the drawing. mlflow: where MLflow's pages are served, for links.
    """
    numbers = {node["id"]: i for i, node in enumerate(document["nodes"])}
    asked = html.escape(document["asked"])
    sections = "\n".join(_section(node, numbers, document, mlflow) for node in document["nodes"])
    served = f"MLflow is at {html.escape(mlflow)}." if mlflow else "For links to MLflow, start visionline ui before."
    return f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<link rel="icon" href="data:,"><title>Lineage of {asked}</title>
<style>{STYLE}{_colours(document["nodes"])}</style></head>
<body>
<header><h1>Lineage of {asked}</h1>
<p>Sources are on the left, what was made from them on the right. Choose a node for its facts. {served}</p></header>
<main><div class="drawing">{_drawing(document, numbers)}
<div class="lists">{"".join(_lists(document, lines))}</div></div>
<aside>
{sections}
</aside></main>
</body></html>
"""


def _colours(nodes: Sequence[Mapping[str, Any]]) -> str:
    """Each kind's colour, and the chosen node filled."""
    kinds = "".join(f".{kind} rect {{ stroke: var(--{kind}); }}\n" for kind in TITLES)
    chosen = ", ".join(f'body:has(#n{i}:target) a[href="#n{i}"] rect' for i in range(len(nodes)))
    return f"{kinds}{chosen} {{ fill: var(--panel); stroke-width: 3.5; }}"


def _drawing(document: Mapping[str, Any], numbers: Mapping[str, int]) -> str:
    edges = {(edge["from"], edge["made"]): edge["by"] for edge in document["edges"]}
    placed = layout(list(numbers), list(edges))
    width = placed.num_layers * (WIDTH + GAP_X) - GAP_X + 2 * MARGIN
    height = placed.height * (HEIGHT + GAP_Y) - GAP_Y + 2 * MARGIN
    ways = "".join(_way(points, edges[edge]) for edge, points in placed.ways.items())
    boxes = "".join(
        _box(node, numbers[node["id"]], _corner(placed.places[node["id"]]), node["id"] == document["root"])
        for node in document["nodes"]
    )
    size = f'viewBox="0 0 {width:.0f} {height:.0f}" style="max-width:{width:.0f}px;min-width:{width * MIN_SCALE:.0f}px"'
    return f'<svg {size} role="img" aria-label="Lineage">{ways}{boxes}</svg>'


def _corner(place: tuple[int, float]) -> tuple[float, float]:
    return MARGIN + place[0] * (WIDTH + GAP_X), MARGIN + place[1] * (HEIGHT + GAP_Y)


def _way(points: Sequence[tuple[int, float]], by: str) -> str:
    """An edge as a smooth line from the right of its source, through its bends, to the left of what was made."""
    corners = [_corner(point) for point in points]
    path = f"M{corners[0][0] + WIDTH:.0f} {corners[0][1] + HEIGHT / 2:.1f}"
    for (x, y), (x2, y2) in pairwise(corners):
        start, end, y, y2 = x + WIDTH, x2, y + HEIGHT / 2, y2 + HEIGHT / 2
        half = (start + end) / 2
        path += f" L{start:.0f} {y:.1f} C{half:.0f} {y:.1f} {half:.0f} {y2:.1f} {end:.0f} {y2:.1f}"
    return f'<path class="way" d="{path}"><title>{html.escape(by)}</title></path>'


def _box(node: Mapping[str, Any], number: int, corner: tuple[float, float], is_root: bool) -> str:
    x, y = corner
    name, small = html.escape(_cut(_name(node), TITLE_CHARS)), html.escape(_cut(_summary(node), LINE_CHARS))
    return (
        f'<a class="box {node["kind"]}{" root" if is_root else ""}" href="#n{number}">'
        f"<title>{html.escape(node['title'])}</title>"
        f'<rect x="{x:.0f}" y="{y:.1f}" width="{WIDTH}" height="{HEIGHT}" rx="8"/>'
        f'<text x="{x + 12:.0f}" y="{y + 21:.1f}">{name}</text>'
        f'<text class="small" x="{x + 12:.0f}" y="{y + 38:.1f}">{small}</text></a>'
    )


def _name(node: Mapping[str, Any]) -> str:
    return node["facts"]["dataset"] if node["kind"] == "dataset" else node["title"]


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _summary(node: Mapping[str, Any]) -> str:
    """The line below a node's title."""
    facts, kind = node["facts"], node["kind"]
    if kind == "run":
        return f"{facts['started'][:16].replace('T', ' ')}, {facts['seconds']:g} s"
    if kind == "version":
        return ", ".join(facts["aliases"]) or "no alias"
    if kind == "dataset":
        counts = ", ".join(f"{split} {count:,}" for split, count in (facts.get("samples") or {}).items())
        return f"{facts['hash'][:8]}: {counts}" if counts else f"version {facts['hash'][:8]}"
    return TITLES.get(kind, kind).lower() + (f" of version {facts['version']}" if kind == "alias" else "")


def _section(
    node: Mapping[str, Any], numbers: Mapping[str, int], document: Mapping[str, Any], mlflow: str | None
) -> str:
    """All facts of a node, and its neighbours as links."""
    titles = {other["id"]: other["title"] for other in document["nodes"]}
    here = node["id"]
    sides = {
        "Made from": [(e["from"], e["by"]) for e in document["edges"] if e["made"] == here],
        "Led to": [(e["made"], e["by"]) for e in document["edges"] if e["from"] == here],
    }
    links = "".join(
        f"<h3>{side}</h3><table>"
        + "".join(
            f'<tr><td><a href="#n{numbers[i]}">{html.escape(titles[i])}</a></td><td>{html.escape(by)}</td></tr>'
            for i, by in others
        )
        + "</table>"
        for side, others in sides.items()
        if others
    )
    opened = f'<p><a href="{html.escape(mlflow + "/" + node["page"])}">Open in MLflow</a></p>' if mlflow else ""
    return (
        f'<section id="n{numbers[here]}"{" class=first" if here == document["root"] else ""}>'
        f'<div class="kind">{TITLES.get(node["kind"], "")}</div><h2>{html.escape(node["title"])}</h2>'
        f"{opened if node['page'] else ''}{_table(node['facts'])}{links}</section>"
    )


def _table(facts: Mapping[str, Any]) -> str:
    """Facts as a table; those that are tables themselves come below it."""
    plain = {k: v for k, v in facts.items() if not isinstance(v, dict) and v not in (None, "", [])}
    nested = {k: v for k, v in facts.items() if isinstance(v, dict) and v}
    rows = "".join(f"<tr><th>{html.escape(k)}</th><td>{_value(k, v)}</td></tr>" for k, v in plain.items())
    below = "".join(f"<h3>{html.escape(k.capitalize())}</h3>{_table(v)}" for k, v in nested.items())
    return f"<table>{rows}</table>{below}"


def _value(name: str, value: Any) -> str:
    if name == "brings it back":
        return f"<pre>{html.escape(value)}</pre>"
    if isinstance(value, list):
        return "<br>".join(_value("", entry) for entry in value)
    if isinstance(value, dict):
        return html.escape(", ".join(f"{k} {v}" if k != "alias" else str(v) for k, v in value.items() if v is not None))
    return html.escape(f"{value:.6g}" if isinstance(value, float) else str(value))


def _lists(document: Mapping[str, Any], lines: Sequence[str]) -> Iterator[str]:
    """What the terminal says below the tree."""
    if document["notes"]:
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in document["notes"])
        yield f'<h2>What could not be found</h2><ul class="notes">{notes}</ul>'
    if lines:
        told = "".join(f"<li>{html.escape(line.strip())}</li>" for line in lines)
        yield f"<h2>In words</h2><ul>{told}</ul>"
