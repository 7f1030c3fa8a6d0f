"""A small params.yaml with comments, in a folder of its own."""

import pytest

TEXT = """\
# What this project trains.
seed: 7            # all randomness
cpu_threads: 2

datasets:
  pets: {}
  birds:
    validation: {min_samples: 5}   # few

backbones:
  small-net:
    dataset: pets
    arch: resnet18
    stem: "small"                  # quoted on purpose
    objective: supervised
    training: {epochs: 1.5}

tasks:
  # the first task
  cells:
    kind: detection
    dataset: birds
    backbone: small-net
    training:
      steps: 10                    # optimizer steps
      batch_size: 4
    faster_rcnn: {anchor_sizes_px: [32, 64]}
  breeds:
    kind: classification
    dataset: pets
    backbone: small-net
    training: {steps: 5, optimizer: {lr: 1e-3}}
"""


@pytest.fixture
def params_file(tmp_path, monkeypatch):
    """./params.yaml with the text above."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(TEXT)
    return tmp_path / "params.yaml"
