"""Stage `export`: answers of a model, a JSON line each on stdin, as pictures and as a COCO file.

The first line has `classes`, `min_score` and perhaps `skeleton`, `coco`, the file to write, and `masks`, the folder of
index PNGs; each further one has `file`, `name`, `answer` and perhaps `picture` and `mask`, files to write.
"""

import json
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from stages.data import run_lengths
from stages.data.images import decode_rgb
from stages.params.files import replacing, write_atomically
from stages.tracking import findings
from stages.tracking.findings import Finding
from stages.tracking.full_disk import advised
from stages.tracking.process import EXPECTED_ERRORS

SIDES_PX = (640, 1600)  # the long side of a picture: an image that is smaller or larger is scaled


def export(lines: Iterator[str]) -> None:
    """Write what the lines ask for; ValueError or OSError name the file that can't be read or written."""
    settings = json.loads(next(lines))
    classes, skeleton = settings["classes"], settings.get("skeleton")
    if "masks" in settings:
        _write(Path(settings["masks"]) / "classes.txt", "".join(f"{name}\n" for name in classes).encode())
    with _opened_coco(settings.get("coco"), classes, skeleton) as coco:
        for row in map(json.loads, lines):
            image = _image(row["file"])
            if "picture" in row:
                picture = draw(image, row["answer"], classes, settings["min_score"], skeleton)
                _write(Path(row["picture"]), picture)
            if "mask" in row:
                _write(Path(row["mask"]), mask(row["answer"], classes))
            if coco:
                coco.add(row["name"], image.shape[1], image.shape[0], row["answer"])


def draw(
    image: NDArray[np.uint8],
    answer: Mapping[str, Any],
    classes: Sequence[str],
    min_score: float,
    skeleton: Mapping[str, Any] | None = None,
) -> bytes:
    """PNG of an image uint8 [H, W, 3] with its sure boxes, masks and joints, its segments or likeliest labels."""
    from stages.pictures import predictions, segments

    side_px = min(max(*image.shape[:2], SIDES_PX[0]), SIDES_PX[1])
    found = findings.read(answer)
    if found.form == "segments":
        classes_map = run_lengths.class_map(answer, classes)
        return predictions.png(segments.draw_classes(image, classes_map, classes, side_px))
    if found.form == "labels":
        return predictions.png(predictions.draw_scores(image, answer["scores"], side_px))
    boxes = found.sure(min_score)
    if skeleton and any("joints" in box for box in boxes):
        from stages.pictures.skeletons import draw_persons

        return predictions.png(draw_persons(image, boxes, classes, skeleton["joints"], skeleton["edges"], side_px))
    outlined = [run_lengths.shrunk(box["mask"], side_px) for box in boxes if "mask" in box]
    return predictions.png(predictions.draw_boxes(image, boxes, classes, side_px, outlined or None))


def mask(answer: Mapping[str, Any], classes: Sequence[str]) -> bytes:
    """Index PNG of an answer of segments: the value of a pixel is the place of its class, 255 for none."""
    from stages.pictures import segments

    return segments.index_png(run_lengths.class_map(answer, classes))


def _write(file: Path, data: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, data)


class CocoFile:
    """A COCO file that grows: annotations are written as they come, images and categories at the end.

    It says that these are no labels: ingest refuses it until a person has corrected it and says otherwise.
    """

    def __init__(self, file: BinaryIO, classes: Sequence[str], skeleton: Mapping[str, Any] | None = None) -> None:
        self.joints = skeleton["joints"] if skeleton else []
        edges = [[a + 1, b + 1] for a, b in skeleton["edges"]] if skeleton else []
        self.of_joints, self.has_joints = {"keypoints": self.joints, "skeleton": edges}, False
        self.file, self.ids = file, {name: number for number, name in enumerate(classes, start=1)}
        self.images: list[dict[str, Any]] = []
        self.num_annotations = 0
        file.write(b'{"annotations": [')

    def add(self, name: str, width: int, height: int, answer: Mapping[str, Any]) -> None:
        """An image with its boxes, masks or segments, in its own pixels, or its labels, annotations without a box."""
        image_id = len(self.images) + 1
        unsure = {"uncertainty": answer["uncertainty"]} if "uncertainty" in answer else {}
        self.images.append({"id": image_id, "file_name": name, "width": width, "height": height, **unsure})
        for found in findings.read(answer).findings:
            ids = {"id": self.num_annotations + 1, "image_id": image_id, "category_id": self.ids[found["label"]]}
            joints = _keypoints(found["joints"], self.joints) if "joints" in found else {}
            self.has_joints |= bool(joints)
            row = {**ids, **_shape(found), **joints, "score": found["score"]}
            self.file.write(f"{',' if self.num_annotations else ''}\n{json.dumps(row)}".encode())
            self.num_annotations += 1

    def finish(self) -> None:
        """Write the rest."""
        joints = self.of_joints if self.has_joints else {}
        categories = [{"id": number, "name": name, **joints} for name, number in self.ids.items()]
        rest = f'\n],\n"images": {json.dumps(self.images)},\n"categories": {json.dumps(categories)},\n'
        self.file.write(f'{rest}"info": {{"labelled": false}}}}\n'.encode())


def _shape(found: Finding) -> dict[str, Any]:
    """COCO's keys of where it is; none for a label of the whole image."""
    if "box_xyxy" in found:
        return _object(found)
    return _segment(found) if "segmentation" in found else {}


def _object(found: Finding) -> dict[str, Any]:
    """COCO's keys of a box, in float32, as evaluate writes them: the same numbers to the last bit; and of its mask."""
    x1, y1, x2, y2 = np.asarray(found["box_xyxy"], np.float32)
    bbox = [float(v) for v in (x1, y1, x2 - x1, y2 - y1)]
    if "mask" not in found:
        return {"bbox": bbox, "area": bbox[2] * bbox[3], "iscrowd": 0}
    return {"bbox": bbox, "area": run_lengths.area(found["mask"]), "iscrowd": 0, "segmentation": found["mask"]}


def _segment(found: Finding) -> dict[str, Any]:
    """COCO's keys of a segment in run lengths."""
    rle = found["segmentation"]
    x1, y1, x2, y2 = map(float, run_lengths.box_xyxy(rle))
    return {"segmentation": rle, "bbox": [x1, y1, x2 - x1, y2 - y1], "area": run_lengths.area(rle), "iscrowd": 0}


def _keypoints(joints: Mapping[str, Mapping[str, float]], names: Sequence[str]) -> dict[str, Any]:
    """COCO's keys of joints: all of them as seen, for a person to correct."""
    placed = [v for name in names for v in (joints[name]["x"], joints[name]["y"], 2)]
    return {"keypoints": placed, "num_keypoints": len(names)}


@contextmanager
def _opened_coco(
    path: str | None, classes: Sequence[str], skeleton: Mapping[str, Any] | None
) -> Iterator[CocoFile | None]:
    """A COCO file that is there when all went well, else not at all."""
    if path is None:
        yield None
        return
    with replacing(Path(path)) as file:
        coco = CocoFile(file, classes, skeleton)
        yield coco
        coco.finish()


def _image(file: str) -> NDArray[np.uint8]:
    try:
        return decode_rgb(Path(file).read_bytes())
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


if __name__ == "__main__":
    # Ctrl-C reaches the command too, which then ends this process; what it had begun to write goes with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        export(sys.stdin)
    except EXPECTED_ERRORS as error:
        sys.exit(f"visionline: export: {advised(str(error))}")
