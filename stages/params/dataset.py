"""`datasets.NAME`: what a dataset must look like before anything trains on it."""

from pydantic import Field

from stages.params.section import Fraction, Section


class ValidationParams(Section):
    """Thresholds of the expectations; a share of 1.0 switches one off."""

    min_samples: int = Field(10, ge=1, description="samples in the whole dataset")
    min_train_per_class: int = Field(
        1, ge=0, description="train samples or boxes of each class, or images of its pixels; 0: off"
    )
    min_side_px: int = Field(8, ge=1, description="shorter side of an image, pixels")
    max_side_px: int = Field(20000, ge=1, description="longer side of an image, pixels")
    max_aspect: float = Field(20.0, ge=1.0, description="longer side over shorter side")
    max_labels_per_image: int = Field(1, ge=1, description="classification only; over 1: images with several labels")
    box_tolerance_px: float = Field(0.01, ge=0.0, description="how far a box may reach out of its image, pixels")
    max_imbalance: float = Field(
        100.0, ge=1.0, description="train samples, or pixels, of the commonest class over the rarest's: warn"
    )
    max_unlabelled: Fraction = Field(0.5, description="segmentation only: share of an image's pixels: warn")
    max_leaked: Fraction = Field(0.0, description="share of val and test samples whose bytes lie in train, too")
    max_exact_duplicates: Fraction = Field(0.01, description="share of samples whose bytes occur twice in a split")
    near_duplicate_bits: int = Field(4, ge=0, le=16, description="differing bits of 64 at which images look alike")
    max_near_duplicates: Fraction = Field(
        0.05, description="share of val and test samples that look like a train sample"
    )
    max_defects: Fraction = Field(0.05, description="share of samples with a repaired defect (dropped box, ...)")
    drift_p_value: Fraction = Field(0.001, description="newest batch against the rest: a shift counts below this p")
    max_drift: Fraction = Field(0.1, description="largest difference of their distributions that is no shift")


class DatasetParams(Section):
    """One dataset: the data lie in data/NAME, which `visionline ingest NAME` makes."""

    validation: ValidationParams = Field(default_factory=ValidationParams)
