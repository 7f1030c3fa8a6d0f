"""MATLAB files up to version 7: arrays and structs, no code."""

import zlib
from pathlib import Path
from typing import Any

from scipy.io import loadmat
from scipy.io.matlab import MatReadError


def read_mat(file: Path, variable: str, **options: Any) -> Any:
    """One variable of a file, read as scipy.io.loadmat does with these options; ValueError when it can't be."""
    try:
        content = loadmat(file, variable_names=[variable], **options)
    except NotImplementedError:
        raise ValueError(f"{file} is a MATLAB 7.3 file: save it with -v7") from None
    except (MatReadError, ValueError, TypeError, KeyError, IndexError, OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{file} is no MATLAB file that can be read: {error or type(error).__name__}") from None
    if variable not in content:
        raise ValueError(f"{file} has no variable {variable!r}")
    return content[variable]
