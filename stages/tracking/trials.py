"""MLflow runs of a search for parameters: one a study, and nested in it one for each trial that was begun."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from stages.tracking import store
from stages.tracking.environment import environment_tags
from stages.tracking.runs import StageRun, closing, origin, process_tags

STAGE, STUDY, TRIAL, PRUNED, ERROR = (
    "visionline.stage", "visionline.study", "visionline.trial", "visionline.pruned", "visionline.error",
)  # fmt: skip
PARENT = "mlflow.parentRunId"


class TrialRun(StageRun):
    """The run of a trial that is being trained; `ends` says how it will be closed."""

    status, last_tags = "FINISHED", dict[str, str]()

    def ends(self, state: str, reason: str) -> None:
        """Note that the trial was pruned or failed."""
        self.status = {"pruned": "KILLED", "failed": "FAILED"}[state]
        self.last_tags = {PRUNED if state == "pruned" else ERROR: reason[:5000]}


@contextmanager
def study_run(key: str, study: str, params: Mapping[str, Any]) -> Iterator[StageRun]:
    """The run of a study, opened again where it was interrupted; FINISHED when the block ends well."""
    name, client = f"tune@{key}", store.client()
    known = client.search_runs(
        [store.experiment_id()], f"tags.`{STUDY}` = '{study}' and tags.`{STAGE}` = 'tune'", max_results=1
    )
    tags = {STAGE: "tune", "visionline.key": key, STUDY: study, **origin(), **process_tags(), **environment_tags()}
    if known:
        run = StageRun(name, known[0].info.run_id, {}, tags["git.commit"])
        client.update_run(run.run_id, status="RUNNING")
        run.set_tags(tags)
    else:
        run_id = client.create_run(store.experiment_id(), tags=tags, run_name=name).info.run_id
        run = StageRun(name, run_id, {}, tags["git.commit"])
        run.log_params(params)
    with closing(run):
        yield run
        run.flush()
    client.set_terminated(run.run_id, "FINISHED")


@contextmanager
def trial_run(key: str, study: str, parent: str, number: int, dep_hashes: Mapping[str, str]) -> Iterator[TrialRun]:
    """The run of a trial, nested in that of its study: FINISHED, KILLED when pruned, FAILED with a reason."""
    tags = {STAGE: "trial", "visionline.key": key, STUDY: study, TRIAL: str(number), **origin(), PARENT: parent}
    tags |= {**process_tags(), **environment_tags()}
    name = f"tune@{key}.{number}"
    run_id = store.client().create_run(store.experiment_id(), tags=tags, run_name=name).info.run_id
    run = TrialRun(name, run_id, dep_hashes, tags["git.commit"])
    with closing(run):
        yield run
        run.flush()
        if run.last_tags:
            run.set_tags(run.last_tags)
    store.client().set_terminated(run_id, run.status)


def settle(states: Mapping[str, tuple[str, str]]) -> None:
    """Close runs of trials that ended when their process died before it could: run -> state and reason."""
    running = store.client().search_runs(
        [store.experiment_id()], f"attributes.status = 'RUNNING' and tags.`{STAGE}` = 'trial'"
    )
    for run in running:
        if run.info.run_id in states:
            state, reason = states[run.info.run_id]
            ended = TrialRun(run.info.run_name, run.info.run_id, {}, "")
            if state != "complete":
                ended.ends(state, reason)
                ended.set_tags(ended.last_tags)
            store.client().set_terminated(ended.run_id, ended.status)
