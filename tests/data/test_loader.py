"""Batches: complete, in an order of the seed alone, errors at once."""

from itertools import islice
from typing import Any

import pytest
import torch

from stages.data.loader import MEAN, STD, Loader, normalised


class Numbers:
    image_shape = (3, 1, 1)

    def __init__(self, count: int, broken: int | None = None) -> None:
        self.count, self.broken = count, broken

    def __len__(self) -> int:
        return self.count

    def load(self, index: int, epoch: int, image: torch.Tensor) -> dict[str, Any]:
        if index == self.broken:
            raise OSError(f"sample {index} can't be read")
        image.fill_(index)
        return {"index": index, "epoch": epoch}


def indices(batches: Any, count: int | None = None) -> list[list[int]]:
    return [batch["index"] for batch in islice(batches, count)]


def test_in_order_gives_every_sample_once() -> None:
    batches = list(Loader(Numbers(7), 3, seed=0).in_order())
    assert [batch["index"] for batch in batches] == [[0, 1, 2], [3, 4, 5], [6]]
    assert batches[2]["images"].shape == (1, 3, 1, 1)
    assert batches[1]["images"].flatten().tolist() == [3] * 3 + [4] * 3 + [5] * 3


def test_each_epoch_is_another_permutation() -> None:
    batches = list(islice(Loader(Numbers(10), 4, seed=1).shuffled(), 5))
    order = [(e, i) for batch in batches for e, i in zip(batch["epoch"], batch["index"], strict=True)]
    first, second = ([i for e, i in order if e == epoch] for epoch in (0, 1))
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second


def test_order_depends_on_the_seed_alone() -> None:
    one = indices(Loader(Numbers(20), 6, seed=5, threads=1).shuffled(), 8)
    assert one == indices(Loader(Numbers(20), 6, seed=5, threads=4).shuffled(), 8)
    assert one != indices(Loader(Numbers(20), 6, seed=6).shuffled(), 8)


def test_starting_later_equals_skipping() -> None:
    whole = indices(Loader(Numbers(20), 6, seed=5).shuffled(), 9)
    assert indices(Loader(Numbers(20), 6, seed=5).shuffled(4), 5) == whole[4:]


def test_an_unreadable_sample_is_an_error() -> None:
    with pytest.raises(OSError, match="sample 4 can't be read"):
        list(Loader(Numbers(7, broken=4), 3, seed=0).in_order())


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(ValueError, match="no sample"):
        Loader(Numbers(0), 3, seed=0)


def test_normalised_on_the_scale_of_bytes() -> None:
    images = torch.tensor([0, 128, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    expected = [(v - m) / s for v, m, s in zip((0, 128, 255), MEAN, STD, strict=True)]
    assert normalised(images, torch.device("cpu"), False).flatten().tolist() == pytest.approx(expected, rel=1e-5)
