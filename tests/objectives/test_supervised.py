"""Supervised pretraining: the published classifier's loss, its auxiliary heads included."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import StochasticDepth

from stages.models import backbones
from stages.models.classifier import Logits
from stages.objectives import objective as objectives
from stages.params.backbone import BackboneParams

CLASSES = ("a", "b", "c")


def built(**changes):
    entry = {
        "dataset": "d",
        "arch": "resnet18",
        "objective": "supervised",
        "stem": "imagenet",
        "training": {"steps": 1},
    }
    return objectives.build(BackboneParams.model_validate(entry | changes), CLASSES)


def batch(*targets):
    return {"images": torch.zeros(len(targets), 3, 32, 32), "target": list(targets), "key": [f"k{t}" for t in targets]}


def test_loss_by_hand():
    logits = Logits(torch.tensor([[0.0, math.log(2), 0.0]]))
    assert float(built().loss(lambda images: logits, batch(1))["loss"]) == pytest.approx(-math.log(2 / 4))


def test_label_smoothing_by_hand():
    p = torch.tensor([[1, 2, 1]]) / 4
    smooth = float(-(p.log() * torch.tensor([[0.1, 0.8, 0.1]])).sum())  # 0.3 spread over 3 classes
    loss = built(label_smoothing=0.3).loss(lambda images: Logits(p.log()), batch(1))
    assert float(loss["loss"]) == pytest.approx(smooth)


def test_mixed_images_are_judged_by_the_shares_of_their_classes():
    """Cross-entropy is linear in the truth, so the loss is that of both classes, weighted."""
    images = torch.arange(2.0).view(2, 1, 1, 1).expand(2, 3, 8, 8)
    seen, scores = [], torch.randn(2, 3)
    objective = built(augmentation={"mixup_alpha": 0.5})
    torch.manual_seed(3)
    loss = objective.loss(
        lambda given: (seen.append(given), Logits(scores))[1], {"images": images, "target": [0, 2], "key": ["a", "b"]}
    )
    share = float(seen[0][1].mean())
    own, other = (F.cross_entropy(scores, torch.tensor(targets)) for targets in ([0, 2], [2, 0]))
    assert 0 < share < 1
    torch.testing.assert_close(loss["loss"], share * own + (1 - share) * other)


def test_auxiliary_heads_count_with_their_weight():
    main, extra = torch.randn(2, 3), torch.randn(2, 3)
    losses = built().loss(lambda images: Logits(main, ((0.3, extra),)), batch(0, 2))
    assert losses.keys() == {"loss", "loss_auxiliary1"}
    torch.testing.assert_close(losses["loss_auxiliary1"], 0.3 * F.cross_entropy(extra, torch.tensor([0, 2])))


def test_predictions_are_probabilities_by_key():
    objective, scores = built(), torch.randn(2, 3)
    predictions = objective.predict(lambda images: Logits(scores), batch(0, 2))
    assert [p.key for p in predictions] == ["k0", "k2"]
    np.testing.assert_allclose([p.probabilities for p in predictions], scores.softmax(1), rtol=1e-6)
    metric = objective.metric()
    metric.update(predictions, [int(scores[0].argmax()), int(scores[1].argmin())])
    assert metric.compute()[objective.main_metric] == 0.5


def test_gradients_reach_the_whole_model():
    torch.manual_seed(0)
    objective = built(dropout=0.2)
    model = objective.model(backbones.build("resnet18")).train()
    assert model.dropout.p == 0.2
    sum(objective.loss(model, batch(0, 1, 2, 0)).values()).backward()
    assert all(weight.grad is not None for weight in model.parameters())


def test_drop_path_and_dropout_reach_the_network():
    model = built(arch="efficientnet_b0", drop_path=0.2, dropout=0.3).model(backbones.build("efficientnet_b0"))
    rates = [module.p for module in model.modules() if isinstance(module, StochasticDepth)]
    assert rates[0] == 0 and rates[-1] == pytest.approx(0.2) and sorted(rates) == rates
    assert model.dropout.p == 0.3


def test_an_objective_that_is_not_there_names_those_that_are():
    with pytest.raises(ValueError, match="unknown objective 'contrastive'; there are: supervised"):
        built(objective="contrastive")
