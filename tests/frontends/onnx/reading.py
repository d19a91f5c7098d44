"""Small files for the reader of ONNX, and what it says of them."""

import numpy as np
import pytest

from dlaconv.errors import UnreadableError
from dlaconv.frontends.onnx.reader import read_onnx
from tests.frontends.builders import network


def relu():
    return network([("Relu", ["x"], ["y"])])


def conv(**more):
    weights = np.arange(2000 * 3, dtype=np.float32).reshape(2000, 3, 1, 1)
    return network([("Conv", ["x", "w"], ["y"])], {"w": weights}, **more)


def refused(path):
    with pytest.raises(UnreadableError) as caught:
        read_onnx(path)
    assert caught.value.exit_code == 3
    for error in caught.value.diagnostics:
        assert error.location.file == str(path)
        assert error.help
        assert error.message
    return caught.value.diagnostics


def the_rule(path):
    rules = {error.rule for error in refused(path)}
    assert len(rules) == 1
    return rules.pop()
