"""Whether what a served model is asked about is still like its data: its answers, and its features, compared.

Answers of the champion for recent images against its answers for its test split (black box shift detection, Lipton et
al. 2018), and where the images are at hand the backbone's features, in their principal components, against those of
training images (Rabanser et al. 2019, "Failing Loudly"). Several tests: p values are adjusted by Holm's method.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages.data.drift import Shift, holm, label_shift, number_shift
from stages.data.loader import Loader, normalised
from stages.data.samples import Images
from stages.tasks.trained import Trained

NUM_COMPONENTS = 8


Said = tuple[Sequence[str], Sequence[float]]  # labels and scores of an image, the surest first


def answer_shifts(reference: Sequence[Said], recent: Sequence[Said], counted: str | None) -> dict[str, Shift]:
    """Shifts of the surest label of an image, of its score, and of the number of what is counted, such as boxes.

    Of several boxes only the surest counts: objects of one image are not independent of each other.
    """
    both = [*reference, *recent]
    is_recent = np.arange(len(both)) >= len(reference)
    firsts = [(*labels, "")[0] for labels, _ in both]
    names = sorted(set(firsts))
    numbers = np.array([names.index(name) for name in firsts], np.int64)
    surest = np.array([max(scores, default=0.0) for _, scores in both], float)
    shifts = {"label": label_shift(numbers, len(names), is_recent), "score": number_shift(surest, is_recent)}
    if counted:
        shifts[counted] = number_shift(np.array([len(labels) for labels, _ in both], float), is_recent)
    return shifts


def features(trained: Trained, images: Images, batch_size: int = 32) -> NDArray[np.float32]:
    """The backbone's coarsest map, averaged over each image: float32 [N, channels]."""
    backbone: Any = trained.model.backbone
    device, found = next(trained.model.parameters()).device, []
    with torch.no_grad():
        for batch in Loader(trained.task.samples(images), batch_size, seed=0).in_order():
            maps = backbone.maps(normalised(batch["images"], device, False))
            found.append(maps[-1].mean((2, 3)).cpu().numpy())
    return np.concatenate(found)


def feature_shift(reference: NDArray[np.float32], recent: NDArray[np.float32]) -> Shift:
    """The component of the reference's principal ones that shifted most, its p value adjusted for their number."""
    centre = reference.mean(0)
    components = np.linalg.svd(reference - centre, full_matrices=False)[2][:NUM_COMPONENTS]
    projected = np.concatenate([reference, recent]).astype(np.float64) - centre
    is_recent = np.arange(len(projected)) >= len(reference)
    shifts = [number_shift(column, is_recent) for column in (projected @ components.T).T]
    worst = int(np.argmin(adjusted := holm([shift.p_value for shift in shifts])))
    return Shift(shifts[worst].distance, adjusted[worst], shifts[worst].num_newest, shifts[worst].num_rest)
