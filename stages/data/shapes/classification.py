"""Pictures of one object each, in the layouts that ImageNet and ImageFolder have on disk."""

from dataclasses import dataclass
from pathlib import Path

from stages.data.shapes.scenes import PRETRAINING_KINDS, UNSEEN_SHAPES, portrait
from stages.data.shapes.studio import draw_all, generator, save, unfinished

WNIDS = {f"n9{number:07d}": kind for number, kind in enumerate(PRETRAINING_KINDS, start=1)}


@dataclass(frozen=True)
class Portrait:
    """One picture of one object; its pixels follow from `name` and what is to be in it."""

    file: Path
    name: tuple[str | int, ...]
    side_px: tuple[int, int]  # shortest and longest side
    shape: str
    texture: str | None = None  # None: any

    def draw(self) -> None:
        """Draw and write it."""
        rng = generator(*self.name)
        height, width = rng.integers(*self.side_px, 2, endpoint=True).tolist()
        save(portrait(rng, (height, width), self.shape, self.texture).photograph(), self.file)


def write_imagenet(
    folder: Path, train_per_class: int, val_per_class: int, image_px: int, seed: int, workers: int | None = None
) -> None:
    """ImageNet's train and val folders with 12 classes, each a shape in a texture; square pictures.

    FileExistsError when `folder` exists.
    """
    counts = {"train": train_per_class, "val": val_per_class}
    with unfinished(folder) as part:
        portraits = [
            Portrait(
                part / split / wnid / f"{wnid}_{number}.JPEG",
                (seed, "imagenet", split, wnid, number),
                (image_px, image_px),
                shape,
                texture,
            )
            for split, count in counts.items()
            for wnid, (shape, texture) in WNIDS.items()
            for number in range(count)
        ]
        draw_all(Portrait.draw, portraits, folder.name, workers)
        lines = (f"{wnid} {texture} {shape}\n" for wnid, (shape, texture) in WNIDS.items())
        (part / "LOC_synset_mapping.txt").write_text("".join(lines))


def write_imagefolder(
    folder: Path,
    train_per_class: int,
    val_per_class: int,
    test_per_class: int,
    side_px: tuple[int, int],
    seed: int,
    workers: int | None = None,
) -> None:
    """An ImageFolder of 8 shapes that `write_imagenet` never shows, in any texture; both sides within `side_px`.

    FileExistsError when `folder` exists.
    """
    counts = {"train": train_per_class, "val": val_per_class, "test": test_per_class}
    with unfinished(folder) as part:
        portraits = [
            Portrait(
                part / split / shape / f"{number:06d}.jpg",
                (seed, "imagefolder", split, shape, number),
                side_px,
                shape,
            )
            for split, count in counts.items()
            for shape in UNSEEN_SHAPES
            for number in range(count)
        ]
        draw_all(Portrait.draw, portraits, folder.name, workers)
