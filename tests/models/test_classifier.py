"""Classifiers against torchvision's own models with the same weights."""

import re

import pytest
import torch
import torchvision
from torch.nn import functional as F

from stages.models import backbones
from stages.models.classifier import Classifier


def classifier(arch: str, num_classes: int, **kwargs) -> Classifier:
    torch.manual_seed(0)
    return Classifier(backbones.build(arch), num_classes, **kwargs)


def reference(model: Classifier, **kwargs) -> torch.nn.Module:
    """torchvision's model with our model's tensors, all of them and no others."""
    state = {re.sub(r"^(backbone\.net|heads)\.", "", name): tensor for name, tensor in model.state_dict().items()}
    with torch.device("meta"):
        if model.backbone.arch == "vit_ti_16":  # DeiT's smallest, for which torchvision has the class alone
            net = torchvision.models.VisionTransformer(224, 16, 12, 3, 192, 768, **kwargs)
        else:
            net = torchvision.models.get_model(model.backbone.arch, weights=None, **kwargs)
    net.load_state_dict(state, strict=True, assign=True)
    return net.train(model.training)


@pytest.mark.parametrize(
    ("arch", "side", "auxiliary"),
    [
        ("resnet18", 64, False),
        ("vgg11_bn", 64, False),
        ("inception_v3", 107, True),
        ("googlenet", 64, True),
        ("efficientnet_b0", 70, False),
        ("mobilenet_v2", 70, False),
        ("mobilenet_v3_small", 70, False),
        ("convnext_tiny", 70, False),
        ("vit_ti_16", 224, False),
        ("swin_t", 70, False),
        ("swin_v2_t", 70, False),
    ],
)
@torch.no_grad()
def test_logits_equal_torchvisions(arch, side, auxiliary):
    model = classifier(arch, 7).eval()
    kwargs = {"aux_logits": True, "init_weights": False} if auxiliary else {}
    images = torch.rand(2, 3, side, side)
    logits = model(images)
    assert logits.auxiliary == ()
    torch.testing.assert_close(logits.main, reference(model, num_classes=7, **kwargs)(images))


@pytest.mark.parametrize(("arch", "side", "weights"), [("inception_v3", 299, (0.4,)), ("googlenet", 64, (0.3, 0.3))])
def test_auxiliary_logits_equal_torchvisions_while_training(arch, side, weights):
    model = classifier(arch, 7)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    net = reference(model, num_classes=7, aux_logits=True, init_weights=False, dropout=0.0)
    if arch == "googlenet":
        net.aux1.dropout.p = net.aux2.dropout.p = 0.0
    images = torch.rand(2, 3, side, side)
    # Running statistics are shared with the reference: only the second forward's update is seen, not its result.
    expected, logits = net(images), model(images)
    torch.testing.assert_close(logits.main, expected.logits)
    assert tuple(weight for weight, _ in logits.auxiliary) == weights
    named = (expected.aux_logits,) if arch == "inception_v3" else (expected.aux_logits1, expected.aux_logits2)
    for (_, ours), theirs in zip(logits.auxiliary, named, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("arch", ["googlenet", "efficientnet_b0", "mobilenet_v3_small", "vit_ti_16", "swin_v2_t"])
def test_every_parameter_gets_a_gradient(arch):
    model = classifier(arch, 5)
    logits = model(torch.rand(4, 3, 64, 64))
    labels = torch.tensor([0, 1, 2, 3])
    loss = F.cross_entropy(logits.main, labels)
    (loss + sum(weight * F.cross_entropy(x, labels) for weight, x in logits.auxiliary)).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]


def test_auxiliary_classifiers_need_large_images():
    model = classifier("inception_v3", 5)
    assert (model.image_px_min, model.backbone.image_px_min) == (299, 75)
    with pytest.raises(ValueError, match="images of at least 299 px a side, got 128 px; make image_px larger"):
        model(torch.rand(2, 3, 128, 128))


def test_without_auxiliary_classifiers():
    model = classifier("inception_v3", 5, auxiliary=False)
    assert not [name for name in model.state_dict() if "Aux" in name]
    assert model.image_px_min == 75
    assert model(torch.rand(2, 3, 96, 96)).main.shape == (2, 5)


def test_dropout_of_published_networks_is_off_unless_asked_for():
    for arch, images in (("mobilenet_v3_small", torch.rand(2, 3, 64, 64)), ("vit_ti_16", torch.rand(2, 3, 32, 32))):
        for dropout, is_same in ((0.0, True), (0.5, False)):
            model = classifier(arch, 5, dropout=dropout)
            model.backbone.freeze_batch_norm()
            model.train()
            assert model(images).main.equal(model(images).main) is is_same


def test_dropout_is_the_one_that_was_asked_for():
    model = classifier("resnet18", 5, dropout=1.0)
    with torch.no_grad():
        model.last_layer.bias.fill_(0.25)
    assert (model(torch.rand(2, 3, 32, 32)).main == 0.25).all()
    assert not (model.eval()(torch.rand(2, 3, 32, 32)).main == 0.25).any()
