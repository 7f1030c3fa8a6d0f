"""The style of plots and their bytes."""

import io

import matplotlib
from PIL import Image

from stages.pictures.figure import panel, picture, shortened


@picture
def plot(title):
    figure, axes = panel(300, 200)
    axes.plot([0, 1], [0, 1])
    axes.set_title(title)
    return figure


def test_size_and_no_metadata_of_this_machine():
    image = Image.open(io.BytesIO(plot("accuracy")))
    assert image.size == (300, 200)
    assert set(image.info) <= {"dpi"}


def test_same_input_same_bytes_whatever_the_user_s_settings():
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black", "savefig.dpi": 10}):
        styled = plot("accuracy")
        assert matplotlib.rcParams["font.size"] == 30
    assert styled == plot("accuracy") != plot("precision")


def test_a_dollar_in_a_class_name_is_a_dollar():
    assert plot(r"$5 \frac{ $") != plot("")


def test_shortened():
    assert shortened("cat") == "cat"
    assert shortened("goldfish, Carassius auratus", 10) == "goldfish…"
    assert len(shortened("x" * 100, 10)) == 10
