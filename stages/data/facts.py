"""What the expectations are about: tables derived from the index of a dataset."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stages.data import drift, duplicates
from stages.data.splits import SPLITS
from stages.params.dataset import ValidationParams

COLUMNS = (
    *("key", "sha256", "phash", "width", "height", "split", "labels", "objects", "source", "batch", "defects"),
    *("mask_labels", "mask_pixels"),
)
TRAIN = "train"


def tables(index: pa.Table, task: str, classes: Sequence[str], params: ValidationParams) -> dict[str, pd.DataFrame]:
    """The tables that the expectations read, by name; rows in the order of the source paths.

    samples   a row an image: shape in pixels, copies (samples of its split with the same bytes), num_labels, num_boxes
              (null: never annotated), unlabelled (share of its pixels; null: no mask) and defects in words (null: none)
    held_out  a row an image outside of train: leaked_from (a train image with the same bytes), looks_like (the most
              similar train image within near_duplicate_bits) and differing_bits, of 64
    labels    a row a label of an image
    segments  a row a label of a mask, with its pixels
    boxes     a row a box: its edges, box_width, box_height and outside_px, how far it reaches out of its image
    classes   a row a class: its samples (classification), boxes (detection) or images (segmentation) in each split, and
              rarity, those of the commonest class over its own in train; of masks by pixels
    pixels    a row a class: its pixels in each split
    drift     a row a quantity: distance of the newest batch from the rest, p_value (Holm) and significant_distance,
              which is 0 unless p is below drift_p_value; empty when there is one batch
    """
    index = index.select(list(COLUMNS)).sort_by([("source", "ascending"), ("key", "ascending")]).combine_chunks()
    samples, labels, boxes, segments = _samples(index), _labels(index), _boxes(index), _segments(index)
    counted = {"detection": boxes, "segmentation": segments}.get(task, labels)
    found, pixels = _classes(counted, classes), _classes(segments, classes, "pixels")
    if task == "segmentation":
        found["rarity"] = pixels["rarity"]
    return {
        "samples": samples,
        "held_out": _held_out(index, params.near_duplicate_bits),
        "labels": labels,
        "boxes": boxes,
        "segments": segments,
        "classes": found,
        "pixels": pixels,
        "drift": _drift(index, samples, boxes, classes, params.drift_p_value),
    }


def _samples(index: pa.Table) -> pd.DataFrame:
    frame = index.select(["key", "source", "split"]).to_pandas()
    frame["sha256"] = pc.fill_null(index["sha256"], "").to_pandas()
    width, height = (pc.fill_null(index[side], 0).to_numpy() for side in ("width", "height"))
    frame["width"], frame["height"] = width, height
    frame["shorter_px"], frame["longer_px"] = np.minimum(width, height), np.maximum(width, height)
    frame["aspect"] = frame["longer_px"] / frame["shorter_px"].clip(lower=1)
    frame["copies"] = duplicates.copies(_codes(index["sha256"]), _codes(index["split"]))
    frame["num_labels"] = _lengths(index["labels"])
    frame["num_boxes"] = pc.list_value_length(index["objects"]).to_pandas()
    has_mask = pc.is_valid(index["mask_labels"]).to_numpy()
    rows = pc.list_parent_indices(index["mask_pixels"]).to_numpy()
    labelled = np.bincount(rows, _pixels(index), len(index))
    frame["unlabelled"] = np.where(has_mask, 1 - labelled / np.maximum(width * height, 1), np.nan)
    words = pc.binary_join(index["defects"], "; ")
    frame["defects"] = pc.if_else(pc.equal(words, ""), None, words).to_pandas()
    return frame


def _held_out(index: pa.Table, near_duplicate_bits: int) -> pd.DataFrame:
    is_train = pc.equal(index["split"], TRAIN).to_numpy()
    contents = _codes(index["sha256"])
    held_out, train = index.filter(pa.array(~is_train)), index.filter(pa.array(is_train))
    hashes, train_hashes = (duplicates.from_hex(t["phash"].to_pylist()) for t in (held_out, train))
    same = duplicates.first_match(contents[~is_train], contents[is_train])
    alike, bits = duplicates.nearest(hashes, train_hashes, near_duplicate_bits)
    frame = held_out.select(["key", "source", "split"]).to_pandas()
    frame["leaked_from"] = _taken(train["source"], same)
    frame["looks_like"] = _taken(train["source"], alike)
    frame["differing_bits"] = bits
    return frame


def _labels(index: pa.Table) -> pd.DataFrame:
    rows = pc.list_parent_indices(index["labels"])
    frame = index.select(["key", "source", "split"]).take(rows).to_pandas()
    frame["label"] = pc.list_flatten(index["labels"]).to_pandas()
    return frame


def _boxes(index: pa.Table) -> pd.DataFrame:
    rows = pc.list_parent_indices(index["objects"])
    objects = pc.list_flatten(index["objects"]).combine_chunks()
    frame = index.select(["key", "source", "split", "width", "height"]).take(rows).to_pandas()
    frame = frame.rename(columns={"width": "image_width", "height": "image_height"})
    frame["label"] = objects.field("label").to_pandas()
    edges = objects.field("bbox_xyxy").flatten().to_numpy().reshape(-1, 4)
    frame[["x1", "y1", "x2", "y2"]] = edges
    # Great Expectations takes NaN for a missing value and passes it: a box without finite edges has no area.
    frame["box_width"] = _finite(edges[:, 2] - edges[:, 0], 0.0)
    frame["box_height"] = _finite(edges[:, 3] - edges[:, 1], 0.0)
    far_edges = frame[["image_width", "image_height"]].to_numpy()
    frame["outside_px"] = _finite(np.hstack([-edges, edges - np.tile(far_edges, 2)]).max(axis=1, initial=0.0), 0.0)
    return frame


def _segments(index: pa.Table) -> pd.DataFrame:
    rows = pc.list_parent_indices(index["mask_labels"])
    frame = index.select(["key", "source", "split"]).take(rows).to_pandas()
    frame["label"] = pc.list_flatten(index["mask_labels"]).to_pandas()
    frame["pixels"] = pc.list_flatten(index["mask_pixels"]).to_pandas().astype("int64")
    return frame


def _classes(labelled: pd.DataFrame, classes: Sequence[str], summed: str | None = None) -> pd.DataFrame:
    """Rows of each class in each split, or the sum of a column."""
    if summed is None:
        counts = pd.crosstab(labelled["label"], labelled["split"])
    else:
        counts = labelled.pivot_table(summed, "label", "split", aggfunc="sum", fill_value=0)
    counts = counts.reindex(index=list(classes), columns=list(SPLITS), fill_value=0)
    frame = counts.rename_axis(index="class", columns=None).reset_index()
    frame["rarity"] = frame["train"].max() / frame["train"].where(frame["train"] > 0)
    return frame


def _drift(
    index: pa.Table, samples: pd.DataFrame, boxes: pd.DataFrame, classes: Sequence[str], threshold: float
) -> pd.DataFrame:
    batch = index["batch"].to_numpy()
    is_newest = batch == batch.max(initial=0)
    shifts = {} if is_newest.all() else _shifts(index, samples, boxes, classes, is_newest)
    frame = pd.DataFrame([{"quantity": name, **vars(shift)} for name, shift in shifts.items()])
    if shifts:
        frame["p_value"] = drift.holm(frame["p_value"].to_list())
        frame["significant_distance"] = frame["distance"].where(frame["p_value"] < threshold, 0.0)
    return frame


def _shifts(
    index: pa.Table, samples: pd.DataFrame, boxes: pd.DataFrame, classes: Sequence[str], is_newest: NDArray[np.bool_]
) -> dict[str, drift.Shift]:
    shifts = {
        name: drift.number_shift(samples[name].to_numpy(float), is_newest) for name in ("width", "height", "aspect")
    }
    keys = index["key"]
    rows, chosen = _one_each(index["labels"], keys)
    if len(chosen):
        codes = _class_numbers(pc.list_flatten(index["labels"]).take(chosen), classes)
        shifts["label"] = drift.label_shift(codes, len(classes) + 1, is_newest[rows])
    rows, chosen = _one_each(index["objects"], keys)
    if len(chosen):
        box = boxes.iloc[chosen]
        share = box["box_width"] * box["box_height"] / (box["image_width"] * box["image_height"]).clip(lower=1)
        codes = _class_numbers(pa.array(box["label"], pa.string()), classes)
        annotated = samples["num_boxes"].notna().to_numpy()
        shifts["boxes of an image"] = drift.number_shift(
            samples["num_boxes"].to_numpy(float)[annotated], is_newest[annotated]
        )
        shifts["label of a box"] = drift.label_shift(codes, len(classes) + 1, is_newest[rows])
        shifts["area of a box"] = drift.number_shift(share.to_numpy(float), is_newest[rows])
    return shifts | _mask_shifts(index, samples, classes, is_newest)


def _mask_shifts(
    index: pa.Table, samples: pd.DataFrame, classes: Sequence[str], is_newest: NDArray[np.bool_]
) -> dict[str, drift.Shift]:
    """Of the label of one pixel in each mask, chosen by the key, and of the share that is not labelled."""
    masked = samples["unlabelled"].notna().to_numpy()
    if not masked.any():
        return {}
    rows, chosen = _one_each(index["mask_labels"], index["key"], _pixels(index))
    codes = _class_numbers(pc.list_flatten(index["mask_labels"]).take(chosen), classes)
    unlabelled = samples["unlabelled"].to_numpy(float)[masked]
    return {
        "label of a pixel": drift.label_shift(codes, len(classes) + 1, is_newest[rows]),
        "unlabelled share": drift.number_shift(unlabelled, is_newest[masked]),
    }


def _one_each(
    lists: pa.ChunkedArray, keys: pa.ChunkedArray, weights: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows whose list has entries, and one entry of each, chosen by the key: its position in the flattened lists.

    weights: positive whole numbers of all entries, by which the chances of those of a list differ.
    """
    lengths = _lengths(lists)
    rows = np.flatnonzero(lengths)
    starts = np.cumsum(lengths)[rows] - lengths[rows]
    numbers = duplicates.from_hex(keys.take(pa.array(rows)).to_pylist())
    if weights is None:
        return rows, starts + (numbers % lengths[rows].astype(np.uint64)).astype(np.int64)
    ends = np.cumsum(weights)
    before = ends[starts] - weights[starts]
    totals = ends[starts + lengths[rows] - 1] - before
    return rows, np.searchsorted(ends, before + (numbers % totals.astype(np.uint64)).astype(np.int64), "right")


