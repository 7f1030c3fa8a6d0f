"""The task of segmentation beyond the contract: original pixels, exact answers, weights, result files."""

import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from stages.data.lookup import Sighting
from stages.data.transforms import fit
from stages.metrics.cityscapes import LABEL_IDS
from stages.metrics.segmentation import IGNORED, Prediction, Target
from stages.models.segmenter import PixelScores
from stages.params.document import task_section
from stages.tasks import segmentation
from stages.tasks import task as tasks
from stages.tracking import exposure

ENTRY = {"kind": "segmentation", "dataset": "d", "backbone": "b", "training": {"steps": 1}}
CLASSES = ("sky", "road", "car")


def task_of(classes=CLASSES, **keys):
    return tasks.build(task_section(ENTRY | keys), classes)


def prediction(seed=0, size=(37, 53), classes=CLASSES):
    rng = np.random.default_rng(seed)
    return Prediction("k", rng.integers(0, len(classes), size).astype(np.uint8), rng.random(len(classes), np.float32))


@pytest.mark.parametrize("chunk", [1, 10_000, 2**24])
def test_scaling_a_few_classes_at_a_time_gives_the_same(chunk, monkeypatch):
    monkeypatch.setattr(segmentation, "CHUNK_ELEMENTS", chunk)
    scores = torch.randn(7, 9, 12, generator=torch.Generator().manual_seed(0)) * 5
    classes, probability = segmentation.decide(scores, (40, 50))
    whole = torch.nn.functional.interpolate(scores[None], (40, 50), mode="bilinear", align_corners=False)[0]
    np.testing.assert_array_equal(classes, whole.argmax(0).numpy())
    np.testing.assert_allclose(probability, whole.softmax(0).max(0)[0].numpy(), rtol=1e-5)


def test_a_prediction_has_the_pixels_of_the_original_and_none_of_the_padding():
    """A canvas with the truth in it: what comes back is the truth, at the size of the image."""
    truth = np.zeros((60, 100), np.uint8)
    truth[20:40, 30:] = 2
    placement = fit((60, 100), (64, 64))
    height, width = placement.content_px
    canvas = torch.full((1, 3, 64, 64), -9.0)
    canvas[0, 1] = 50.0  # the padding shows a road
    small = torch.from_numpy(truth)[None, None].float()
    shrunk = torch.nn.functional.interpolate(small, (height, width))[0, 0]
    canvas[0, :, :height, :width] = torch.stack([(shrunk == k).float() for k in range(3)])
    batch = {"images": canvas, "placement": [placement], "target": [Target("k", truth)]}
    (found,) = task_of().predict(lambda images: PixelScores(images), batch)
    assert found.classes.shape == (60, 100) and found.key == "k"
    assert (found.classes == truth).mean() > 0.97 and not (found.classes == 1).any()
    assert found.scores[1] == 0 and 0.5 < found.scores[0] <= 1


def test_an_answer_is_json_that_gives_back_the_prediction_exactly():
    task, said = task_of(), prediction()
    answer = json.loads(json.dumps(task.answer(said), allow_nan=False))
    shares = [segment["share"] for segment in answer["segments"]]
    assert (answer["height"], answer["width"]) == (37, 53) and shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1)
    assert set(answer["segments"][0]) == {"label", "score", "share", "segmentation"}
    back = task.prediction("k", answer)
    np.testing.assert_array_equal(back.classes, said.classes)
    np.testing.assert_array_equal(back.scores, said.scores)


def test_an_answer_of_a_version_with_other_classes():
    answer = task_of(("car", "boat", "sky")).answer(prediction())  # car 0, boat 1, sky 2
    back = task_of().prediction("k", answer)
    np.testing.assert_array_equal(back.classes, np.array([2, IGNORED, 0])[prediction().classes])
    metric = task_of().metric()
    metric.update([back], [Target("k", np.ones((37, 53), np.uint8))])
    assert metric.compute()["miou"] == 0.0


