"""LSP and its extension: the real 400 against their arrays, both layouts of the matrix, and sources with faults."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat, savemat

from stages.data.formats.lsp import JOINTS, read
from stages.data.records import Record, Rejected


def source(root: Path, joints: Any, count: int | None = None, name: str = "im{:05}.jpg") -> Path:
    (root / "images").mkdir(parents=True, exist_ok=True)
    for number in range(1, (count if count is not None else np.shape(joints)[2]) + 1):
        Image.new("RGB", (80, 60)).save(root / "images" / name.format(number))
    savemat(root / "joints.mat", {"joints": joints})
    return root


def extended(count: int = 3) -> np.ndarray:
    """[14, 3, N], all visible, in a column down the image."""
    joints = np.ones((14, 3, count))
    joints[:, 0], joints[:, 1] = 40, np.arange(4, 60, 4)[:, None]
    return joints


def test_the_400_real_ones_equal_their_array(shared_data: Path):
    made = read(shared_data / "lspet-400")
    items = list(made.records())
    joints = loadmat(shared_data / "lspet-400/joints.mat")["joints"]
    assert len(items) == 400 and not any(isinstance(item, Rejected) for item in items)
    assert [item.path for item in items[:2]] == ["images/im00001.jpg", "images/im00002.jpg"]
    for i, item in enumerate(items):
        (box,) = item.boxes
        ours = np.reshape(box.keypoints, (14, 3))
        seen = joints[:, 2, i] > 0
        assert (ours[:, 2] == np.where(seen, 2, 0)).all()
        np.testing.assert_array_equal(ours[seen, :2], joints[seen, :2, i])
        assert not ours[~seen].any()  # negative places of what is not seen are gone
        x1, y1, x2, y2 = box.xyxy
        width, height = item.size_px
        assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height
    assert [item.defects for item in items if item.defects] == [
        ("head_top at (245.2, -1.2) lies outside the image: kept",)
    ]  # as PROVENANCE.md says: one visible joint outside
    assert "boxes are those of the labelled joints" in made.notes[0]
    assert made.skeleton == JOINTS and len(made.skeleton_edges) == 14


def test_in_plain_lsp_the_third_row_means_occluded(tmp_path: Path):
    joints = np.moveaxis(extended(), 1, 0)
    joints[2] = 0
    joints[2, 5] = 1
    item, *_ = read(source(tmp_path, joints, name="im{:04}.jpg")).records()
    seen = item.boxes[0].keypoints[2::3]
    assert seen[5] == 1 and sum(v == 2 for v in seen) == 13
    assert item.split is None


def test_lsp_of_2000_is_split_in_half(tmp_path: Path):
    joints = np.moveaxis(extended(2000), 1, 0)
    items = [item for item in read(source(tmp_path, joints, count=1)).records() if isinstance(item, Record)]
    assert [item.split for item in items] == ["train"]


def test_images_and_joints_without_a_partner(tmp_path: Path):
    made = source(tmp_path, extended(3), count=2)
    Image.new("RGB", (8, 8)).save(made / "images" / "im00009.jpg")
    Image.new("RGB", (8, 8)).save(made / "images" / "cover.jpg")
    told = {item.path: item.reason for item in read(made).records() if isinstance(item, Rejected)}
    assert told == {
        "im00003.jpg": "joints without image",
        "images/im00009.jpg": "image without joints: joints.mat has 3",
        "images/cover.jpg": "image without joints",
    }


def test_nobody_labelled_and_numbers_that_are_none(tmp_path: Path):
    joints = extended(2)
    joints[:, 2, 0] = 0
    joints[3, 0, 1] = np.nan
    first, second = read(source(tmp_path, joints)).records()
    assert first.boxes == () and first.defects == ("no joint is labelled in the image: no person",)
    assert second.boxes[0].keypoints[9:12] == (0, 0, 0)


def test_a_broken_image_is_left_to_ingest(tmp_path: Path):
    made = source(tmp_path, extended(1))
    (made / "images/im00001.jpg").write_bytes(b"no image")
    (item,) = read(made).records()
    assert item.size_px is None and item.boxes


@pytest.mark.parametrize(
    ("joints", "message"),
    [
        (np.ones((14, 2, 3)), r"joints is float64 \[14, 2, 3\], not numbers \[14, 3, N\] or \[3, 14, N\]"),
        (np.ones((14, 3)), r"joints is float64 \[14, 3\]"),
        (np.full((14, 3, 1), "a"), "joints is .*, not numbers"),
    ],
)
def test_another_array_is_named(tmp_path: Path, joints: Any, message: str):
    with pytest.raises(ValueError, match=message):
        read(source(tmp_path, joints, count=1))


def test_files_that_are_no_matlab(tmp_path: Path):
    made = source(tmp_path, extended(1))
    (made / "joints.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200))
    with pytest.raises(ValueError, match=r"joints\.mat (is no MATLAB file|has no variable)"):
        read(made)
    savemat(made / "joints.mat", {"other": 1})
    with pytest.raises(ValueError, match="has no variable 'joints'"):
        read(made)
    source(tmp_path / "second", extended(1))
    with pytest.raises(ValueError, match=r"looked for one joints.mat, found several: joints.mat, second/joints.mat"):
        read(made)


@pytest.mark.parametrize("cut", [1, 60, 130, 200, 300])
def test_a_file_that_was_cut_off(tmp_path: Path, cut: int):
    made = source(tmp_path, extended(2))
    whole = (made / "joints.mat").read_bytes()
    (made / "joints.mat").write_bytes(whole[:cut])
    with pytest.raises(ValueError, match=r"MATLAB|variable"):
        read(made)
