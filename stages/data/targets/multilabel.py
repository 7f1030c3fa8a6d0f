"""Images with any number of labels as classification reads them."""

from typing import Any

import numpy as np

from stages.data.samples import Images
from stages.data.targets.classification import ClassificationSamples
from stages.metrics.multilabel import Target


class MultiLabelSamples(ClassificationSamples):
    """Items: key str, target Target.

    source: the column whose labels count, `labels` or `objects`. ValueError when no image has any.
    """

    def __init__(self, source: str, images: Images, *arguments: Any) -> None:
        super().__init__(images, *arguments)
        self.source = source
        # None: what is only asked about, and whose labels nobody knows
        known = [index for index in range(len(images)) if images.value(source, index) is not None]
        if known and not any(images.value(source, index) for index in known):
            other = "objects" if source == "labels" else "labels"
            raise ValueError(f"none of the {len(known)} images has {source}: is labels_from: {other} meant?")

    def target(self, key: str, index: int) -> Target:
        """Which classes the image has; a crowd counts, for its class is there."""
        said = self.images.value(self.source, index) or []
        is_present = np.zeros(len(self.number), bool)
        is_present[[self.number[one if isinstance(one, str) else one["label"]] for one in said]] = True
        return Target(key, is_present)
