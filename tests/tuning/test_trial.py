"""A trial trains the real task; it reads train and val, leaves nothing behind, and says what became of it."""

import io
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from PIL import Image

from stages.data import index
from stages.data.dataset import Dataset, Description
from stages.data.images import inspect
from stages.data.records import Blob, Record
from stages.data.samples import StoredImages
from stages.data.shards import Sample, ShardWriter
from stages.models import backbones, folder
from stages.params.tuning import TuningParams
from stages.tracking.trials import TrialRun
from stages.tuning import trial as trials
from stages.tuning.plan import Plan
from stages.tuning.study import Study, work

COLOURS = {"blue": (30, 60, 220), "red": (220, 60, 30)}
ENTRY = {
    "kind": "classification", "dataset": "d", "backbone": "b", "image_px": 32,
    "training": {"steps": 4, "batch_size": 4, "precision": "fp32", "validate_every": 2, "log_every": 1},
}  # fmt: skip
TUNING = {"ranges": {"training.optimizer.lr": {"low": 1e-4, "high": 1e-2, "log": True}}, "pruner": {"name": "none"}}


class Run(TrialRun):
    """Keeps what MLflow would be told."""

    def __init__(self, name, number):
        super().__init__(name, f"run-{number}", {}, "")
        self.logged, self.metrics = {}, []

    def log_params(self, params):
        self.params |= params
        self.logged |= params

    def log_metrics(self, values, step=0):
        self.metrics.append((step, dict(values)))

    def log_dataset(self, name, context):
        self.logged["dataset"] = (name, context)


def write_dataset(place):
    """Six red and six blue images in train, two of each in val and in test."""
    place.mkdir(parents=True)
    writer = ShardWriter(place, 1)
    for number in range(20):
        split = "train" if number < 12 else "val" if number < 16 else "test"
        label, data = ("blue", "red")[number % 2], io.BytesIO()
        Image.new("RGB", (32, 32), tuple(min(255, c + number) for c in COLOURS[label])).save(data, "PNG")
        record = Record(f"{number}.png", Blob(Path("x")), labels=(label,))
        row = index.row(record, inspect(data.getvalue()), split, index.annotation_hash(record))
        writer.add(Sample(row, data.getvalue()))
    writer.commit()
    (place / "dataset.yaml").write_bytes(Description("classification", {c: c for c in COLOURS}).encoded())


@pytest.fixture
def search(tmp_path, monkeypatch):
    """search(most, tuning, **changes of training) -> ended trials and their runs, in a project of its own."""
    monkeypatch.chdir(tmp_path)
    write_dataset(tmp_path / "data/d")
    torch.manual_seed(0)
    backbone = backbones.build("resnet18", stem="imagenet")
    folder.write(tmp_path / "models/b", backbone, {"arch": "resnet18", "stem": "imagenet"}, [])
    runs = []

    @contextmanager
    def trial_run(key, study, parent, number, dep_hashes):
        runs.append(Run(f"tune@{key}.{number}", number))
        yield runs[-1]

    monkeypatch.setattr(trials, "trial_run", trial_run)

    def find(most, tuning=None, plan_now=None, **training):
        entry = {**ENTRY, "training": {**ENTRY["training"], **training}}
        plan = Plan("t", entry, TuningParams.model_validate(tuning or TUNING), 5, 1, {})
        monkeypatch.setattr(trials.Plan, "read", lambda key: plan_now or plan)
        study = Study(plan.file, plan.tuning, plan.is_whole(), plan.seed)
        work(study, most, lambda trial: trials.attempt(plan, study, "parent", most, trial), plan.present())
        return study.ended(), runs

    return find


@pytest.fixture
def no_test_split(monkeypatch):
    """Whoever reads the test split, its rows or its images, fails."""
    table, read = Dataset.table, Dataset.read
    secret = set()

    def guarded_table(self, split=None, columns=None):
        if split == "test" or (split is None and set(columns or ["all"]) - {"key", "split"}):
            raise AssertionError("the test split is read")
        if not secret:
            places = table(self, "test", ["shard", "offset", "size"]).to_pylist()
            secret.update(tuple(place.values()) for place in places)
        return table(self, split, columns)

    def guarded_read(self, *place):
        if place in secret:
            raise AssertionError("a test image is read")
        return read(self, *place)

    monkeypatch.setattr(Dataset, "table", guarded_table)
    monkeypatch.setattr(Dataset, "read", guarded_read)
    return lambda: table(Dataset(Path("data/d")), "test").to_pylist()


