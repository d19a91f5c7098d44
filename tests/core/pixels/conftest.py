"""Networks that take pixels, and pixels, for the tests of folded preprocessing."""

import numpy as np
import pytest

from tests.core.pixels.networks import bytes_of, classifier


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "pixels.npz"
    np.savez(path, x=bytes_of(24))
    return path


@pytest.fixture
def net(tmp_path):
    return classifier(tmp_path / "net.onnx")


@pytest.fixture(params=[False, True], ids=["plain", "padded"])
def either(tmp_path, request):
    """A network without padding in the first layer, and one with, which takes a further channel."""
    return classifier(tmp_path / "net.onnx", pads=int(request.param))
