"""Whole conversions of networks with constants, sums and large fully connected layers.

Every step is a power of two, so nothing but a rewrite could change an integer.
"""

import numpy as np
import pytest

import dlaconv
from dlaconv.options import Options
from tests.core.test_legalised_convolutions import CHANNELS, Source
from tests.frontends.builders import save


class Constants(Source):
    """A network with operators on constants, and on several maps."""

    def with_constant(self, op_type, array, *, first=False):
        operands = [self.value, self.constant(np.asarray(array, np.float32))]
        self.value = self.op(op_type, *(operands[::-1] if first else operands))
        return self

    def with_map(self, op_type, *others):
        self.value = self.op(op_type, self.value, *others)
        return self

    def reshape(self, *shape):
        self.value = self.op("Reshape", self.value, self.constant(np.array(shape)))
        return self

    def fully_connected(self, inputs, outputs):
        self.value = self.op("Gemm", self.value, self.weights(outputs, inputs), transB=1)
        return self

    def branches(self, count, step=2.0**-4):
        """Several stored maps, made by 1x1 convolutions of one map; the last one is the value."""
        start, made = self.value, []
        for _ in range(count):
            self.value = start
            made.append(self.conv((1, 1)).stored(step).value)
        return made[:-1]


def powers(*shape):
    rng = np.random.default_rng(3)
    return np.exp2(rng.integers(-2, 2, shape)) * rng.choice([-1, 1], shape)


def normalised(net):
    """A BatchNormalization with factors that are powers of two."""
    numbers = [powers(CHANNELS), powers(CHANNELS), 0 * powers(CHANNELS), powers(CHANNELS) ** 2]
    names = [net.constant(array.astype(np.float32)) for array in numbers]
    net.value = net.op("BatchNormalization", net.value, *names, epsilon=0.0)
    return net


def constants(size=8):
    return Constants((size, size))


def difference(size=8):
    net = constants(size)
    [other] = net.branches(2)
    return net.with_map("Sub", other).stored(2.0**-3)


def mean_of_three():
    net = constants()
    others = net.branches(4)
    return net.with_map("Sum", *others).with_constant("Div", np.float32(4)).stored()


def positive_difference():
    net = constants()
    [first] = net.branches(2)
    second = net.relu().value
    net.value = first
    return net.with_map("Sub", second).stored(2.0**-3)


COLUMN = (CHANNELS, 1, 1)
NETWORKS = {
    "channel_affine": lambda: (
        constants()
        .with_constant("Mul", powers(*COLUMN))
        .with_constant("Sub", powers(*COLUMN), first=True)
        .stored()
    ),
    "channel_affine of a normalisation": lambda: normalised(constants()).relu().stored(),
    "channel_affine of small maps": lambda: normalised(constants(2)).stored(),
    "forward_affine": lambda: (
        constants().with_constant("Sub", np.float32(0.5)).conv((3, 3)).relu().stored()
    ),
    "forward_affine of an image": lambda: (
        constants(4)
        .with_constant("Add", powers(1, CHANNELS, 4, 4))
        .reshape(1, CHANNELS * 16)
        .fully_connected(CHANNELS * 16, 10)
        .stored(2.0**-2)
    ),
    "backward_affine": lambda: (
        constants()
        .conv((1, 1))
        .reshape(1, CHANNELS, 64)
        .move("Transpose", perm=[0, 2, 1])
        .with_constant("Mul", powers(CHANNELS))
        .with_constant("Add", powers(CHANNELS))
        .stored()
    ),
    "weighted_sum": mean_of_three,
    "weighted_sum of a difference": difference,
    "subtract_maps": positive_difference,
    "flatten_fc": lambda: (
        constants(16)
        .conv((4, 4), strides=[2, 2], outputs=64)
        .relu()
        .stored()
        .reshape(1, 64 * 49)
        .fully_connected(64 * 49, 10)
        .relu()
        .stored(2.0**-2)
    ),
    "wide_fc_inputs": lambda: (
        constants(16)
        .reshape(1, CHANNELS * 256)
        .fully_connected(CHANNELS * 256, 10)
        .relu()
        .stored(2.0**-2)
    ),
    "wide_fc_outputs": lambda: (
        constants(2)
        .reshape(1, CHANNELS * 4)
        .fully_connected(CHANNELS * 4, 2080)
        .relu()
        .stored()
        .fully_connected(2080, 10)
        .stored(2.0**-2)
    ),
    "constant_matmul": lambda: tokens(constants(4)),
    "concat_axis": lambda: joined(constants(4)),
    "input_operand": lambda: added(constants()),
}


def tokens(net):
    """Two layers on rows of a matrix, with an activation between."""
    net.reshape(1, CHANNELS, 16).move("Transpose", perm=[0, 2, 1])
    net.value = net.op("MatMul", net.value, net.weights(CHANNELS, 32))
    net.with_constant("Add", powers(32)).relu().stored()
    net.value = net.op("MatMul", net.value, net.weights(32, CHANNELS))
    return net.stored(2.0**-3)


def joined(net):
    """Maps joined along their rows."""
    [other] = net.branches(2)
    net.value = net.op("Concat", net.value, other, axis=2)
    return net.conv((3, 3)).relu().stored()


def added(net):
    """A graph input that is added to what a layer makes of it."""
    start = net.value
    return net.conv((3, 3), pads=[1] * 4).stored().with_map("Add", start).relu().stored()


@pytest.mark.parametrize("name", NETWORKS)
def test_every_integer_of_the_source_is_there(name, tmp_path):
    path = save(tmp_path, NETWORKS[name]().model())
    options = Options(samples=2)
    conversion = dlaconv.convert(path, tmp_path / "net.dla.onnx", frontend="qonnx", options=options)
    report = conversion.report
    assert name.split()[0] in {rewrite["name"] for rewrite in report["rewrites"]}
    assert all(rewrite["exact"] for rewrite in report["rewrites"])
    verified = report["verification"]
    assert verified["passed"]
    assert verified["maps"]
    assert [m["name"] for m in verified["maps"] if m["accumulated"]["differing"]] == []
    assert not conversion.diagnostics.errors
