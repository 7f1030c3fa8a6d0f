"""How fast a training runs: images a second, share of time spent waiting for data, memory, share of peak FLOP rate."""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from stages.data.loader import Loader

# The process's own peak, in KiB, on Linux; getrusage there also counts the process that started it.
STATUS = Path("/proc/self/status")

# Dense bf16 tensor-core peaks of the vendor's data sheets, FLOP/s.
PEAK_FLOPS = {
    "H200": 989e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10": 125e12,
    "V100": 125e12,
}


class Throughput:
    """Rates since the last restart; evaluation does not count."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader
        self.flops_per_image = 0.0
        self.restart()

    def restart(self) -> None:
        """Forget what was measured so far (but the FLOPs of an image)."""
        self.began_s = time.perf_counter()
        self.waited_before_s = self.loader.waited_s
        self.images = 0

    @contextmanager
    def step(self, step: int, num_images: int) -> Iterator[None]:
        """Time a step; on a GPU the first one also counts its FLOPs, forward and backward."""
        if torch.cuda.is_available() and not self.flops_per_image:
            with FlopCounterMode(display=False) as counter:
                yield
            self.flops_per_image = counter.get_total_flops() / num_images
        else:
            yield
        self.images += num_images

    def rates(self) -> dict[str, float]:
        """images_per_s, data_wait_share, peak_memory_mib and, on a known GPU, peak_flops_share."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds = max(1e-9, time.perf_counter() - self.began_s)
        rates = {
            "images_per_s": self.images / seconds,
            "data_wait_share": (self.loader.waited_s - self.waited_before_s) / seconds,
            "peak_memory_mib": peak_memory_mib(),
        }
        peak = _peak_flops()
        if peak:
            rates["peak_flops_share"] = self.flops_per_image * self.images / seconds / peak
        return rates


def peak_memory_mib() -> float:
    """Most memory so far: of the process, or where there is a GPU of what torch has there."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    if STATUS.exists():
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def _peak_flops() -> float | None:
    if not torch.cuda.is_available():
        return None
    name = torch.cuda.get_device_name()
    return next((peak for model, peak in PEAK_FLOPS.items() if model in name.split()), None)
