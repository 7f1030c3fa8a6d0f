"""Samples into batches: threads decode into one preallocated uint8 tensor while the device computes."""

import os
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

Batch = dict[str, Any]  # "images": uint8 [B, 3, H, W], and each other key of the samples as a list of B

# Mean and standard deviation of ImageNet's channels (torchvision's published recipes), on the scale 0..255.
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)


class Samples(Protocol):
    """A split as a task sees it."""

    image_shape: tuple[int, int, int]

    def __len__(self) -> int: ...

    def load(self, index: int, epoch: int, image: Tensor) -> dict[str, Any]:
        """Fill `image` (uint8, image_shape) and return the sample's other keys."""
        ...


class Loader:
    """Batches of a split, in an order that depends on nothing but the seed."""

    def __init__(self, samples: Samples, batch_size: int, seed: int, threads: int | None = None) -> None:
        if not len(samples):
            raise ValueError("the split holds no sample")
        self.samples, self.batch_size, self.seed = samples, batch_size, seed
        self.threads = threads or min(16, os.cpu_count() or 1)
        self.waited_s = 0.0

    def shuffled(self, start: int = 0) -> Iterator[Batch]:
        """Batches number start, start + 1, ... without end; every epoch is another permutation of the split."""
        return self._run(self._positions(batch) for batch in _count(start))

    def in_order(self) -> Iterator[Batch]:
        """Every sample once, as stored; the last batch may be smaller."""
        n = len(self.samples)
        starts = range(0, n, self.batch_size)
        return self._run([(0, i) for i in range(s, min(n, s + self.batch_size))] for s in starts)

    def _positions(self, batch: int) -> list[tuple[int, int]]:
        """(epoch, sample) of each place in a batch."""
        n = len(self.samples)
        places = range(batch * self.batch_size, (batch + 1) * self.batch_size)
        return [(place // n, int(self._permutation(place // n)[place % n])) for place in places]

    def _permutation(self, epoch: int) -> np.ndarray:
        if getattr(self, "_shuffled_epoch", None) != epoch:
            self._shuffled_epoch = epoch
            self._order = np.random.default_rng([self.seed, epoch]).permutation(len(self.samples))
        return self._order

    def _run(self, batches: Iterator[list[tuple[int, int]]]) -> Iterator[Batch]:
        """Keep a few batches under way; count the time that the caller waits for them."""
        with ThreadPoolExecutor(self.threads, thread_name_prefix="decode") as pool:
            under_way = deque(self._start(pool, places) for places in islice(batches, 3))
            try:
                while under_way:
                    images, samples = under_way.popleft()
                    began = time.perf_counter()
                    loaded = [sample.result() for sample in samples]
                    self.waited_s += time.perf_counter() - began
                    under_way.extend(self._start(pool, places) for places in islice(batches, 1))
                    yield {"images": images} | {key: [sample[key] for sample in loaded] for key in loaded[0]}
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _start(
        self, pool: ThreadPoolExecutor, places: list[tuple[int, int]]
    ) -> tuple[Tensor, list[Future[dict[str, Any]]]]:
        images = torch.empty((len(places), *self.samples.image_shape), dtype=torch.uint8)
        return images, [
            pool.submit(self.samples.load, index, epoch, images[i]) for i, (epoch, index) in enumerate(places)
        ]


def _count(start: int) -> Iterator[int]:
    while True:
        yield start
        start += 1


def normalised(images: Tensor, device: torch.device, is_channels_last: bool) -> Tensor:
    """uint8 [B, 3, H, W] to float32 on the device, each channel with ImageNet's mean 0 and deviation 1."""
    if device.type == "cuda":
        images = images.pin_memory()
    layout = torch.channels_last if is_channels_last else torch.contiguous_format
    images = images.to(device, non_blocking=True).to(torch.float32, memory_format=layout)
    mean, std = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (MEAN, STD))
    return images.sub_(mean).div_(std)
