"""Heat laid over images."""

import numpy as np

from stages.pictures.heat import overlay


def test_the_overlay_is_the_image_where_nothing_is_hot(decoded):
    image = np.full((30, 60, 3), 100, np.uint8)
    heat = np.zeros((30, 60), np.float32)
    heat[:, 30:] = 1
    drawn = decoded(overlay(image, heat, (5, 5, 25, 25)))
    assert drawn.shape == (112, 224, 3)
    assert (drawn[3, 3] == 100).all()
    assert drawn[56, 180, 0] > 150 > drawn[56, 180, 2]
    assert (drawn[19, 50] == 255).all()
