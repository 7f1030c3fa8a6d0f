"""Stage `export`: answers of a model, a JSON line each on stdin, as pictures and as a COCO file.

The first line has `classes`, `min_score` and perhaps `coco`, the file to write, and `masks`, the folder of index PNGs;
each further one has `file`, `name`, `answer` and perhaps `picture` and `mask`, files to write.
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
from stages.metrics import run_lengths
from stages.params.files import replacing, write_atomically
from stages.tracking.full_disk import advised
from stages.tracking.process import EXPECTED_ERRORS

SIDES_PX = (640, 1600)  # the long side of a picture: an image that is smaller or larger is scaled


def export(lines: Iterator[str]) -> None:
    """Write what the lines ask for; ValueError or OSError name the file that can't be read or written."""
    settings = json.loads(next(lines))
    if "masks" in settings:
        _write(Path(settings["masks"]) / "classes.txt", "".join(f"{name}\n" for name in settings["classes"]).encode())
    with _opened_coco(settings.get("coco"), settings["classes"]) as coco:
        for row in map(json.loads, lines):
            image = _image(row["file"])
            if "picture" in row:
                _write(Path(row["picture"]), draw(image, row["answer"], settings["classes"], settings["min_score"]))
            if "mask" in row:
                _write(Path(row["mask"]), mask(row["answer"], settings["classes"]))
            if coco:
                coco.add(row["name"], image.shape[1], image.shape[0], row["answer"])


def draw(image: NDArray[np.uint8], answer: Mapping[str, Any], classes: Sequence[str], min_score: float) -> bytes:
    """PNG of an image uint8 [H, W, 3] with the boxes of at least a score, with its likeliest labels or its segments."""
    from stages.pictures import predictions, segments

    side_px = min(max(*image.shape[:2], SIDES_PX[0]), SIDES_PX[1])
    if "segments" in answer:
        classes_map = run_lengths.class_map(answer, classes)
        return predictions.png(segments.draw_classes(image, classes_map, classes, side_px))
    if "boxes" not in answer:
        return predictions.png(predictions.draw_scores(image, answer["scores"], side_px))
    boxes = [box for box in answer["boxes"] if box["score"] >= min_score]
    return predictions.png(predictions.draw_boxes(image, boxes, classes, side_px))


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

    def __init__(self, file: BinaryIO, classes: Sequence[str]) -> None:
        self.file, self.ids = file, {name: number for number, name in enumerate(classes, start=1)}
        self.images: list[dict[str, Any]] = []
        self.num_annotations = 0
        file.write(b'{"annotations": [')

    def add(self, name: str, width: int, height: int, answer: Mapping[str, Any]) -> None:
        """An image, and its boxes or segments in its own pixels, or its likeliest label without any."""
        image_id = len(self.images) + 1
        unsure = {"uncertainty": answer["uncertainty"]} if "uncertainty" in answer else {}
        self.images.append({"id": image_id, "file_name": name, "width": width, "height": height, **unsure})
        for found in answer.get("boxes", answer.get("segments", [answer])):
            ids = {"id": self.num_annotations + 1, "image_id": image_id, "category_id": self.ids[found["label"]]}
            shape = (
                _box(found["box_xyxy"]) if "box_xyxy" in found else _segment(found) if "segmentation" in found else {}
            )
            row = {**ids, **shape, "score": found["score"]}
            self.file.write(f"{',' if self.num_annotations else ''}\n{json.dumps(row)}".encode())
            self.num_annotations += 1

    def finish(self) -> None:
        """Write the rest."""
        categories = [{"id": number, "name": name} for name, number in self.ids.items()]
        rest = f'\n],\n"images": {json.dumps(self.images)},\n"categories": {json.dumps(categories)},\n'
        self.file.write(f'{rest}"info": {{"labelled": false}}}}\n'.encode())


def _box(box_xyxy: Sequence[float]) -> dict[str, Any]:
    """COCO's keys of a box, in float32, as evaluate writes them: the same numbers to the last bit."""
    x1, y1, x2, y2 = np.asarray(box_xyxy, np.float32)
    bbox = [float(v) for v in (x1, y1, x2 - x1, y2 - y1)]
    return {"bbox": bbox, "area": bbox[2] * bbox[3], "iscrowd": 0}


def _segment(found: Mapping[str, Any]) -> dict[str, Any]:
    """COCO's keys of a segment in run lengths."""
    rle = found["segmentation"]
    area = int(run_lengths.decode(rle).sum())
    return {"segmentation": rle, "bbox": run_lengths.bbox_xywh(rle), "area": area, "iscrowd": 0}


@contextmanager
def _opened_coco(path: str | None, classes: Sequence[str]) -> Iterator[CocoFile | None]:
    """A COCO file that is there when all went well, else not at all."""
    if path is None:
        yield None
        return
    with replacing(Path(path)) as file:
        coco = CocoFile(file, classes)
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
