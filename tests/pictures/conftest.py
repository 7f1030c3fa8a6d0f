"""Reading pictures back."""

import io

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def decoded():
    """A function from PNG bytes to pixels uint8 [H, W, 3]."""

    def decode(data):
        assert data.startswith(b"\x89PNG")
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))

    return decode
