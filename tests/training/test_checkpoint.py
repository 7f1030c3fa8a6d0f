"""The checkpoint file: whole or not at all, and data only."""

import pickle

import pytest
import torch

from stages.training.checkpoint import Checkpoint


class Evil:
    def __reduce__(self):
        return print, ("run",)


def test_what_is_saved_is_what_is_loaded(tmp_path):
    checkpoint = Checkpoint(tmp_path / "a" / "b")
    assert checkpoint.load() is None
    checkpoint.save({"step": 3, "model": {"w": torch.arange(3.0)}, "best": None, "history": [{"x": -float("inf")}]})
    saved = checkpoint.load()
    assert torch.equal(saved.pop("model")["w"], torch.arange(3.0))
    assert saved == {"step": 3, "best": None, "history": [{"x": -float("inf")}]}


def test_a_save_that_fails_leaves_the_last_one(tmp_path, monkeypatch):
    checkpoint = Checkpoint(tmp_path / "a")
    checkpoint.save({"step": 1})

    def full(descriptor):
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        checkpoint.save({"step": 2})
    assert checkpoint.load() == {"step": 1}


def test_remove_forgets_and_may_come_twice(tmp_path):
    checkpoint = Checkpoint(tmp_path / "a")
    checkpoint.save({"step": 1})
    checkpoint.remove()
    checkpoint.remove()
    assert checkpoint.load() is None and not (tmp_path / "a").exists()


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    checkpoint = Checkpoint(tmp_path)
    torch.save({"step": Evil()}, checkpoint.file)
    with pytest.raises(pickle.UnpicklingError):
        checkpoint.load()
