"""The joints of a dataset: their names, the bones between them, and what measuring and mirroring need to know."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

# How far annotators of one joint lie apart, over the square root of the object's area: COCO's constants
# (cocodataset.org/#keypoints-eval), and for head and neck those of CrowdPose (Li et al. 2019, crowdpose-api).
SIGMAS = {
    "nose": 0.026, "eye": 0.025, "ear": 0.035, "shoulder": 0.079, "elbow": 0.072, "wrist": 0.062, "hip": 0.107,
    "knee": 0.087, "ankle": 0.089, "head": 0.079, "neck": 0.079,
}  # fmt: skip
SIGMA = 0.067  # of a joint that nothing is known of: the mean of COCO's 17
# MPII's own measure is PCKh; for OKS these are the values of mmpose, which others compare with.
MPII_JOINTS = (
    *("right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "pelvis", "thorax"),
    *("upper_neck", "head_top", "right_wrist", "right_elbow", "right_shoulder"),
    *("left_shoulder", "left_elbow", "left_wrist"),
)
MPII_SIGMAS = (
    *(0.089, 0.083, 0.107, 0.107, 0.083, 0.089, 0.026, 0.026),
    *(0.026, 0.026, 0.062, 0.072, 0.179, 0.179, 0.072, 0.062),
)
_SIDES = {"left": "right", "right": "left", "l": "r", "r": "l"}


@dataclass(frozen=True)
class Skeleton:
    """K joints; without sigmas or flip_pairs, those that the names tell.

    ValueError when sigmas are not K positive numbers, or an edge or a pair names a joint that is not there.
    """

    joints: tuple[str, ...] = ()
    edges: tuple[tuple[int, int], ...] = ()  # joint numbers from 0
    sigmas: tuple[float, ...] = ()  # [K], of OKS: see SIGMAS
    flip_pairs: tuple[tuple[int, int], ...] | None = None  # joints that change places in a mirror; None: left, right

    def __post_init__(self) -> None:
        object.__setattr__(self, "sigmas", tuple(self.sigmas) or sigmas_of(self.joints))
        if self.flip_pairs is None:
            object.__setattr__(self, "flip_pairs", flip_pairs_of(self.joints))
        if len(self.sigmas) != len(self.joints) or not all(sigma > 0 for sigma in self.sigmas):
            raise ValueError(f"skeleton: sigmas {self.sigmas} must be a positive number for each of {self.joints}")
        for name, pairs in (("skeleton_edges", self.edges), ("flip_pairs", self.flip_pairs or ())):
            wrong = [pair for pair in pairs if not all(0 <= joint < len(self.joints) for joint in pair)]
            if wrong:
                raise ValueError(f"skeleton: {name} {wrong[0]} names no joint: there are {len(self.joints)}, from 0")

    def __len__(self) -> int:
        return len(self.joints)

    @property
    def mirrored(self) -> tuple[int, ...]:
        """For each joint the one that takes its place in a mirror: indices [K]."""
        pairs = dict(self.flip_pairs or ()) | {b: a for a, b in self.flip_pairs or ()}
        return tuple(pairs.get(joint, joint) for joint in range(len(self.joints)))

    def find(self, *words: str) -> int | None:
        """Number of the first joint whose name has all of the words; None where there is none."""
        parts = [set(words_of(name)) for name in self.joints]
        return next((i for i, found in enumerate(parts) if found.issuperset(words)), None)

    def to_json(self) -> dict[str, Any]:
        """As model.json holds it."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any] | None) -> "Skeleton":
        """What to_json gave; no joints for None."""
        if not content:
            return cls()
        pairs = {name: tuple((a, b) for a, b in content[name]) for name in ("edges", "flip_pairs")}
        return cls(tuple(content["joints"]), pairs["edges"], tuple(content["sigmas"]), pairs["flip_pairs"])


def words_of(name: str) -> list[str]:
    """The words of a joint's name, in lower case ("Head top", "left_knee", "Right-ankle", "LShoulder")."""
    return re.findall(r"[a-z]+|\d+", re.sub(r"([a-z])([A-Z])|\b([LR])(?=[A-Z][a-z])", r"\1\3 \2", name).lower())


def sigmas_of(joints: Sequence[str]) -> tuple[float, ...]:
    """A sigma for each joint by the words of its name: COCO's, CrowdPose's and MPII's own, else SIGMA."""
    words = [words_of(name) for name in joints]
    if words == [words_of(name) for name in MPII_JOINTS]:
        return MPII_SIGMAS
    return tuple(next((SIGMAS[word] for word in found if word in SIGMAS), SIGMA) for found in words)


def flip_pairs_of(joints: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Pairs of joints whose names differ in left and right alone."""
    numbers = {tuple(words_of(name)): i for i, name in reversed(list(enumerate(joints)))}
    others = ((i, numbers.get(tuple(_SIDES.get(word, word) for word in name))) for name, i in numbers.items())
    return tuple(sorted((i, other) for i, other in others if other is not None and i < other))
