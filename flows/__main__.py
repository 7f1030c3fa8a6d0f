"""The command line `visionline`."""

import sys
from typing import NoReturn

from flows.commands import app, models, pipeline, services
from flows.project import UsageError
from stages.tracking.process import lines_of

BUGS = (ValueError, ArithmeticError)  # in a flow: what a person did wrong is a UsageError there
GROUPS = (pipeline, models, services)  # which register their commands


def main() -> NoReturn:
    """The console script: 0 done, 1 the work failed, 2 wrong use; a person's mistake gets lines, not a traceback."""
    try:
        app(standalone_mode=True)
    except UsageError as error:
        _end(str(error), 2)
    except Exception as error:
        told = [] if isinstance(error, BUGS) else lines_of(error)
        if not told:
            raise
        _end("\n".join(told) if str(error) else "", 1)
    sys.exit(0)


def _end(told: str, code: int) -> NoReturn:
    if told:
        print(f"visionline: {told}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
