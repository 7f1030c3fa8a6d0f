"""Pictures follow from their names; a folder is complete or absent."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.data.shapes.studio import FEW, draw_all, generator, save, unfinished


def test_generator_depends_on_the_whole_name():
    first = generator(0, "scene", "train", 1).random(4)
    assert np.array_equal(first, generator(0, "scene", "train", 1).random(4))
    others = [(1, "scene", "train", 1), (0, "scene", "val", 1), (0, "scene", "train", 2), (0, "scene", "train", 11)]
    assert all(not np.array_equal(first, generator(*name).random(4)) for name in others)


def test_an_interrupted_folder_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), unfinished(tmp_path / "made") as part:
        save(Image.new("RGB", (8, 8)), part / "a" / "b.jpg")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_a_killed_process_do_not_get_in(tmp_path):
    (tmp_path / ".made.part").mkdir()
    (tmp_path / ".made.part" / "old.jpg").write_bytes(b"half")
    with unfinished(tmp_path / "made") as part:
        (part / "new.jpg").write_bytes(b"whole")
    assert [path.name for path in tmp_path.rglob("*")] == ["made", "new.jpg"]


def test_a_folder_that_exists_is_left_alone(tmp_path):
    (tmp_path / "made").mkdir()
    with pytest.raises(FileExistsError, match="delete it"), unfinished(tmp_path / "made"):
        pytest.fail("nothing is drawn")
    assert list(tmp_path.iterdir()) == [tmp_path / "made"]


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_jobs(workers, capsys):
    jobs = [Path(f"{number}.jpg") for number in range(FEW + 1)]
    assert draw_all(_stem, jobs, "numbers", workers) == [path.stem for path in jobs]
    assert "numbers: 65 drawn" in capsys.readouterr().out


def _stem(path: Path) -> str:
    return path.stem
