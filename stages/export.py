"""Stage `export`: answers of a model, a JSON line each on stdin, as pictures and as a COCO file.

The first line has `classes`, `min_score`, perhaps `skeleton` and `coco`, the file to write; each further one has
`file`, `name`, `answer` and perhaps `picture`, the file to write.
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

from stages.data.images import decode_rgb
from stages.params.files import replacing, write_atomically
from stages.tracking.full_disk import advised
from stages.tracking.process import EXPECTED_ERRORS

SIDES_PX = (640, 1600)  # the long side of a picture: an image that is smaller or larger is scaled


def export(lines: Iterator[str]) -> None:
    """Write what the lines ask for; ValueError or OSError name the file that can't be read or written."""
    settings = json.loads(next(lines))
    skeleton = settings.get("skeleton")
    with _opened_coco(settings.get("coco"), settings["classes"], skeleton) as coco:
        for row in map(json.loads, lines):
            image = _image(row["file"])
            if "picture" in row:
                picture = draw(image, row["answer"], settings["classes"], settings["min_score"], skeleton)
                Path(row["picture"]).parent.mkdir(parents=True, exist_ok=True)
                write_atomically(Path(row["picture"]), picture)
            if coco:
                coco.add(row["name"], image.shape[1], image.shape[0], row["answer"])


def draw(
    image: NDArray[np.uint8],
    answer: Mapping[str, Any],
    classes: Sequence[str],
    min_score: float,
    skeleton: Mapping[str, Any] | None = None,
) -> bytes:
    """PNG of an image uint8 [H, W, 3] with the boxes, and joints, of at least a score, or with its likeliest labels."""
    from stages.pictures import predictions

    side_px = min(max(*image.shape[:2], SIDES_PX[0]), SIDES_PX[1])
    if "boxes" not in answer:
        return predictions.png(predictions.draw_scores(image, answer["scores"], side_px))
    boxes = [box for box in answer["boxes"] if box["score"] >= min_score]
    if skeleton and any("joints" in box for box in boxes):
        from stages.pictures.skeletons import draw_persons

        return predictions.png(draw_persons(image, boxes, classes, skeleton["joints"], skeleton["edges"], side_px))
    return predictions.png(predictions.draw_boxes(image, boxes, classes, side_px))


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
        """An image and its boxes, in its own pixels, or its likeliest label as an annotation without a box."""
        image_id = len(self.images) + 1
        unsure = {"uncertainty": answer["uncertainty"]} if "uncertainty" in answer else {}
        self.images.append({"id": image_id, "file_name": name, "width": width, "height": height, **unsure})
        for found in answer.get("boxes", [answer]):
            ids = {"id": self.num_annotations + 1, "image_id": image_id, "category_id": self.ids[found["label"]]}
            joints = _keypoints(found["joints"], self.joints) if "joints" in found else {}
            self.has_joints |= bool(joints)
            row = {**ids, **(_box(found["box_xyxy"]) if "box_xyxy" in found else {}), **joints, "score": found["score"]}
            self.file.write(f"{',' if self.num_annotations else ''}\n{json.dumps(row)}".encode())
            self.num_annotations += 1

    def finish(self) -> None:
        """Write the rest."""
        joints = self.of_joints if self.has_joints else {}
        categories = [{"id": number, "name": name, **joints} for name, number in self.ids.items()]
        rest = f'\n],\n"images": {json.dumps(self.images)},\n"categories": {json.dumps(categories)},\n'
        self.file.write(f'{rest}"info": {{"labelled": false}}}}\n'.encode())


def _box(box_xyxy: Sequence[float]) -> dict[str, Any]:
    """COCO's keys of a box, in float32, as evaluate writes them: the same numbers to the last bit."""
    x1, y1, x2, y2 = np.asarray(box_xyxy, np.float32)
    bbox = [float(v) for v in (x1, y1, x2 - x1, y2 - y1)]
    return {"bbox": bbox, "area": bbox[2] * bbox[3], "iscrowd": 0}


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