def test_an_answer_of_nothing():
    nothing = Prediction("k", np.full((4, 5), IGNORED, np.uint8), np.zeros(3, np.float32))
    answer = task_of().answer(nothing)
    assert answer == {"height": 4, "width": 5, "segments": []}
    np.testing.assert_array_equal(task_of().prediction("k", answer).classes, nothing.classes)


def test_weights_by_name_and_by_frequency(drawn):
    task = task_of(("disc", "square"), class_weights={"square": 3.0})
    assert task.samples(drawn).class_weights.tolist() == [1.0, 3.0]
    balanced = task_of(("disc", "square"), class_weights="inverse-frequency").samples(drawn).class_weights
    assert balanced.tolist() == [1.0, 1.0]  # both fill all that is labelled of their images
    assert task_of().samples(drawn).class_weights is None
    with pytest.raises(ValueError, match=r"class_weights: no class 'boat'; there are: sky, road, car"):
        task_of(class_weights={"boat": 2.0})


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"class_weights": {"car": 0}}, "greater than 0"),
        ({"arch": "unet"}, "'fcn', 'deeplabv3' or 'lraspp'"),
        ({"training": {"steps": 1, "batch_size": 4, "accumulate": 4}}, "deeplabv3 needs 2 images in each part"),
    ],
)
def test_params_that_can_not_train_are_refused(keys, message):
    with pytest.raises(ValueError, match=message):
        task_section(ENTRY | keys)


def test_auxiliary_and_dice_are_losses_of_their_own(drawn):
    from stages.data.loader import Loader, normalised
    from stages.models import backbones

    task = task_of(
        ("disc", "square"), arch="fcn", image_size_px=[64, 64], auxiliary_weight=0.4, dice_weight=0.5,
        training={"steps": 1, "precision": "fp32"},
    )  # fmt: skip
    torch.manual_seed(0)
    model = task.model(backbones.build("resnet18")).train()
    batch = next(Loader(task.samples(drawn), 4, seed=0).in_order())
    batch["images"] = normalised(batch["images"], torch.device("cpu"), False)
    losses = task.loss(model, batch)
    assert set(losses) == {"loss", "loss_auxiliary", "loss_dice"} and all(v > 0 for v in losses.values())


def test_results_are_index_pngs_and_cityscapes_own_files(tmp_path):
    names = list(LABEL_IDS)
    task = task_of(names)
    metric, rng = task.metric(), np.random.default_rng(0)
    truth = rng.integers(0, 19, (30, 40)).astype(np.uint8)
    for key in ("a", "b"):
        found = Prediction(key, rng.integers(0, 19, (30, 40)).astype(np.uint8), np.zeros(19, np.float32))
        metric.update([found], [Target(key, truth)])
    sources = {key: f"leftImg8bit/test/ulm/ulm_{key}_leftImg8bit.png" for key in ("a", "b")}
    evaluation = SimpleNamespace(
        metrics={"after": metric}, column=lambda name: sources, image=lambda key: np.zeros((30, 40, 3), np.uint8)
    )
    task.write_results(evaluation, tmp_path)
    shown = [Sighting("d", key, "f" * 64, "test", [], source, "s", ("v",), 0) for key, source in sources.items()]
    maps = {file.relative_to(tmp_path).as_posix() for file in tmp_path.glob("*/*")}
    assert len(maps) == 4 and maps <= exposure.files(shown)  # which a purge looks for
    assert (tmp_path / "classes.txt").read_text().splitlines() == names
    for key in ("a", "b"):
        predicted, _ = metric.samples[key].maps()
        written = Image.open(tmp_path / "predictions" / f"{key}.png")
        assert written.mode == "P"
        np.testing.assert_array_equal(np.asarray(written), predicted)
        ids = np.asarray(Image.open(tmp_path / "cityscapes" / f"ulm_{key}_pred_labelIds.png"))
        np.testing.assert_array_equal(ids, np.array(list(LABEL_IDS.values()))[predicted])
    for name in ("classes.png", "confusion.png"):
        assert Image.open(io.BytesIO((tmp_path / name).read_bytes())).width > 300
    assert task.draw(evaluation, "a").width > 1200