def test_the_test_split_is_never_read_and_nothing_is_left_behind(search, no_test_split, capsys):
    ended, runs = search(2)
    assert [trial.state for trial in ended] == ["complete", "complete"]
    assert sorted(file.name for file in Path("models").iterdir()) == ["b"]
    assert not list(Path(".visionline").rglob("state.pt")) and not list(Path(".visionline/checkpoints").glob("*"))
    assert runs[0].logged["trial"] == {"training.optimizer.lr": 0.001}
    assert runs[1].logged["training"]["optimizer"]["lr"] == ended[1].values["training.optimizer.lr"]
    assert runs[0].logged["dataset"] == ("d", "tuning") and runs[0].status == "FINISHED"
    validations = [values["val_top1"] for _, values in runs[0].metrics if "val_top1" in values]
    assert len(validations) == 2 and ended[0].value == max(validations)
    printed = capsys.readouterr().out
    assert "trial 0 of 2: lr 0.001\n" in printed and f"trial 0 complete with {ended[0].value:.4f}" in printed
    # The guard itself: it does refuse.
    (row, *_) = no_test_split()
    with pytest.raises(AssertionError, match="test split"):
        StoredImages(Dataset(Path("data/d")), "test")
    with pytest.raises(AssertionError, match="test image"):
        Dataset(Path("data/d")).read(row["shard"], row["offset"], row["size"])


def test_the_same_trial_has_the_same_value_whatever_was_trained_before(search, monkeypatch):
    ranges = {"training.optimizer.momentum": {"choices": [0.9, 0.8, 0.7]}}  # of sgd: it changes nothing here
    ended, runs = search(3, {"ranges": ranges, "pruner": {"name": "none"}})
    losses = [[values["loss"] for _, values in run.metrics if "loss" in values] for run in runs]
    assert losses[0] == losses[1] == losses[2] and len(losses[0]) == 4
    assert len({ended.value for ended in ended}) == 1


def test_values_that_do_not_go_together_and_losses_that_explode_count_as_failed(search):
    ranges = {"training.batch_size": {"choices": [4, 6]}, "training.accumulate": {"choices": [1, 3]}}
    ended, runs = search(4, {"ranges": ranges, "pruner": {"name": "none"}})
    failed = [trial for trial in ended if trial.state == "failed"]
    assert [list(trial.values.values()) for trial in failed] == [[4, 3]] and len(ended) == 4
    assert "batch_size 4 is not a multiple of accumulate 3" in failed[0].reason
    assert runs[failed[0].number].status == "FAILED"
    assert "not a multiple" in runs[failed[0].number].last_tags["visionline.error"]


def test_a_training_that_diverges_is_a_failed_trial_and_leaves_no_checkpoint(search):
    ranges = {"training.optimizer.lr": {"choices": [0.001, 100.0]}}
    ended, _ = search(2, {"ranges": ranges, "pruner": {"name": "none"}}, optimizer={"name": "sgd"})
    assert [trial.state for trial in ended] == ["complete", "failed"]
    assert "lower training.optimizer.lr" in ended[1].reason or "did the training diverge?" in ended[1].reason
    assert not list(Path(".visionline/checkpoints").glob("*"))


def test_an_error_of_the_very_first_trial_ends_the_search(search, monkeypatch):
    def no_truth(*_):
        raise ValueError("top1 is undefined on the validation split: there is no truth")

    monkeypatch.setattr("stages.training.loop.scalars", no_truth)
    with pytest.raises(ValueError, match="there is no truth"):
        search(2)


def test_a_pruned_trial_leaves_no_checkpoint_and_says_so(search, monkeypatch):
    monkeypatch.setattr("stages.training.loop.SAVE_EVERY_S", 0.0)
    tuning = {"ranges": TUNING["ranges"], "pruner": {"startup_trials": 1, "warmup": 0.0}}
    judge = Study.judge

    def judged(self, trial, share, value):
        judge(self, trial, share, 1.0 if trial.number == 0 else 0.0)

    monkeypatch.setattr(Study, "judge", judged)
    ended, runs = search(2, tuning)
    assert (ended[1].state, ended[1].reason) == ("pruned", "others were better after 50% of the training")
    assert (runs[1].status, "visionline.pruned" in runs[1].last_tags) == ("KILLED", True)
    assert not list(Path(".visionline/checkpoints").glob("*"))


def test_a_study_whose_data_changed_meanwhile_is_not_gone_on_with(search):
    other = Plan("t", ENTRY, TuningParams.model_validate(TUNING), 5, 1, {"data/d": "another"})
    with pytest.raises(ValueError, match="data, backbone or parameters of t changed while it was tuned: start again"):
        search(1, plan_now=other)
