"""A backbone with the classification heads of its published architecture."""

from typing import NamedTuple

from torch import Tensor, nn

from stages.models.backbone import Backbone


class Logits(NamedTuple):
    """Scores float [B, num_classes] of the main head, and (loss weight, scores) of each auxiliary head."""

    main: Tensor
    auxiliary: tuple[tuple[float, Tensor], ...] = ()


class Classifier(nn.Module):
    """Linear classifier on a backbone's pooled features; while training, also its auxiliary classifiers.

    dropout: probability before the last layer, and between VGG's hidden layers (0.5 in the paper).
    auxiliary: build the auxiliary classifiers, if the architecture has any.
    image_px_min: smallest side of an image it can train on.
    """

    def __init__(self, backbone: Backbone, num_classes: int, dropout: float = 0.0, auxiliary: bool = True) -> None:
        super().__init__()
        self.backbone = backbone
        self.dropout = nn.Dropout(dropout)
        for layer in backbone.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = dropout
        layout = backbone.layout
        self.auxiliary = layout.auxiliary if auxiliary else ()
        self.image_px_min = max(backbone.image_px_min, *(head.image_px_min for head in self.auxiliary), 0)
        self.heads = nn.ModuleDict()
        _add(self.heads, layout.head_name, layout.head(num_classes))
        for head in self.auxiliary:
            _add(self.heads, head.name, head.make(num_classes))

    @property
    def last_layer(self) -> nn.Linear:
        """The linear layer on the pooled features."""
        return self.heads.get_submodule(self.backbone.layout.head_name)  # type: ignore[return-value]

    def forward(self, images: Tensor) -> Logits:
        """Scores of images float [B, 3, H, W]; `auxiliary` is empty in eval mode."""
        heads = self.auxiliary if self.training else ()
        if heads and min(images.shape[-2:]) < self.image_px_min:
            raise ValueError(
                f"{self.backbone.arch} trains its auxiliary classifiers on images of at least {self.image_px_min} px "
                f"a side, got {min(images.shape[-2:])} px; make image_px larger"
            )
        pooled, taps = self.backbone.forward_taps(images, [head.after for head in heads])
        main = self.last_layer(self.dropout(pooled))
        scores = (self.heads.get_submodule(head.name)(tap) for head, tap in zip(heads, taps, strict=True))
        return Logits(main, tuple((head.loss_weight, score) for head, score in zip(heads, scores, strict=True)))


def _add(heads: nn.ModuleDict, name: str, module: nn.Module) -> None:
    """Nest dicts so that "classifier.6" is the module's path, as it is in torchvision."""
    *path, last = name.split(".")
    for part in path:
        inner = nn.ModuleDict()
        heads[part] = inner
        heads = inner
    heads[last] = module
