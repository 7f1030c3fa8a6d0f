"""What decides the bits of a training beside code, data and parameters: packages, instruction set, threads."""

import hashlib
import os
import platform
import sys
from pathlib import Path

from stages.params import document

LOCK_FILE = Path("requirements.lock")
LOCK, CPU, CPU_THREADS = "visionline.lock", "visionline.cpu", "visionline.cpu_threads"

# What torch asks of an x86 processor before it takes the kernels of a level (ATen/native/DispatchStub.cpp).
LEVELS = {"AVX512": {"avx512f", "avx512bw", "avx512dq", "avx512vl", "fma"}, "AVX2": {"avx2", "fma"}}


def environment_tags() -> dict[str, str]:
    """Tags of a stage run: sha256 of requirements.lock, machine and CPU capability, threads of one training."""
    return {LOCK: lock_hash(), CPU: cpu(), CPU_THREADS: str(document.cpu_threads())}


def lock_hash() -> str:
    """sha256 of requirements.lock, 64 hex; '' where there is none."""
    return hashlib.sha256(LOCK_FILE.read_bytes()).hexdigest() if LOCK_FILE.is_file() else ""


def cpu() -> str:
    """Machine and the level of instructions that torch uses on it, such as `x86_64 AVX512`."""
    torch = sys.modules.get("torch")
    # torch takes seconds to import: a stage without it reads what torch would ask for.
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability() if torch else _level()}"


def _level() -> str:
    given = os.environ.get("ATEN_CPU_CAPABILITY", "").upper()
    if given in (*LEVELS, "DEFAULT"):
        return given
    flags = _flags()
    return next((level for level, needed in LEVELS.items() if needed <= flags), "DEFAULT")


def _flags() -> set[str]:
    """Features of the processor as Linux lists them; none elsewhere."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf8").splitlines() if file.is_file() else []
    return set(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())