def _pixels(index: pa.Table) -> NDArray[np.int64]:
    """Of all labels of all masks, in the order of the rows."""
    return pc.list_flatten(index["mask_pixels"]).to_numpy().astype(np.int64)


def _class_numbers(labels: pa.Array | pa.ChunkedArray, classes: Sequence[str]) -> NDArray[np.int64]:
    """Place of each label among the classes; len(classes) for an unknown one."""
    numbers = pc.index_in(labels, pa.array(list(classes), pa.string()))
    return pc.fill_null(numbers, len(classes)).to_numpy(zero_copy_only=False).astype(np.int64)


def _codes(values: pa.ChunkedArray) -> NDArray[np.int64]:
    """Equal numbers for equal values, from 0."""
    return values.combine_chunks().dictionary_encode("encode").indices.to_numpy().astype(np.int64)


def _lengths(lists: pa.ChunkedArray) -> NDArray[np.int64]:
    return pc.fill_null(pc.list_value_length(lists), 0).to_numpy().astype(np.int64)


def _taken(values: pa.ChunkedArray, positions: NDArray[np.int64]) -> pd.Series:
    """Values at the positions; null where the position is -1."""
    return values.take(pa.array(positions, mask=positions < 0)).to_pandas()


def _finite(values: NDArray[np.float64], otherwise: float) -> NDArray[np.float64]:
    return np.where(np.isfinite(values), values, otherwise)
