"""Batches: complete, in an order of the seed alone, errors at once."""

import threading
import time
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


def test_a_batch_larger_than_the_split_goes_across_epochs() -> None:
    batch = next(Loader(Numbers(3), 8, seed=0).shuffled())
    assert batch["epoch"] == [0, 0, 0, 1, 1, 1, 2, 2]
    assert sorted(batch["index"][:3]) == sorted(batch["index"][3:6]) == [0, 1, 2]
    assert batch["images"].flatten(1)[:, 0].tolist() == batch["index"]


def test_two_iterators_of_one_loader_do_not_disturb_each_other() -> None:
    loader = Loader(Numbers(20), 6, seed=5)
    alone = indices(loader.shuffled(), 7)
    pairs = list(islice(zip(loader.shuffled(), loader.shuffled(3), strict=False), 4))
    assert [first["index"] for first, _ in pairs] == alone[:4]
    assert [second["index"] for _, second in pairs] == alone[3:7]


def test_time_spent_waiting_for_data_is_counted() -> None:
    class Slow(Numbers):
        def load(self, index: int, epoch: int, image: torch.Tensor) -> dict[str, Any]:
            time.sleep(0.05)
            return super().load(index, epoch, image)

    slow, fast = Loader(Slow(4), 2, seed=0, threads=1), Loader(Numbers(4), 2, seed=0, threads=1)
    for loader in (slow, fast):
        list(loader.in_order())
    assert 0.15 < slow.waited_s < 2 and fast.waited_s < 0.1


def test_a_caller_that_stops_early_leaves_no_thread() -> None:
    batches = Loader(Numbers(200), 4, seed=0).shuffled()
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert not [t.name for t in threading.enumerate() if t.name.startswith("decode")]


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
