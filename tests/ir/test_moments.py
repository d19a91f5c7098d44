"""How the inputs of linear layers vary together."""

import numpy as np
import onnx_ir as ir
import pytest

from dlaconv.ir.calibration import moments
from dlaconv.ir.calibration.dataset import Stacked
from dlaconv.ir.graph import is_op
from tests.ir.scales.graphs import Net


def network(**window):
    """One convolution on four channels of which the last is half the first, and its data."""
    net = Net(3, channels=4, size=6)
    attributes = {"pads": [1, 0, 2, 1], "strides": [2, 1], "dilations": [1, 2], "group": 1} | window
    shape = (4, 4 // attributes["group"], 3, 2)
    weights = ir.tensor(net.random.normal(size=shape).astype(np.float32), name="w")
    constant = ir.Value(name="w", const_value=weights)
    size = (6 + sum(attributes["pads"][::2]) - 3) // attributes["strides"][0] + 1
    width = 6 + sum(attributes["pads"][1::2]) - attributes["dilations"][1]
    result = net.op(
        "Conv",
        net.x,
        constant,
        shape=(1, 4, size, (width - 1) // attributes["strides"][1] + 1),
        kernel_shape=[3, 2],
        **attributes,
    )
    net.output(result)
    data = net.random.normal(size=(40, 4, 6, 6)).astype(np.float32) + 2
    data[:, 3] = data[:, 0] / 2
    return net, data


def found(net, data, means=None):
    layers = [node for node in net.graph if is_op(node, "Conv", "Gemm")]
    channels = data.mean(axis=(0, *range(2, data.ndim))) if means is None else means
    given = {node.name: channels for node in layers}
    return dict(moments.covariances(net.model, Stacked({"x": data}), layers, given))


@pytest.mark.parametrize("group", [1, 2, 4])
def test_they_are_the_second_moments_of_what_every_position_reads(group):
    net, data = network(group=group)
    means = data.mean(axis=(0, 2, 3))
    (covariance,) = found(net, data).values()
    padded = np.pad(data, [(0, 0), (0, 0), (1, 2), (0, 1)])
    rows = [
        padded[:, :, i : i + 3, [j, j + 2]] - means.reshape(1, -1, 1, 1)
        for i in range(0, 7, 2)
        for j in range(5)
    ]
    rows = np.concatenate(rows).reshape(len(rows) * len(data), group, -1)
    for index in range(group):
        wanted = rows[:, index].T @ rows[:, index] / len(rows)
        np.testing.assert_allclose(np.diag(covariance[index]), np.diag(wanted), rtol=1e-4)
        off = covariance[index] - np.diag(np.diag(wanted))
        scale = np.abs(wanted).max()
        assert np.abs(off - (wanted - np.diag(np.diag(wanted)))).max() < 0.1 * scale
        assert np.linalg.eigvalsh(covariance[index]).min() > -1e-6 * scale


def test_what_only_few_samples_have_in_common_does_not_count():
    net, data = network()
    data = net.random.normal(size=data.shape).astype(np.float32)
    (few,) = found(net, data[:3]).values()
    (many,) = found(net, data).values()
    rows = [np.diag(matrix[0]) for matrix in (few, many)]
    beside = [
        np.abs(matrix[0] - np.diag(row)).mean()
        for matrix, row in zip((few, many), rows, strict=True)
    ]
    assert beside[0] < 0.1
    assert beside[1] < 0.05


def test_layers_of_which_too_little_was_seen_are_left_out():
    net = Net(1, channels=16, size=1)
    net.x.shape = ir.Shape([1, 16])
    weights = ir.Value(name="w", const_value=ir.tensor(np.ones((4, 16), np.float32), name="w"))
    net.output(net.op("Gemm", net.x, weights, shape=(1, 4), transB=1))
    data = net.random.normal(size=(8, 16)).astype(np.float32)
    assert not found(net, data[:7])
    assert next(iter(found(net, data).values())).shape == (1, 16, 16)


def test_a_run_keeps_no_more_than_memory_allows(monkeypatch):
    net, data = network()
    net.output(net.float_conv(net.graph.outputs[0]))
    whole = found(net, data)
    monkeypatch.setattr(moments, "_BYTES", 4 * 36 * moments._FEWEST)
    runs = []
    monkeypatch.setattr(
        moments, "Executor", lambda *a, run=moments.Executor: runs.append(a) or run(*a)
    )
    again = found(net, data)
    assert len(runs) == 2
    for name, covariance in whole.items():
        np.testing.assert_array_equal(again[name], covariance)
    monkeypatch.setattr(moments, "_BYTES", 100)
    assert not found(net, data)
