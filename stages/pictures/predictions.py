"""Predictions drawn on their images."""

import colorsys
import functools
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]
Masks = Sequence[NDArray[np.bool_]]  # [h, w] each, of the whole image, whatever its scale
MASK_OPACITY = 0.4
INK, PAPER, SHADE = (34, 34, 34), (255, 255, 255), (228, 232, 238)
RIGHT, WRONG = (0, 130, 70), (200, 30, 30)
GAP_PX = 8
FONT_PX = 13
TAG_PX = 200  # a box's text is cut here
STRIP_PX = 22  # of text above or below an image


class Boxes(Protocol):
    """What is in an image: stages.metrics.detection.Target, for one."""

    boxes_xyxy: NDArray[Any]  # [M, 4] pixels
    labels: NDArray[Any]  # [M] class indices


class ScoredBoxes(Protocol):
    """What was found in an image: stages.metrics.detection.Prediction, for one."""

    boxes_xyxy: NDArray[Any]  # [N, 4] pixels
    labels: NDArray[Any]  # [N] class indices
    scores: NDArray[Any]  # [N]


def draw_detections(
    image: NDArray[np.uint8],
    truth: Boxes,
    prediction: ScoredBoxes,
    class_names: Sequence[str],
    score_threshold: float = 0.5,
    long_side_px: int = 640,
    masks: tuple[Masks, Masks] | None = None,
) -> Image.Image:
    """The image uint8 [H, W, 3] twice: left with the true boxes, right with the found ones of at least a score.

    Each half is scaled so that its long side has long_side_px; a class has one colour. masks: of each true and of each
    found box; then an object has one colour.
    """
    shown = np.flatnonzero(prediction.scores >= score_threshold)
    shown = shown[np.argsort(prediction.scores[shown], kind="stable")]  # the surest on top
    found = [f"{class_names[prediction.labels[i]]} {prediction.scores[i]:.2f}" for i in shown]
    truths = [class_names[label] for label in truth.labels]
    true_masks, found_masks = masks or (None, None)
    found_masks = found_masks and [found_masks[i] for i in shown.tolist()]
    left = _with_boxes(image, truth.boxes_xyxy, truth.labels, truths, long_side_px, true_masks)
    right = _with_boxes(image, prediction.boxes_xyxy[shown], prediction.labels[shown], found, long_side_px, found_masks)
    captions = [f"truth: {len(truths)}", f"found with a score of at least {score_threshold:g}: {len(found)}"]
    return contact_sheet([left, right], captions, columns=2)


def draw_classifications(
    image: NDArray[np.uint8], truth: int, probabilities: NDArray[Any], class_names: Sequence[str], size_px: int = 224
) -> Image.Image:
    """The image uint8 [H, W, 3] with its true class and the three most probable ones, in a green or red frame.

    It is scaled to fit a square of size_px; probabilities are [C]. The frame is green when the most probable is true.
    """
    best = np.argsort(-probabilities, kind="stable")[:3]
    inks = [RIGHT if i == truth else WRONG if row == 0 else INK for row, i in enumerate(best)]
    lines = [(class_names[i], ink, float(probabilities[i])) for i, ink in zip(best, inks, strict=True)]
    return _framed(image, f"truth: {class_names[truth]}", lines, RIGHT if best[0] == truth else WRONG, size_px)


def draw_labels(
    image: NDArray[np.uint8],
    truth: Sequence[int],
    probabilities: NDArray[Any],
    class_names: Sequence[str],
    threshold: float,
    size_px: int = 224,
) -> Image.Image:
    """As draw_classifications, for any number of labels: green those that are there, red what was wrongly given.

    The frame is green when exactly the true ones reach the threshold.
    """
    best = np.argsort(-probabilities, kind="stable")[:3]
    inks = [RIGHT if i in truth else WRONG if probabilities[i] >= threshold else INK for i in best]
    lines = [(class_names[i], ink, float(probabilities[i])) for i, ink in zip(best, inks, strict=True)]
    is_exact = {*truth} == {*np.flatnonzero(probabilities >= threshold).tolist()}
    names = ", ".join(class_names[i] for i in truth) or "nothing"
    return _framed(image, f"truth: {names}", lines, RIGHT if is_exact else WRONG, size_px)


