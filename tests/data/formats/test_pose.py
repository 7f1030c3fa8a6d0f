"""MPII, CrowdPose, OCHuman, PoseTrack, and what pose sets in COCO's form do otherwise: real samples and made ones."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask
from scipy.io import savemat

from stages.data.formats import coco, crowdpose, mpii, ochuman, posetrack
from stages.data.records import Record, Rejected
from stages.params.skeleton import Skeleton


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (200, 100)).save(root / name)
    return root


def write(root: Path, name: str, content: Any) -> Path:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(json.dumps(content))
    return root


def kept(source: Any) -> dict[str, Record]:
    return {item.path: item for item in source.records() if isinstance(item, Record)}


def told(source: Any) -> dict[str, str]:
    return {item.path: item.reason for item in source.records() if isinstance(item, Rejected)}


class TestCocoForm:
    @pytest.mark.parametrize(
        ("folder", "joints", "persons", "pairs"),
        [("aic", 14, 9, 6), ("mhp", 16, 4, 6), ("jhmdb", 15, 3, 6), ("coco", 17, 14, 8), ("humanart", 21, 4, 10)],
    )
    def test_any_skeleton(self, folder: str, joints: int, persons: int, pairs: int, shared_data: Path):
        source = coco.read(shared_data / "pose-samples" / folder)
        boxes = [box for item in kept(source).values() for box in item.boxes]
        assert len(source.skeleton) == joints and len(boxes) == persons
        assert {len(box.keypoints) for box in boxes} == {3 * joints}
        assert not any(item.defects for item in kept(source).values())
        assert len(Skeleton(source.skeleton).flip_pairs) == pairs  # "Right Shoulder", "Left-wrist", "left_toe"

    def test_human_art_has_its_own_joints_and_folders_that_are_not_here(self, shared_data: Path):
        root = shared_data / "pose-samples/humanart"
        listed = json.loads((root / "test_humanart.json").read_text())
        found = kept(coco.read(root))
        assert sorted(found) == sorted(e["file_name"].removeprefix("HumanArt/images/") for e in listed["images"])
        expected = sorted(tuple(map(float, e["keypoints_21"])) for e in listed["annotations"])
        assert sorted(box.keypoints for item in found.values() for box in item.boxes) == expected

    def test_halpe_names_no_joint_and_has_its_images_elsewhere(self, shared_data: Path):
        source = coco.read(shared_data / "pose-samples/halpe", images=shared_data / "pose-samples/coco")
        assert len(kept(source)) == 4
        assert source.skeleton[:2] == ("joint_1", "joint_2") and len(source.skeleton) == 136
        assert "test_halpe.json names no joints: they are called joint_1 to joint_136" in source.notes

    def test_a_box_that_is_missing_is_that_of_the_joints(self, shared_data: Path):
        trb = kept(coco.read(shared_data / "pose-samples/mpii"))
        (item,) = (item for path, item in trb.items() if path == "005808361.jpg")
        (box,) = item.boxes
        points = np.reshape(box.keypoints, (-1, 3))
        points = points[points[:, 2] > 0]
        assert box.xyxy[0] < points[:, 0].min() and box.xyxy[2] > points[:, 0].max()
        assert item.defects == ("annotation 2736: no bbox: that of its joints, with a margin",)

    def test_the_last_part_of_a_name_alone_is_not_enough(self, tmp_path: Path):
        entry = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}
        images = [{"id": 1, "file_name": "gone/away/1.jpg", "width": 200, "height": 100}]
        write(tmp_path, "a.json", {"images": images, "annotations": [entry], "categories": [{"id": 1, "name": "p"}]})
        assert kept(coco.read(touch(tmp_path, "other/1.jpg"))) == {}
        assert list(kept(coco.read(touch(tmp_path, "away/1.jpg")))) == ["away/1.jpg"]

    def test_joints_that_are_no_numbers_make_no_box(self, tmp_path: Path):
        entry = {"id": 1, "image_id": 1, "category_id": 1, "keypoints": [1, "x", 2]}
        category = {"id": 1, "name": "p", "keypoints": ["nose"]}
        images = [{"id": 1, "file_name": "1.jpg"}]
        write(tmp_path, "a.json", {"images": images, "annotations": [entry], "categories": [category]})
        (item,) = kept(coco.read(touch(tmp_path, "1.jpg"))).values()
        assert item.boxes == () and "bbox None is not four finite numbers: dropped" in item.defects[0]


class TestCrowdPose:
    def test_its_own_bones(self, shared_data: Path):
        source = crowdpose.read(shared_data / "pose-samples/crowdpose")
        bones = {tuple(source.skeleton[end] for end in edge) for edge in source.skeleton_edges}
        assert {("left_ankle", "left_knee"), ("head", "neck"), ("right_shoulder", "right_elbow")} <= bones
        for a, b in bones:
            assert (
                len({name.split("_")[0] for name in (a, b)} - {"head", "neck"}) == 1
                or "hip" in a + b
                or "neck" in a + b
            )
        assert not any("name a joint that it lacks" in note for note in source.notes)
        assert sum(len(item.boxes) for item in kept(source).values()) == 5

    def test_other_joints_are_refused(self, shared_data: Path):
        with pytest.raises(ValueError, match=r"are not CrowdPose's .*use --format coco"):
            crowdpose.read(shared_data / "pose-samples/aic")


class TestMpii:
    def test_the_real_five_equal_their_json(self, shared_data: Path):
        root = shared_data / "pose-samples/mpii"
        source = mpii.read(root)
        found = kept(source)
        entries = {e["image"]: e for e in json.loads((root / "test_mpii.json").read_text())}
        assert found.keys() == entries.keys() and len(source.skeleton) == 16
        for path, item in found.items():
            joints, seen = np.reshape(item.boxes[0].keypoints, (16, 3)), np.array(entries[path]["joints_vis"]) > 0
            np.testing.assert_array_equal(joints[seen, :2], np.array(entries[path]["joints"])[seen])
            assert (joints[:, 2] == np.where(seen, 2, 0)).all() and item.split == "test"
            x, y = entries[path]["center"]
            assert (
                item.boxes[0].xyxy[0] < x < item.boxes[0].xyxy[2] and item.boxes[0].xyxy[1] < y < item.boxes[0].xyxy[3]
            )
        assert "test_mpii_trb.json is no list of MPII's persons: left out" in source.notes

    def test_lists_of_several_splits(self, tmp_path: Path):
        def entry(image: str, **keys: Any) -> dict[str, Any]:
            joints = [[10.0 + i, 20.0 + 2 * i] for i in range(16)]
            return {"image": image, "joints": joints, "joints_vis": [1] * 16, "center": [9, 9], "scale": 1.0} | keys

        write(tmp_path, "annot/train.json", [entry("1.jpg"), entry("1.jpg"), entry("2.jpg", joints_vis=[0] * 16)])
        write(tmp_path, "annot/valid.json", [entry("3.jpg", joints=[[300.0, 20.0]] * 16)])
        write(tmp_path, "annot/test.json", [{"image": "4.jpg", "center": [9, 9], "scale": 1.0}, entry("gone.jpg")])
        write(tmp_path, "annot/trainval.json", [entry("1.jpg"), entry("3.jpg")])
        source = mpii.read(touch(tmp_path, *(f"images/{n}.jpg" for n in range(1, 6))))
        found = kept(source)
        assert {path: (item.split, len(item.boxes)) for path, item in found.items()} == {
            "images/1.jpg": ("train", 2), "images/2.jpg": ("train", 0), "images/3.jpg": (None, 1),
        }  # fmt: skip
        assert found["images/2.jpg"].defects == ("no joint of a person lies in the image: dropped",)
        assert told(source) == {
            "images/4.jpg": mpii.NO_TRUTH,
            "images/5.jpg": "image without annotation",
            "gone.jpg": "annotation without image: listed in annot/test.json",
        }

    def test_the_matlab_file(self, tmp_path: Path):
        points = np.array(
            [(float(x), 50.0, k, seen) for k, (x, seen) in enumerate([(20, "1"), (40, "0"), (60, [])])],
            dtype=[("x", object), ("y", object), ("id", object), ("is_visible", object)],
        )
        person = {"annopoints": {"point": points}, "scale": 1.0, "x1": 1, "y1": 1, "x2": 9, "y2": 9}
        annolist = np.array(
            [({"name": "1.jpg"}, person), ({"name": "2.jpg"}, {"scale": 2.0})],
            dtype=[("image", object), ("annorect", object)],
        )
        savemat(tmp_path / "mpii_human_pose_v1_u12_1.mat", {"RELEASE": {"annolist": annolist, "img_train": [1, 0]}})
        source = mpii.read(touch(tmp_path, "images/1.jpg", "images/2.jpg"))
        (item,) = kept(source).values()
        joints = np.reshape(item.boxes[0].keypoints, (16, 3))
        assert joints[:4].tolist() == [[20, 50, 2], [40, 50, 1], [60, 50, 2], [0, 0, 0]]
        assert told(source) == {"images/2.jpg": mpii.NO_TRUTH}

    def test_what_is_none(self, tmp_path: Path):
        (tmp_path / "a.json").write_text("{")
        with pytest.raises(ValueError, match=r"a\.json is not JSON that can be read"):
            mpii.read(tmp_path)


class TestOcHuman:
    def test_its_files_in_cocos_form(self, shared_data: Path):
        found = kept(ochuman.read(shared_data / "pose-samples/ochuman"))
        assert sum(bool(box.rle) for item in found.values() for box in item.boxes) == 5

    def test_its_own_file(self, tmp_path: Path):
        names = ["right_shoulder", "right_elbow", "neck", "head"]
        square = [10, 10, 50, 10, 50, 50, 10, 50]
        segms = {"outer": [square], "inner": [[20, 20, 30, 20, 30, 30, 20, 30]], "height": 100, "width": 200}
        persons = [
            {"bbox": [10, 10, 60, 90], "keypoints": [11, 12, 1, 13, 14, 2, 15, 16, 3, 7, 7, 0], "segms": segms},
            {"bbox": [1, 2, 30, 40], "keypoints": None, "segms": {"outer": [square], "inner": []}},
            {"bbox": [1, 2, 3], "keypoints": None, "segms": None},
            {"bbox": [1, 2, 30, 40], "keypoints": [1, 2, 9] * 4, "segms": None},
        ]
        image = {"image_id": "000001", "file_name": "1.jpg", "width": 200, "height": 100, "annotations": persons}
        write(tmp_path, "ochuman.json", {"keypoint_names": names, "images": [image, {"file_name": "2.jpg"}, 7]})
        source = ochuman.read(touch(tmp_path, "images/1.jpg", "images/3.jpg"))
        (item,) = kept(source).values()
        first, second = item.boxes
        assert first.xyxy == (10, 10, 60, 90)
        assert first.keypoints == (11, 12, 2, 13, 14, 2, 15, 16, 1, 0, 0, 0)
        pixels = mask.decode({"counts": first.rle, "size": [100, 200]})
        assert pixels[15, 15] and not pixels[25, 25]
        assert second.polygons == (tuple(map(float, square)),) and second.keypoints == (0.0,) * 12
        assert len(item.defects) == 2 and all("are not OCHuman's: dropped" in defect for defect in item.defects)
        assert source.skeleton_edges == ((0, 1), (2, 0), (3, 2))
        assert told(source)["2.jpg"] == "annotation without image: listed in ochuman.json"
        assert told(source)["images/3.jpg"] == "image without annotation"

    @pytest.mark.parametrize("text", ["{", "[]", '{"images": []}'])
    def test_what_is_none(self, tmp_path: Path, text: str):
        (tmp_path / "ochuman.json").write_text(text)
        with pytest.raises(ValueError, match=r"not JSON|has the lists keypoint_names and images"):
            ochuman.read(tmp_path)


class TestPoseTrack:
    def test_frames_have_their_video_and_regions_without_truth_are_crowds(self, shared_data: Path):
        root = shared_data / "pose-samples/posetrack18"
        listed = {
            e["vid_id"]: e for e in json.loads((root / "annotations/test_posetrack18_val.json").read_text())["images"]
        }
        found = kept(posetrack.read(root))
        assert {item.group for item in found.values()} == listed.keys() == {"003418", "009473", "012834"}
        for item in found.values():
            crowds = [box for box in item.boxes if box.is_crowd]
            assert len(crowds) == len(listed[item.group]["ignore_regions_x"])
            assert [len(box.polygons[0]) // 2 for box in crowds] == [
                len(x) for x in listed[item.group]["ignore_regions_x"]
            ]
            width, height = item.size_px
            boxes = [box.xyxy for box in item.boxes]
            assert all(0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height for x1, y1, x2, y2 in boxes)
            assert item.split == "val"  # of its folder, though the file is named *_test
        assert sum(not box.is_crowd for item in found.values() for box in item.boxes) == 14
        defects = {item.group: item.defects for item in found.values() if item.defects}
        assert defects["003418"] == ("1 boxes cut at the image's edge",)

    def test_jhmdb(self, shared_data: Path):
        found = kept(posetrack.read(shared_data / "pose-samples/jhmdb"))
        assert {item.group for item in found.values()} == {"00228", "00229", "00230"}
        assert any("@" in path for path in found)

    def test_what_is_none(self, shared_data: Path):
        with pytest.raises(ValueError, match="no image has a vid_id"):
            posetrack.read(shared_data / "pose-samples/aic")

    @pytest.mark.parametrize("x", [[1, 2], [1, 2, "x"], None, [1, 2, 3, 4], [500, 600, 700]])
    def test_a_region_that_is_none_is_left_out(self, tmp_path: Path, x: Any):
        image = {"id": 1, "file_name": "1.jpg", "width": 200, "height": 100, "vid_id": "7",
                 "ignore_regions_x": [x], "ignore_regions_y": [[1, 2, 9]]}  # fmt: skip
        content = {"images": [image], "annotations": [], "categories": [{"id": 1, "name": "person"}]}
        (item,) = kept(posetrack.read(touch(write(tmp_path, "a.json", content), "1.jpg"))).values()
        assert item.boxes == () and item.group == "7"
