"""Stage `compare NAME`: judge a challenger against the champion by the rules of models.NAME.gate.

`python -m stages.compare NAME --champion 1 --challenger 2 --output decision.json`; it moves nothing.
"""

import argparse
import json
import sys
from pathlib import Path

from stages.params import document
from stages.tracking.process import die_with_parent, errors_in_lines, limit_threads, locked


def compare(name: str, champion: str, challenger: str, output: Path) -> None:
    """Write the decision as JSON; ValueError or RuntimeError when the two can't be compared at all."""
    from stages.data.shards import replace_file
    from stages.tasks import comparison

    decision = comparison.judge(name, champion, challenger, document.model_params(name).gate, document.seed())
    replace_file(output, (json.dumps(decision, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m stages.compare", description=__doc__)
    parser.add_argument("name", help="a task of params.yaml")
    parser.add_argument("--champion", required=True, help="its version in the registry")
    parser.add_argument("--challenger", required=True, help="its version in the registry")
    parser.add_argument("--output", type=Path, required=True, help="file for the decision")
    return parser


if __name__ == "__main__":
    options = _parser().parse_args(sys.argv[1:])
    die_with_parent()
    with errors_in_lines(f"compare {options.name}"), locked(f"compare@{options.name}"):
        limit_threads(document.cpu_threads())
        compare(options.name, options.champion, options.challenger, options.output)
