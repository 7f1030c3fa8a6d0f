"""The operation `export`: what a person reads, and mistakes in words."""

import io
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from flows import export
from flows.project import UsageError, WorkError
from stages.data.records import Blob, Box, Record, Source
from stages.ingest import ingest


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the dataset `cells`: two images, three boxes, one of them difficult."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    boxes = (Box("cell", (1, 2, 8, 9)), Box("dust", (3, 3, 5, 5), difficult=True))
    records = []
    for number, things in enumerate((boxes, boxes[:1])):
        Image.new("RGB", (20, 16 + number)).save(tmp_path / f"{number}.png")
        records.append(
            Record(f"{number}.png", Blob(tmp_path / f"{number}.png"), ("train", "val")[number], boxes=things)
        )
    classes = {"cell": "cell", "dust": "dust"}
    ingest(Path("data/cells"), Source("detection", classes, lambda: iter(records)), progress=False, workers=1)
    return tmp_path


def shown(result: object) -> str:
    out = io.StringIO()
    export.show(result, Console(file=out, width=200))
    return out.getvalue()


def test_what_was_written_and_what_could_not_be_held(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    result = export.export("cells", here / "out", "yolo")
    assert (here / "out/labels/train/0.txt").read_text() == "0 0.225 0.34375 0.35 0.4375\n1 0.2 0.25 0.1 0.125\n"
    assert shown(result) == (
        f"cells: 2 images, 3 objects (train 1, val 1) as yolo in {here}/out\nyolo could not hold: 1 difficult flags\n"
    )
    assert shown(export.export("cells", here / "coco", "coco", ["--split", "val", "--strict"])).count("\n") == 1
    with pytest.raises(WorkError):
        export.export("cells", here / "strict", "yolo", ["--strict"])
    told = "export cells: yolo can't hold 1 difficult flags (strict: nothing was written)\n"
    assert capfd.readouterr().err == told and not (here / "strict").exists()


def test_mistakes_are_told_before_anything_starts(here: Path) -> None:
    with pytest.raises(UsageError, match=r"--format nothing: can't be written; there are: .*coco.*voc, yolo"):
        export.export("cells", here / "out", "nothing")
    with pytest.raises(UsageError, match="bones has no data here; there are: cells"):
        export.export("bones", here / "out", "coco")
    with pytest.raises(UsageError, match="is there already: name a folder that is new or empty"):
        export.export("cells", here / "data", "coco")
