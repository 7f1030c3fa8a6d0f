"""The certificate of a reproduction as one self-contained page."""

import html
from collections.abc import Iterable, Mapping
from typing import Any

STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:3rem auto;padding:0 1rem;color:#1c2430}
h1{font-size:1.6rem}.equal{color:#176b3a}.equivalent{color:#8a5a00}.different{color:#a61b1b}
table{border-collapse:collapse;width:100%;margin:1rem 0}td,th{border-bottom:1px solid #d8dee6;padding:.4rem .6rem;
text-align:left;vertical-align:top}td{overflow-wrap:anywhere}code{font-size:.85em}
"""
VERDICTS = {
    "equal": "Rebuilt, bit for bit",
    "equivalent": "Rebuilt, with an equivalent metric",
    "different": "Not reproduced",
}


def page(certificate: Mapping[str, Any]) -> str:
    """The HTML of a certificate (stages/certify.py says what it holds)."""
    verdict = certificate["verdict"]
    facts = [
        ("model hash", certificate["model_hash"]),
        ("hash of the rebuilt model", certificate["rebuilt_hash"]),
        ("built from commit", certificate["snapshot_commit"]),
        *((f"dataset {entry['dataset']}", entry["hash"]) for entry in certificate["trained_on"]),
    ]
    environment = [(key, said["recorded"], said["here"]) for key, said in certificate["environment"].items()]
    parts = [
        f"<h1>{_text(certificate['model'])}, version {_text(certificate['version'])}</h1>",
        f'<p class="{verdict}"><strong>{VERDICTS[verdict]}.</strong> {_text(certificate["reason"])}.</p>',
        _table(("what", "value"), facts),
        "<h2>Environment</h2>",
        _table(("", "recorded", "here"), environment),
    ]
    if "metric" in certificate:
        metric = certificate["metric"]
        row = (metric["name"], metric["registered"], metric["rebuilt"], metric["tolerance"])
        parts += ["<h2>Metric</h2>", _table(("metric", "registered", "rebuilt", "tolerance"), [row])]
        rows = [(name, f"{most:.3g}") for name, most in certificate["differing_tensors"].items()]
        parts += ["<h2>Tensors that differ</h2>", _table(("tensor", "largest difference"), rows)]
    title = f"{certificate['model']} {certificate['version']}: certificate"
    head = f'<meta charset="utf-8"><title>{_text(title)}</title><link rel="icon" href="data:,"><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def _table(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    top = "".join(f"<th>{_text(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{body}</table>"


def _text(value: Any) -> str:
    return html.escape("–" if value is None else str(value))
