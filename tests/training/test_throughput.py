"""What a training measures of itself."""

import subprocess
import sys
from pathlib import Path

CODE = """
import numpy as np
from stages.training.throughput import peak_memory_mib
before = peak_memory_mib()
block = np.ones(200 * 2**20, np.uint8)
after = peak_memory_mib()
del block
print(before, after, peak_memory_mib())
"""


def test_peak_memory_is_the_processs_own_and_stays():
    ballast = bytearray(b"x") * (1500 * 2**20)  # of the process that starts it
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", CODE], cwd=root, capture_output=True, text=True, check=True)
    before, after, later = map(float, done.stdout.split())
    assert len(ballast) > 2 * before * 2**20, "getrusage would have told of the ballast"
    assert 190 < after - before < 260
    assert abs(later - after) < 5, "what was freed still counts; the kernel rounds"
