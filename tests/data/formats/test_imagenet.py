"""stages/data/formats/imagenet.py: the tar files as distributed, folders, Kaggle's layout, one flat folder."""

import gzip
import io
import random
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from stages.data.formats.imagenet import read
from stages.data.records import Record, Rejected

TENCH, SHARK, CRANE, MACHINE, ANIMAL = "n01440764", "n01491361", "n02012849", "n03126707", "n00015388"
# The ids of the devkit are not in the order of the wnids, and parents in the hierarchy follow the classes.
SYNSETS = [
    (1, CRANE, "crane", 0),
    (2, TENCH, "tench, Tinca tinca", 0),
    (3, MACHINE, "crane", 0),
    (4, SHARK, "tiger shark, Galeocerdo cuvieri", 0),
    (5, ANIMAL, "animal, animate being", 2),
]
VAL_IDS = [2, 4, 4, 1]
VAL_LABELS = [TENCH, SHARK, SHARK, CRANE]
TITLES = {TENCH: "tench", SHARK: "tiger shark", CRANE: "crane"}


def image(name: str) -> bytes:
    return random.Random(name).randbytes(700)


def tar_of(members: dict[str, bytes], fmt: int = tarfile.GNU_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=fmt) as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def classes(*wnids: str, per_class: int = 3) -> dict[str, list[str]]:
    return {wnid: [f"{wnid}_{n}.JPEG" for n in (10026, 9, 18)[:per_class]] for wnid in wnids}


def write_train_tar(root: Path, *wnids: str) -> None:
    inner = {f"{wnid}.tar": tar_of({name: image(name) for name in names}) for wnid, names in classes(*wnids).items()}
    (root / "ILSVRC2012_img_train.tar").write_bytes(tar_of(inner))


def val_names(count: int = 4) -> list[str]:
    return [f"ILSVRC2012_val_{n:08d}.JPEG" for n in range(1, count + 1)]


def write_val_tar(root: Path, count: int = 4) -> None:
    (root / "ILSVRC2012_img_val.tar").write_bytes(tar_of({name: image(name) for name in reversed(val_names(count))}))


def devkit_files() -> dict[str, bytes]:
    fields = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("gloss", "O"), ("num_children", "O")]
    synsets = np.array([(id, wnid, words, "-", children) for id, wnid, words, children in SYNSETS], dtype=fields)
    meta = io.BytesIO()
    savemat(meta, {"synsets": synsets[:, None]})
    truth = "".join(f"{id}\n" for id in VAL_IDS).encode()
    return {"data/meta.mat": meta.getvalue(), "data/ILSVRC2012_validation_ground_truth.txt": truth}


def write_packed_devkit(root: Path) -> None:
    members = {f"ILSVRC2012_devkit_t12/{name}": content for name, content in devkit_files().items()}
    (root / "ILSVRC2012_devkit_t12.tar.gz").write_bytes(gzip.compress(tar_of({"readme.txt": b"", **members})))


def write_devkit_folder(root: Path, folder: str) -> None:
    (root / folder / "data").mkdir(parents=True)
    for name, content in devkit_files().items():
        (root / folder / name).write_bytes(content)


def write_train_folders(folder: Path, *wnids: str) -> None:
    for wnid, names in classes(*wnids).items():
        (folder / wnid).mkdir(parents=True)
        for name in names:
            (folder / wnid / name).write_bytes(image(name))


