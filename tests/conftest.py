"""Fixtures for every test: the real data beside the project, and single-threaded torch."""

import os
from pathlib import Path

import pytest

# As stages set them: spinning threads of two processes on the same cores cost a factor of 17.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real datasets; skips where it is not laid beside the project."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the datasets in ../shared/data, beside the repository")
    return folder
