"""Confusion matrices, drawn whole or as a list."""

import numpy as np
import pytest

from stages.pictures.matrices import confusion, top_confusions


def counts(num_classes, seed=0):
    noise = np.random.default_rng(seed).integers(0, 3, (num_classes, num_classes))
    return noise + 20 * np.eye(num_classes, dtype=int)


def names(num_classes):
    return [f"class {c}" for c in range(num_classes)]


@pytest.mark.parametrize("num_classes", [2, 20, 50, 51])
def test_same_bytes_again(num_classes, decoded):
    data = confusion(counts(num_classes).tolist(), names(num_classes))
    assert min(decoded(data).shape[:2]) > 150
    assert data == confusion(counts(num_classes).tolist(), names(num_classes))
    assert data != confusion(counts(num_classes, seed=1).tolist(), names(num_classes))


def test_the_diagonal_is_dark_and_the_rest_is_light(decoded):
    image = decoded(confusion((50 * np.eye(30, dtype=int)).tolist(), names(30))).astype(int)
    navy = (np.abs(image - [8, 48, 107]).sum(axis=2) < 6)[:, : image.shape[1] * 3 // 4]
    rows, columns = np.nonzero(navy)
    assert np.corrcoef(rows, columns)[0, 1] > 0.99


def test_a_class_without_truth_is_an_empty_row(decoded):
    assert decoded(confusion([[5, 1], [0, 0]], names(2))).ndim == 3


def test_no_confusion_among_many_classes(decoded):
    assert decoded(confusion(np.eye(60, dtype=int).tolist(), names(60))).shape == (210, 760, 3)


def test_top_confusions_by_hand():
    matrix = np.array([[9, 1, 0], [4, 9, 1], [0, 0, 9]])
    assert top_confusions(matrix, 2) == [(1, 0, 4), (0, 1, 1)]
    assert top_confusions(matrix, 9) == [(1, 0, 4), (0, 1, 1), (1, 2, 1)]
