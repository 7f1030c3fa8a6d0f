"""What dvc.lock tells of a model's ancestors."""

from stages.data import pointers


def entry(out: str, *deps: tuple[str, str]) -> dict:
    return {"outs": [{"path": "x", "md5": out}], "deps": [{"path": path, "md5": md5} for path, md5 in deps]}


STAGES = {
    "pretrain@net": entry("b.dir", ("data/big", "d1.dir"), ("stages/pretrain.py", "c1")),
    "finetune@cells": entry("m.dir", ("data/cells", "d2.dir"), ("models/net", "b.dir"), ("reports/validate/x", "r")),
}


def test_a_model_learned_from_its_data_and_from_its_backbones() -> None:
    assert pointers.trained_on(STAGES, "finetune@cells", "m.dir") == [("big", "d1.dir"), ("cells", "d2.dir")]


def test_published_weights_learned_from_none_of_our_datasets() -> None:
    def known(**backbone: str | None) -> list[tuple[str, str]] | None:
        net = STAGES["pretrain@net"] | {"params": {"params.yaml": {"backbones.net": backbone}}}
        return pointers.trained_on(STAGES | {"pretrain@net": net}, "finetune@cells", "m.dir")

    assert known(weights="resnet.pth") == known(weights="resnet.pth", training=None) == [("cells", "d2.dir")]
    assert known(weights="resnet.pth", training="epochs: 1") == [("big", "d1.dir"), ("cells", "d2.dir")]


def test_of_another_model_nothing_is_known() -> None:
    assert pointers.trained_on(STAGES, "finetune@cells", "other.dir") is None
    assert pointers.trained_on({}, "finetune@cells", "m.dir") is None
    newer = STAGES | {"pretrain@net": entry("b2.dir", ("data/big", "d1.dir"))}
    assert pointers.trained_on(newer, "finetune@cells", "m.dir") is None


def test_deps_of_a_stage() -> None:
    assert pointers.deps(STAGES, "pretrain@net") == {"data/big": "d1.dir", "stages/pretrain.py": "c1"}
    assert pointers.deps(STAGES, "pretrain@other") == {}
