"""`retraining`: when models are trained anew without a person. No stage depends on it, so a change trains nothing."""

from pydantic import Field

from stages.params.section import Fraction, Section


class DriftParams(Section):
    """When what a served model is asked about counts as changed."""

    cron: str | None = Field(None, description="looked for at these times, such as '0 * * * *'; null: by hand")
    alpha: float = Field(0.01, gt=0, lt=0.5, description="chance of a false alarm, over all tests of a look")
    min_distance: Fraction = Field(0.2, description="a smaller difference of two distributions (0 to 1) is harmless")
    min_inputs: int = Field(50, ge=10, description="fewer say nothing")
    max_inputs: int = Field(1000, ge=10, description="the newest, and as many of the test and train splits")
    retrain: bool = Field(True, description="a drift starts a retraining, for which any new labelled image is enough")
    num_asked: int = Field(50, ge=1, description="images of a labelling request: those that the model is least sure of")


class RetrainingParams(Section):
    """What `visionline deploy` puts onto a Prefect server."""

    on_data: bool = Field(True, description="when a new version of a dataset is announced, its tasks are trained anew")
    quiet_s: int = Field(
        60, ge=0, le=86400, description="a version must stay the newest for so long: a burst of batches trains once"
    )
    min_new: int = Field(
        1, ge=1, description="with fewer samples added or relabelled since a task's last training, but some, it waits"
    )
    cron: str | None = Field(None, description="also at these times, such as '0 3 * * 1'; null: never")
    timezone: str = Field("UTC", description="of cron, such as Europe/Berlin")
    at_once: int = Field(1, ge=1, le=64, description="flow runs that a worker runs side by side, such as its GPUs")
    retries: int = Field(2, ge=0, le=10, description="of a stage that was killed, and of a run that crashed")
    retry_delay_s: int = Field(60, ge=0, le=86400)
    drift: DriftParams = Field(default_factory=DriftParams)
    heartbeat_s: int = Field(
        30, ge=30, le=3600, description="a run that says nothing for three times as long counts as crashed"
    )
