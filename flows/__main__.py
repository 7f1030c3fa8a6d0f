"""The command line `visionline`."""

import sys
from typing import NoReturn

from flows.commands import app, models, pipeline, services
from flows.project import UsageError, WorkError

# Exceptions that tell of a server which is not there or does not agree.
SERVERS = {"MlflowException": "MLflow", "PrefectException": "Prefect", "HTTPError": "Prefect"}
GROUPS = (pipeline, models, services)  # which register their commands


def main() -> NoReturn:
    """The console script: 0 done, 1 the work failed, 2 wrong use; a person's mistake gets lines, not a traceback."""
    try:
        app(standalone_mode=True)
    except UsageError as error:
        _end(error, 2)
    except (WorkError, RuntimeError, OSError) as error:
        _end(error, 1)
    except Exception as error:
        # By name: to import the libraries for their exceptions would cost every command seconds.
        whose = next((SERVERS[kind.__name__] for kind in type(error).__mro__ if kind.__name__ in SERVERS), None)
        if whose is None:
            raise
        _end(RuntimeError(f"{whose}: {' '.join(str(error).split()) or type(error).__name__}"), 1)
    sys.exit(0)


def _end(error: Exception, code: int) -> NoReturn:
    if str(error):
        print(f"visionline: {error}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