def _framed(
    image: NDArray[np.uint8], truth: str, lines: Sequence[tuple[str, Colour, float]], colour: Colour, size_px: int
) -> Image.Image:
    """The image in a frame, and below it the truth and up to three lines with a share each."""
    frame = 6
    sheet = Image.new("RGB", (size_px + 2 * frame, size_px + 2 * frame + STRIP_PX * 4), colour)
    draw = ImageDraw.Draw(sheet)
    draw.rectangle((frame, frame, sheet.width - frame - 1, sheet.height - frame - 1), fill=PAPER)
    fitted = _scaled(image, size_px)
    sheet.paste(fitted, (frame + (size_px - fitted.width) // 2, frame + (size_px - fitted.height) // 2))
    line = functools.partial(_draw_line, draw, frame, size_px)
    line(frame + size_px, truth, INK)
    for row, (name, ink, share) in enumerate(lines, start=1):
        line(frame + size_px + STRIP_PX * row, name, ink, share)
    return sheet


def draw_boxes(
    image: NDArray[np.uint8],
    boxes: Sequence[Mapping[str, Any]],
    class_names: Sequence[str],
    long_side_px: int = 640,
    masks: Masks | None = None,
) -> Image.Image:
    """The image uint8 [H, W, 3] with boxes as a model answers them: label, score, box_xyxy in pixels of the image.

    masks: of each box; then an object has one colour, and not a class.
    """
    order = sorted(range(len(boxes)), key=lambda i: boxes[i]["score"])  # the surest on top
    ordered = [boxes[i] for i in order]
    corners = np.array([box["box_xyxy"] for box in ordered], np.float64).reshape(-1, 4)
    labels = np.array([class_names.index(box["label"]) for box in ordered], np.int64)
    texts = [f"{box['label']} {box['score']:.2f}" for box in ordered]
    return _with_boxes(image, corners, labels, texts, long_side_px, masks and [masks[i] for i in order])


def draw_scores(
    image: NDArray[np.uint8], scores: Mapping[str, float], long_side_px: int = 640, num_labels: int = 3
) -> Image.Image:
    """The image uint8 [H, W, 3] with its most probable labels below it, each over a bar as long as its score."""
    fitted = _scaled(image, long_side_px)
    best = sorted(scores.items(), key=lambda item: -item[1])[:num_labels]
    width = max(fitted.width, TAG_PX)
    sheet = Image.new("RGB", (width, fitted.height + STRIP_PX * len(best)), PAPER)
    sheet.paste(fitted, ((width - fitted.width) // 2, 0))
    draw = ImageDraw.Draw(sheet)
    for row, (label, score) in enumerate(best):
        _draw_line(draw, 0, width, fitted.height + STRIP_PX * row, label, INK, score)
    return sheet


def contact_sheet(images: Sequence[Image.Image], captions: Sequence[str], columns: int = 4) -> Image.Image:
    """Images in rows, centred in cells of the largest one's size, each with a caption above.

    ValueError when there are none.
    """
    if not images:
        raise ValueError("a contact sheet needs at least one image")
    columns = min(columns, len(images))
    width, height = max(i.width for i in images), max(i.height for i in images) + STRIP_PX
    rows = math.ceil(len(images) / columns)
    sheet = Image.new("RGB", (columns * (width + GAP_PX) + GAP_PX, rows * (height + GAP_PX) + GAP_PX), PAPER)
    draw = ImageDraw.Draw(sheet)
    for place, (image, caption) in enumerate(zip(images, captions, strict=True)):
        x = GAP_PX + place % columns * (width + GAP_PX)
        y = GAP_PX + place // columns * (height + GAP_PX)
        draw.text((x, y + STRIP_PX // 2), _fitted(caption, width), INK, tag_font(), anchor="lm")
        sheet.paste(image, (x + (width - image.width) // 2, y + STRIP_PX))
    return sheet


def class_colour(label: int) -> Colour:
    """A colour for a class index: hues a golden ratio apart, so that neighbours differ."""
    red, green, blue = colorsys.hsv_to_rgb((0.58 + label * 0.618034) % 1.0, 0.85, 0.95 if label % 2 == 0 else 0.75)
    return round(red * 255), round(green * 255), round(blue * 255)


def png(image: Image.Image) -> bytes:
    """The image as PNG bytes."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _draw_line(
    draw: ImageDraw.ImageDraw, x: int, width: int, y: int, text: str, ink: Colour, share: float | None = None
) -> None:
    """A line of text, over a bar as long as its share of 1, which is written at its end."""
    middle, room = y + STRIP_PX // 2, width - 8
    if share is not None:
        draw.rectangle((x, y + 1, x + round((width - 1) * min(share, 1.0)), y + STRIP_PX - 2), fill=SHADE)
        draw.text((x + width - 4, middle), f"{share:.2f}", ink, tag_font(), anchor="rm")
        room -= 36
    draw.text((x + 4, middle), _fitted(text, room), ink, tag_font(), anchor="lm")


def _with_boxes(
    image: NDArray[np.uint8],
    boxes_xyxy: NDArray[Any],
    labels: NDArray[Any],
    texts: Sequence[str],
    long_side_px: int,
    masks: Masks | None = None,
) -> Image.Image:
    """The scaled image with boxes [N, 4], a text on each; texts are drawn last, so that no box crosses one."""
    drawn = _scaled(image, long_side_px)
    scale = drawn.width / image.shape[1]
    boxes = [tuple(box) for box in (boxes_xyxy * scale).round().astype(int).tolist()]
    # Objects of one class overlap: with masks, each has a colour of its own.
    colours = [class_colour(int(number)) for number in (labels if masks is None else range(len(boxes)))]
    drawn = with_masks(drawn, masks or [], colours)
    draw = ImageDraw.Draw(drawn)
    for box, colour in zip(boxes, colours, strict=True):
        draw.rectangle(_inside(box, drawn), outline=colour, width=2)
    for box, colour, text in zip(boxes, colours, texts, strict=True):
        _draw_tag(draw, drawn, box, colour, text)
    return drawn


def with_masks(image: Image.Image, masks: Masks, colours: Sequence[Colour]) -> Image.Image:
    """The image under translucent masks (of any size, scaled to it), the outline of each in its full colour."""
    pixels = np.asarray(image, np.float32).copy()
    for mask, colour in zip(masks, colours, strict=False):
        scaled = np.asarray(Image.fromarray(mask).resize(image.size, Image.Resampling.NEAREST), bool)
        framed = np.pad(scaled, 1, mode="edge")
        inner = framed[:-2, 1:-1] & framed[2:, 1:-1] & framed[1:-1, :-2] & framed[1:-1, 2:]
        pixels[scaled] = (1 - MASK_OPACITY) * pixels[scaled] + MASK_OPACITY * np.array(colour, np.float32)
        pixels[scaled & ~inner] = colour
    return Image.fromarray(pixels.round().astype(np.uint8))


def _inside(box: tuple[int, ...], image: Image.Image) -> tuple[int, int, int, int]:
    """The box within the image, its right and bottom edge not before its left and top one."""
    x1, y1 = min(max(box[0], 0), image.width - 1), min(max(box[1], 0), image.height - 1)
    return x1, y1, max(x1, min(box[2], image.width - 1)), max(y1, min(box[3], image.height - 1))


def _draw_tag(draw: ImageDraw.ImageDraw, image: Image.Image, box: tuple[int, ...], colour: Colour, text: str) -> None:
    """A text on its colour, above the box where there is room, never outside the image."""
    text = _fitted(text, TAG_PX)
    width, height = round(draw.textlength(text, tag_font())) + 6, FONT_PX + 4
    x1, y1, _, _ = _inside(box, image)
    x = max(0, min(x1, image.width - width))
    y = y1 - height if y1 >= height else min(y1, image.height - height)
    draw.rectangle((x, y, x + width - 1, y + height - 1), fill=colour)
    is_light = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 140
    draw.text((x + 3, y + height // 2), text, INK if is_light else PAPER, tag_font(), anchor="lm")


def _scaled(image: NDArray[np.uint8], long_side_px: int) -> Image.Image:
    """The image with its long side at long_side_px."""
    source = Image.fromarray(image)
    scale = long_side_px / max(source.size)
    size = max(1, round(source.width * scale)), max(1, round(source.height * scale))
    return source.resize(size, Image.Resampling.BICUBIC)


def _fitted(text: str, width_px: int) -> str:
    """The text, cut where it would be wider."""
    if tag_font().getlength(text) <= width_px:
        return text
    while text and tag_font().getlength(text + "…") > width_px:
        text = text[:-1]
    return text.rstrip() + "…"


@functools.cache
def tag_font() -> ImageFont.FreeTypeFont:
    """The font of all texts on pictures."""
    # matplotlib's own font: the same on every machine, with Greek and Cyrillic letters too.
    file = Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"
    return ImageFont.truetype(file, FONT_PX, layout_engine=ImageFont.Layout.BASIC)
