"""The model card's page, from plain data."""

import base64
import html.parser
import re

import pytest

from stages.pictures.card import Card, page, summary

PNG = b"\x89PNG no picture, but bytes"
CLASSIFICATION = {
    "kind": "classification", "dataset": "cells", "num_images": 30, "main_metric": "top1", "resamples": 100,
    "confidence": 0.95, "findings": ["pretraining helps: top1 +0.100 [+0.050, +0.150] at 95% confidence"],
    "before": {"intervals": {"top1": {"value": 0.2, "low": 0.1, "high": 0.3}}},
    "after": {
        "top1": 0.75, "ece": 0.042, "nll": 0.5,
        "intervals": {"top1": {"value": 0.75, "low": 0.625, "high": 0.875}},
        "per_class": {
            "a<b": {"precision": None, "recall": 0.5, "f1": 0.25, "support": 25},
            "rare": {"precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 5},
        },
    },
}  # fmt: skip
DETECTION = CLASSIFICATION | {
    "kind": "detection", "main_metric": "ap",
    "after": {
        "ap": 0.5, "ap_small": 0.125, "ar_small": 0.375, "ap_medium": None, "ar_medium": None,
        "intervals": {"ap": {"value": 0.5, "low": None, "high": None}},
        "per_class": {"disc": {"ap": 0.5, "ap50": 0.875, "num_truth": 40}},
    },
}  # fmt: skip


def card(report=CLASSIFICATION, **changed):
    facts = {
        "name": "patterns", "version": "3", "purpose": "Sorts <shapes>.", "limits": "Not for night & fog.",
        "classes": {"a<b": "a<b", "rare": "Rare thing"}, "input_px": "64 × 64", "counts": {"train": 80, "test": 30},
        "lineage": [("snapshot commit", "abc123")], "report": report, "champion": None,
        "champion_note": "There was no champion to compare with.",
        "pictures": {"worst.png": PNG, "reliability.png": PNG + b"2"}, "saliency": [("rare 0.90, truth rare", PNG)],
    }  # fmt: skip
    return Card(**(facts | changed))


def text_of(markup):
    """What a reader sees; every tag that is opened must be closed."""
    void = {"meta", "link", "img", "br"}

    class Reader(html.parser.HTMLParser):
        open, words = [], ""

        def handle_starttag(self, tag, attrs):
            self.open = self.open if tag in void else [*self.open, tag]

        def handle_endtag(self, tag):
            assert self.open[-1] == tag
            self.open = self.open[:-1]

        def handle_data(self, data):
            self.words += data if "style" not in self.open else ""

    reader = Reader()
    reader.feed(markup)
    assert reader.open == []
    return reader.words


def test_the_card_tells_all_its_sections():
    text = text_of(page(card()))
    for told in (
        "patterns, version 3", "Sorts <shapes>.", "Not for night & fog.", "rare (Rare thing)", "train 80, test 30",
        "abc123", "0.750 [0.625, 0.875]", "0.200 [0.100, 0.300]", "pretraining helps", "no champion to compare with",
        "Expected calibration error 0.042", "rare 0.90, truth rare", "Under 20 test samples", "64 × 64 px",
    ):  # fmt: skip
        assert told in text
    assert "from scratch" not in text
    assert text.partition("numbers mean little: ")[2].startswith("rare.")


def test_pictures_lie_in_the_page_and_nothing_is_asked_of_any_host():
    markup = page(card())
    sources = re.findall(r'(?:src|href)="([^"]*)"', markup)
    assert len(sources) == 4
    assert all(source.startswith("data:") for source in sources)
    assert "http" not in markup
    assert base64.b64encode(PNG).decode() in markup
    assert "comparison.png was not drawn" in markup


def test_the_champion_gets_a_column_where_it_can_be_compared():
    other = {"after": {"intervals": {"top1": {"value": 0.5, "low": 0.4, "high": 0.6}}}}
    text = text_of(page(card(champion=other, champion_note="The champion is version 2.")))
    assert "0.500 [0.400, 0.600]" in text
    assert "The champion is version 2." in text


def test_a_detector_has_sizes_and_no_calibration():
    text = text_of(page(card(DETECTION, classes={"disc": "disc"})))
    assert "object size (COCO)" in text
    assert "0.125" in text and "0.375" in text
    assert "calibration error" not in text
    assert "40" in text
    assert summary(card(DETECTION)) == "detection of 2 classes: ap 0.500 on 30 test images"


def test_sizes_of_masks_stand_before_those_of_boxes():
    after = DETECTION["after"] | {"mask_ap_small": 0.0625, "mask_ar_small": None}
    text = text_of(page(card(DETECTION | {"after": after}, classes={"disc": "disc"})))
    assert "0.062" in text and text.index("mask_ap") < text.index("0.125")


@pytest.mark.parametrize("missing", ["purpose", "limits"])
def test_a_text_may_be_missing(missing):
    text = text_of(page(card(**{missing: ""})))
    assert ("set `models.NAME.purpose`" in text) == (missing == "purpose")


def test_the_same_facts_give_the_same_page():
    assert page(card()) == page(card())
