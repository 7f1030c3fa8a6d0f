"""Stage `generate`: draw the dataset of shapes in four formats. `python -m stages.generate FOLDER`."""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from stages.data.shapes import write_coco, write_imagefolder, write_imagenet, write_voc

FORMATS = ("imagenet", "coco", "voc", "imagefolder")


def generate(options: argparse.Namespace) -> None:
    """Write FOLDER/imagenet, FOLDER/coco, ... as the command line asks; what is there already is left alone."""
    for fmt in options.only or FORMATS:
        folder = options.folder / fmt
        if folder.exists():
            print(f"{folder} is there already: left as it is")
        else:
            _writer(fmt, options)(folder, seed=options.seed, workers=options.workers)
            print(f"wrote {folder}", flush=True)


def _writer(fmt: str, options: argparse.Namespace) -> Callable[..., None]:
    train, val, *test = (max(1, round(count * options.scale)) for count in getattr(options, fmt, options.scenes))
    if fmt == "imagenet":
        return partial(write_imagenet, train_per_class=train, val_per_class=val, image_px=options.imagenet_px)
    if fmt == "imagefolder":
        counts = {"train_per_class": train, "val_per_class": val, "test_per_class": test[0]}
        return partial(write_imagefolder, **counts, side_px=tuple(sorted(options.imagefolder_px)))
    write = write_coco if fmt == "coco" else write_voc
    return partial(write, num_train=train, num_val=val, num_test=test[0], size_px=tuple(options.scene_size))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m stages.generate",
        description="Draw textured shapes into FOLDER/imagenet, coco, voc and imagefolder; the seed fixes every byte.",
        epilog="example: python -m stages.generate drawn --only imagenet --only coco --scale 0.1",
    )
    add, count, side_px, splits = parser.add_argument, _within(1, 999_999), _within(32, 4096), ("TRAIN", "VAL", "TEST")
    add("folder", type=Path, metavar="FOLDER")
    add("--only", action="append", choices=FORMATS, help="this format; may be repeated; without it: all")
    add("--seed", type=int, default=0, help="of all pictures [0]")
    add("--scale", type=float, default=1.0, help="factor on every number of pictures [1.0]")
    add("--imagenet", type=count, nargs=2, default=(130, 20), metavar=splits[:2], help="pictures a class [130 20]")
    add("--imagenet-px", type=side_px, default=64, metavar="PX", help="side of the square pictures, pixels [64]")
    add("--scenes", type=count, nargs=3, default=(320, 40, 80), metavar=splits, help="of coco and voc [320 40 80]")
    add("--scene-size", type=side_px, nargs=2, default=(128, 160), metavar=("HEIGHT", "WIDTH"), help="pixels [128 160]")
    add("--imagefolder", type=count, nargs=3, default=(40, 10, 25), metavar=splits, help="pictures a class [40 10 25]")
    add("--imagefolder-px", type=side_px, nargs=2, default=(64, 96), metavar=("MIN", "MAX"), help="sides [64 96]")
    add("--workers", type=count, help="processes; without it: one a core")
    return parser


def _within(least: int, most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number within {least} and {most}")
        return int(text)

    return number


if __name__ == "__main__":
    generate(_parser().parse_args(sys.argv[1:]))
