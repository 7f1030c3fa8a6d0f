"""What an evaluation says in words, the files it leaves, and a model that is read back."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from stages.data.dataset import Dataset
from stages.data.records import Blob, Record, Source
from stages.data.samples import LooseImages, StoredImages
from stages.ingest import ingest
from stages.models import backbones, folder
from stages.params.classification import Params
from stages.tasks import evaluation
from stages.tasks import task as tasks
from stages.tasks.trained import Trained, predict


def difference(value, low, high):
    return {"top1": {"value": value, "low": low, "high": high, "p": 0.5}}


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        ((0.12, 0.05, 0.2), "fine-tuning helps: top1 +0.120 [+0.050, +0.200] at 95% confidence"),
        ((-0.12, -0.2, -0.05), "fine-tuning hurts: top1 -0.120 [-0.200, -0.050] at 95% confidence"),
        ((0.02, -0.05, 0.09), "no evidence that fine-tuning helps: top1 +0.020 [-0.050, +0.090] at 95% confidence"),
        ((0.02, 0.0, 0.09), "no evidence that fine-tuning helps: top1 +0.020 [+0.000, +0.090] at 95% confidence"),
    ],
)
def test_findings_by_interval(bounds, said):
    assert evaluation.findings({"after-before": difference(*bounds)}, "top1", 0.95, 100) == [said]


def test_findings_of_the_control_are_about_pretraining():
    said = evaluation.findings(
        {"after-before": difference(0.1, 0.05, 0.2), "after-scratch": difference(0.01, -0.1, 0.1)}, "top1", 0.9, 20
    )
    assert [sentence.partition(":")[0] for sentence in said] == [
        "fine-tuning helps", "no evidence that pretraining helps",
    ]  # fmt: skip
    assert said[0].endswith("at 90% confidence")


def test_few_images_are_said_to_be_few():
    said = evaluation.findings({"after-before": difference(0.1, 0.05, 0.2)}, "top1", 0.95, 8)
    assert said[1:] == ["the test split has only 8 images: such intervals are too narrow"]


def test_no_findings_without_intervals():
    assert evaluation.findings({"after-before": difference(0.1, None, None)}, "top1", 0.95, 100) == []
    assert evaluation.findings({}, "top1", 0.95, 100) == []
    assert evaluation.findings({"after-before": {"top5": {"low": 1.0}}}, "top1", 0.95, 100) == []


def test_curves_are_one_panel_a_quantity():
    history = [{"step": 1, "loss": 2.0, "lr": 0.1}, {"step": 2, "val_top1": 0.5, "val_num_images": 9.0}]
    assert evaluation.curve_series({"fine-tuned": history, "from scratch": history[:1]}, ("top1",)) == {
        "loss": {"fine-tuned": [(1, 2.0)], "from scratch": [(1, 2.0)]},
        "lr": {"fine-tuned": [(1, 0.1)], "from scratch": [(1, 0.1)]},
        "val_top1": {"fine-tuned": [(2, 0.5)]},
    }


CLASSES = {"blue": "Blue", "red": "Red"}
PARAMS = Params.model_validate(
    {
        "dataset": "colours", "backbone": "net", "control": False, "image_px": 32, "training": {"steps": 1},
        "evaluation": {"resamples": 50, "num_pictures": 4},
    }
)  # fmt: skip


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A dataset of two colours and the untrained models of a task on it, in ./data and ./models."""
    monkeypatch.chdir(tmp_path)
    records = []
    for i in range(16):
        pixels = np.random.default_rng(i).integers(0, 90, (40, 40, 3), np.uint8)
        pixels[..., 2 * (i % 2 == 0)] += 120
        Image.fromarray(pixels).save(f"{i:02d}.png")
        split = ("train", "test")[i // 8]
        label = ("blue", "red")[i % 2]
        records.append(Record(f"{i:02d}.png", Blob(tmp_path / f"{i:02d}.png"), split=split, labels=(label,)))
    source = Source("classification", CLASSES, lambda: iter(records), origin="a test")
    ingest(tmp_path / "data" / "colours", source, progress=False, workers=1)
    torch.manual_seed(0)
    backbone = backbones.build("resnet18", stem="imagenet")
    facts = {"arch": "resnet18", "stem": "imagenet", "classes": list(CLASSES), "params": PARAMS.model_dump(mode="json")}
    facts["trainable_percent"] = 100.0
    folder.write(tmp_path / "models" / "net", backbone, facts, [])
    model = tasks.build(PARAMS, tuple(CLASSES)).model(backbone)
    folder.write(tmp_path / "models" / "sorts", model, facts, [{"step": 1, "loss": 0.7, "lr": 0.1}])
    folder.write(tmp_path / "models" / "sorts.control", None, {"skipped": "not asked for"}, [])
    return tmp_path


def png(colour):
    data = io.BytesIO()
    Image.new("RGB", (40, 40), colour).save(data, "PNG")
    return data.getvalue()


def test_a_report_is_whole_and_repeats(project):
    measured = evaluation.evaluate("sorts", PARAMS, Dataset(project / "data" / "colours"), seed=0)
    target = project / "reports"
    target.mkdir()
    assert measured.column("labels") and set(map(len, measured.column("labels").values())) == {1}
    report = evaluation.write(measured, target / "sorts.json", target / "sorts")
    assert json.loads((target / "sorts.json").read_text()) == report
    assert report["num_images"] == 8 and report["main_metric"] == "top1" and "scratch" not in report
    assert report["before"]["top1"] == 1.0, "the linear probe tells two colours apart"
    assert report["training"] == {"adaptation": {"mode": "full"}, "trainable_percent": 100.0}
    assert set(report["after"]["intervals"]["top1"]) == {"value", "low", "high"}
    low, high = (report["differences"]["after-before"]["top1"][end] for end in ("low", "high"))
    assert -1 <= low <= report["after"]["top1"] - 1.0 <= high <= 1 and len(report["findings"]) == 2  # of 8 images
    pictures = {file.name for file in (target / "sorts").iterdir()}
    assert {"curves.png", "comparison.png", "worst.png", "random.png", "confusion.png", "predictions.csv"} <= pictures
    assert sorted(path.name for path in target.iterdir()) == ["sorts", "sorts.json"]

    before = {file.name: file.read_bytes() for file in (target / "sorts").iterdir()}
    (target / "sorts" / "stray.png").write_text("of an older report")
    again = evaluation.evaluate("sorts", PARAMS, Dataset(project / "data" / "colours"), seed=0)
    evaluation.write(again, target / "sorts.json", target / "sorts")
    assert {file.name: file.read_bytes() for file in (target / "sorts").iterdir()} == before


def test_no_test_split_is_refused_with_advice(project):
    dataset = Dataset(project / "data" / "colours")
    dataset.__dict__["splits"] = {"train": 8}
    with pytest.raises(ValueError, match=r"colours has no test split: .*--split"):
        evaluation.evaluate("sorts", PARAMS, dataset, seed=0)


def test_a_trained_model_answers_alike_alone_and_in_a_batch(project):
    trained = Trained(project / "models" / "sorts")
    files = [png("red"), png("blue"), *[png((i, 90, 9)) for i in range(30)]]
    together = trained.answers(files)
    assert len(together) == 32 and trained.answers([]) == []
    for i in (0, 1, 31):
        alone = trained.answers([files[i]])[0]
        assert alone["label"] == together[i]["label"] and alone["score"] == pytest.approx(
            together[i]["score"], abs=1e-5
        )
    with pytest.raises(ValueError, match="image 1: "):
        trained.answers([files[0], b"no image"])


def test_predictions_come_with_their_targets_in_order(project):
    images = StoredImages(Dataset(project / "data" / "colours"), "test", "labels")
    trained = Trained(project / "models" / "sorts")
    predictions, targets = predict(trained.task, trained.model, trained.task.samples(images), batch_size=3)
    assert [p.key for p in predictions] == [images.value("key", i) for i in range(8)]
    assert targets == [list(CLASSES).index(images.value("labels", i)[0]) for i in range(8)]
    assert not trained.model.training and len(LooseImages([png("red")])) == 1


def test_a_model_that_lacks_a_part_is_refused(project):
    backbone = folder.read_backbone(project / "models" / "net")
    folder.write(project / "models" / "bare", backbone, folder.facts(project / "models" / "sorts"), [])
    with pytest.raises(ValueError, match=r"models/bare does not fit its own model\.json.*fc\.weight"):
        Trained(project / "models" / "bare")


def test_a_torn_weights_file_is_refused(project):
    file = project / "models" / "sorts" / folder.WEIGHTS
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"weights\.safetensors"):
        Trained(project / "models" / "sorts")