def write_flat(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(image(name))


def labels(root: Path, split: str | None) -> dict[str, str]:
    items = (item for item in read(root).records() if isinstance(item, Record) and item.split == split)
    return {item.path.split("/")[-1]: item.labels[0] for item in items}


def rejected(root: Path) -> dict[str, str]:
    return {item.path: item.reason for item in read(root).records() if isinstance(item, Rejected)}


EXPECTED_VAL = dict(zip(val_names(), VAL_LABELS, strict=True))
EXPECTED_TRAIN = {name: wnid for wnid, names in classes(TENCH, SHARK).items() for name in names}


class TestTars:
    def test_every_image_is_read_in_place(self, tmp_path: Path):
        write_train_tar(tmp_path, SHARK, TENCH)
        write_val_tar(tmp_path)
        write_packed_devkit(tmp_path)
        source = read(tmp_path)
        items = list(source.records())
        assert [item.path for item in items] == sorted(item.path for item in items)
        assert f"ILSVRC2012_img_train.tar/{TENCH}.tar/{TENCH}_9.JPEG" in [item.path for item in items]
        assert all(isinstance(item, Record) for item in items)
        assert labels(tmp_path, "train") == EXPECTED_TRAIN
        assert labels(tmp_path, "val") == EXPECTED_VAL
        for item in items:
            assert item.image.read() == image(item.path.split("/")[-1])
        assert source.classes == TITLES
        assert list(source.classes) == sorted(source.classes)

    @pytest.mark.parametrize("folder", ["", "ILSVRC2012_devkit_t12"])
    def test_an_unpacked_devkit_says_the_same(self, tmp_path: Path, folder: str):
        write_val_tar(tmp_path)
        write_devkit_folder(tmp_path, folder)
        assert labels(tmp_path, "val") == EXPECTED_VAL

    def test_train_alone_needs_no_devkit(self, tmp_path: Path):
        write_train_tar(tmp_path, TENCH, SHARK)
        assert read(tmp_path).classes == {TENCH: TENCH, SHARK: SHARK}
        assert labels(tmp_path, "train") == EXPECTED_TRAIN

    def test_val_alone_has_the_classes_of_its_images(self, tmp_path: Path):
        write_val_tar(tmp_path, count=1)
        write_packed_devkit(tmp_path)
        assert read(tmp_path).classes == {TENCH: "tench"}

    def test_val_without_ground_truth_says_what_is_missing(self, tmp_path: Path):
        write_val_tar(tmp_path)
        with pytest.raises(ValueError, match=r"has no labels: looked beside it for .*devkit_t12\.tar\.gz"):
            read(tmp_path)

    def test_an_image_beyond_the_ground_truth_is_reported(self, tmp_path: Path):
        write_val_tar(tmp_path, count=5)
        write_packed_devkit(tmp_path)
        assert rejected(tmp_path) == {f"ILSVRC2012_img_val.tar/{val_names(5)[-1]}": "not an image in the ground truth"}
        assert labels(tmp_path, "val") == EXPECTED_VAL

    @pytest.mark.parametrize("name", ["ILSVRC2012_img_train.tar", "ILSVRC2012_img_train.tar.gz"])
    def test_a_compressed_tar_is_refused(self, tmp_path: Path, name: str):
        write_train_tar(tmp_path, TENCH)
        packed = gzip.compress((tmp_path / "ILSVRC2012_img_train.tar").read_bytes())
        (tmp_path / "ILSVRC2012_img_train.tar").unlink()
        (tmp_path / name).write_bytes(packed)
        with pytest.raises(ValueError, match=r"is compressed \(gzip\): unpack it to ILSVRC2012_img_train\.tar"):
            read(tmp_path)

    def test_a_bad_inner_tar_does_not_stop_the_rest(self, tmp_path: Path):
        good = tar_of({f"{TENCH}_1.JPEG": image("t")})
        inner = {
            f"{TENCH}.tar": good,
            f"{SHARK}.tar": gzip.compress(good),
            f"{CRANE}.tar": b"no tar at all" * 100,
            f"{MACHINE}.tar": b"",
            "readme.txt": b"hello",
        }
        (tmp_path / "ILSVRC2012_img_train.tar").write_bytes(tar_of(inner))
        assert labels(tmp_path, "train") == {f"{TENCH}_1.JPEG": TENCH}
        assert rejected(tmp_path) == {
            f"ILSVRC2012_img_train.tar/{SHARK}.tar": "compressed (gzip): its images can't be read in place",
            f"ILSVRC2012_img_train.tar/{CRANE}.tar": "damaged tar: no header at byte 0, the rest is not read",
            f"ILSVRC2012_img_train.tar/{MACHINE}.tar": "a tar without files",
            "ILSVRC2012_img_train.tar/readme.txt": "not a tar named by a wnid",
        }

    def test_a_header_overwritten_in_the_middle_is_not_taken_for_the_end(self, tmp_path: Path):
        inner = bytearray(tar_of({f"{TENCH}_{n}.JPEG": bytes([n]) * 512 for n in (1, 2, 3)}))
        inner[1024 + 100 : 1024 + 200] = b"?" * 100
        (tmp_path / "ILSVRC2012_img_train.tar").write_bytes(tar_of({f"{TENCH}.tar": bytes(inner)}))
        assert labels(tmp_path, "train") == {f"{TENCH}_1.JPEG": TENCH}
        assert rejected(tmp_path) == {
            f"ILSVRC2012_img_train.tar/{TENCH}.tar": "damaged tar: no header at byte 1024, the rest is not read"
        }

    def test_a_download_cut_short_keeps_what_is_whole(self, tmp_path: Path):
        write_train_tar(tmp_path, TENCH, SHARK)
        whole = (tmp_path / "ILSVRC2012_img_train.tar").read_bytes()
        inner_size = len(tar_of({name: image(name) for name in classes(TENCH)[TENCH]}))
        (tmp_path / "ILSVRC2012_img_train.tar").write_bytes(whole[: 512 + inner_size + 512 + 600])
        assert set(labels(tmp_path, "train").values()) == {TENCH}
        assert "cut short" in rejected(tmp_path)[f"ILSVRC2012_img_train.tar/{SHARK}.tar"]

    def test_members_that_leave_the_tar_or_are_links_are_reported(self, tmp_path: Path):
        buffer = io.BytesIO(
            tar_of({"../evil.JPEG": b"x", "/abs.JPEG": b"x", "caf\udce9.JPEG": b"x", "good.JPEG": b"y"})
        )
        with tarfile.open(fileobj=buffer, mode="a") as tar:
            link = tarfile.TarInfo("link.JPEG")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(link)
        (tmp_path / "ILSVRC2012_img_train.tar").write_bytes(tar_of({f"{TENCH}.tar": buffer.getvalue()}))
        reasons = {path.split(".tar/")[-1]: reason for path, reason in rejected(tmp_path).items()}
        assert reasons == {
            "../evil.JPEG": "member name leaves the tar",
            "/abs.JPEG": "member name leaves the tar",
            "caf\\udce9.JPEG": "member name is not UTF-8",
            "link.JPEG": "not a regular file",
        }
        assert labels(tmp_path, "train") == {"good.JPEG": TENCH}

    @pytest.mark.parametrize("fmt", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
    def test_long_names_are_read(self, tmp_path: Path, fmt: int):
        name = f"{TENCH}_{'é' * 60}.JPEG"
        inner = tar_of({name: image(name), "./b.JPEG": image("b")}, fmt)
        (tmp_path / "ILSVRC2012_img_train.tar").write_bytes(tar_of({f"{TENCH}.tar": inner}))
        assert labels(tmp_path, "train") == {name: TENCH, "b.JPEG": TENCH}

    def test_a_broken_devkit_is_one_clear_line(self, tmp_path: Path):
        write_val_tar(tmp_path)
        (tmp_path / "ILSVRC2012_devkit_t12.tar.gz").write_bytes(b"<html>404</html>")
        with pytest.raises(ValueError, match=r"devkit .*ILSVRC2012_devkit_t12\.tar\.gz can't be read"):
            read(tmp_path)
        (tmp_path / "ILSVRC2012_devkit_t12.tar.gz").unlink()
        write_devkit_folder(tmp_path, "devkit")
        (tmp_path / "devkit" / "data" / "meta.mat").write_bytes(b"no matrix")
        with pytest.raises(ValueError, match="devkit devkit/data is not ILSVRC2012's"):
            read(tmp_path)


class TestFolders:
    def test_train_and_val_in_folders(self, tmp_path: Path):
        write_train_folders(tmp_path / "train", TENCH, SHARK)
        write_train_folders(tmp_path / "val", TENCH)
        (tmp_path / "words.txt").write_text(f"{TENCH}\ttench, Tinca tinca\n{SHARK}\ttiger shark\n")
        assert read(tmp_path).classes == {TENCH: "tench", SHARK: "tiger shark"}
        assert labels(tmp_path, "train") == EXPECTED_TRAIN
        assert labels(tmp_path, "val") == dict.fromkeys(classes(TENCH)[TENCH], TENCH)

    def test_flat_val_with_the_devkit(self, tmp_path: Path):
        write_train_folders(tmp_path / "train", TENCH)
        write_flat(tmp_path / "val", val_names())
        write_packed_devkit(tmp_path)
        assert labels(tmp_path, "val") == EXPECTED_VAL
        assert read(tmp_path).classes == TITLES

    def test_flat_val_with_val_annotations(self, tmp_path: Path):
        write_train_folders(tmp_path / "train", TENCH, SHARK)
        write_flat(tmp_path / "val", ["a.JPEG", "b.JPEG"])
        (tmp_path / "val" / "val_annotations.txt").write_text(f"a.JPEG\t{TENCH}\t0\t0\t1\t1\n")
        assert labels(tmp_path, "val") == {"a.JPEG": TENCH}
        assert list(rejected(tmp_path)) == ["val/b.JPEG"]

    def test_kaggles_layout(self, tmp_path: Path):
        base = tmp_path / "ILSVRC" / "Data" / "CLS-LOC"
        write_train_folders(base / "train", TENCH, SHARK)
        write_flat(base / "val", val_names())
        write_flat(base / "test", ["ILSVRC2012_test_00000001.JPEG"])
        (tmp_path / "ILSVRC" / "Annotations" / "CLS-LOC").mkdir(parents=True)
        rows = [f"{name[:-5]},{wnid} 1 2 3 4 {wnid} 5 6 7 8 " for name, wnid in EXPECTED_VAL.items()]
        (tmp_path / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *rows]) + "\n")
        names = "".join(f"{wnid} {words}\n" for _, wnid, words, _ in SYNSETS)
        (tmp_path / "LOC_synset_mapping.txt").write_text(names)
        source = read(tmp_path)
        assert labels(tmp_path, "train") == EXPECTED_TRAIN
        assert labels(tmp_path, "val") == EXPECTED_VAL
        assert source.classes == TITLES
        assert source.notes == ("the 1 images of ILSVRC/Data/CLS-LOC/test have no labels: left out",)
        assert rejected(tmp_path) == {}

    def test_class_folders_without_splits(self, tmp_path: Path):
        write_train_folders(tmp_path, TENCH, SHARK)
        assert labels(tmp_path, None) == EXPECTED_TRAIN

    def test_flat_val_without_labels_says_what_was_looked_for(self, tmp_path: Path):
        write_train_folders(tmp_path / "train", TENCH)
        write_flat(tmp_path / "val", val_names())
        with pytest.raises(ValueError, match=r"val is flat and has no labels: looked in .*LOC_val_solution\.csv"):
            read(tmp_path)

    def test_other_class_names_point_to_imagefolder(self, tmp_path: Path):
        write_flat(tmp_path / "train" / "cat", ["1.jpg"])
        with pytest.raises(ValueError, match="for other class names use imagefolder"):
            read(tmp_path)


class TestFlat:
    def test_the_sample_images(self, shared_data: Path):
        source = read(shared_data / "imagenet-sample")
        records = list(source.records())
        assert len(records) == len(source.classes) == 214
        assert source.classes["n01629819"] == "European fire salamander"
        assert all(item.split is None and item.path.startswith(item.labels[0]) for item in records)
        assert Counter(len(item.labels) for item in records) == {1: 214}

    def test_numbers_in_the_name_are_no_words(self, tmp_path: Path):
        write_flat(tmp_path, [f"{TENCH}_10026.JPEG", f"{SHARK}_tiger_shark.JPEG", "holiday.JPEG"])
        assert read(tmp_path).classes == {TENCH: TENCH, SHARK: "tiger shark"}
        assert list(rejected(tmp_path)) == ["holiday.JPEG"]
