"""What the names of joints tell: sigmas, and who changes places in a mirror."""

import numpy as np
import pytest

from stages.params.skeleton import MPII_JOINTS, MPII_SIGMAS, SIGMA, Skeleton, words_of

COCO = (
    *("nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow"),
    *("right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee"),
    *("left_ankle", "right_ankle"),
)


def test_sigmas_of_coco_are_those_of_pycocotools():
    from pycocotools.cocoeval import Params

    np.testing.assert_allclose(Skeleton(COCO).sigmas, Params("keypoints").kpt_oks_sigmas)
    assert pytest.approx(np.mean(Skeleton(COCO).sigmas), abs=5e-4) == SIGMA


def test_sigmas_of_other_sets():
    crowdpose = Skeleton(("left_shoulder", "right_shoulder", "left_ankle", "head", "neck"))
    assert crowdpose.sigmas == (0.079, 0.079, 0.089, 0.079, 0.079)
    assert Skeleton(MPII_JOINTS).sigmas == MPII_SIGMAS
    assert Skeleton(("tip", "Left Hip")).sigmas == (SIGMA, 0.107)
    assert Skeleton(("a", "b"), sigmas=(0.1, 0.2)).sigmas == (0.1, 0.2)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Head top", ["head", "top"]), ("left_knee", ["left", "knee"]), ("Right-ankle", ["right", "ankle"]),
        ("LShoulder", ["l", "shoulder"]), ("leftKnee", ["left", "knee"]), ("joint_12", ["joint", "12"]), ("", []),
    ],
)  # fmt: skip
def test_words_of_names_as_data_sets_spell_them(name, words):
    assert words_of(name) == words


def test_left_and_right_change_places_in_a_mirror():
    skeleton = Skeleton(("Right Hip", "nose", "Left Hip", "RElbow", "LElbow", "left_toe"))
    assert skeleton.flip_pairs == ((0, 2), (3, 4))
    assert skeleton.mirrored == (2, 1, 0, 4, 3, 5)
    twice = [skeleton.mirrored[skeleton.mirrored[i]] for i in range(6)]
    assert twice == list(range(6))
    assert Skeleton(("left_a", "right_a"), flip_pairs=()).mirrored == (0, 1)


def test_finding_joints():
    skeleton = Skeleton(MPII_JOINTS)
    assert MPII_JOINTS[skeleton.find("right", "hip")] == "right_hip"
    assert MPII_JOINTS[skeleton.find("head", "top")] == "head_top"
    assert skeleton.find("tail") is None


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"sigmas": (0.1,)}, "sigmas .* must be a positive number for each"),
        ({"sigmas": (0.1, 0.0)}, "sigmas .* must be a positive number for each"),
        ({"edges": ((0, 2),)}, r"skeleton_edges \(0, 2\) names no joint: there are 2, from 0"),
        ({"flip_pairs": ((-1, 1),)}, r"flip_pairs \(-1, 1\) names no joint"),
    ],
)
def test_what_does_not_fit_is_named(keys, message):
    with pytest.raises(ValueError, match=message):
        Skeleton(("a", "b"), **keys)


def test_through_json_and_without():
    skeleton = Skeleton(COCO, ((0, 1), (1, 3)))
    assert Skeleton.from_json(skeleton.to_json()) == skeleton
    assert Skeleton.from_json(None) == Skeleton() and len(Skeleton()) == 0
