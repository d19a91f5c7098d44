"""Whole conversions of networks that fit the hardware only once they are rewritten.

Every step is a power of two, so nothing but a rewrite could change an integer.
"""

import numpy as np
import pytest

import dlaconv
from dlaconv.options import Options
from tests.frontends.builders import network, quant, save

CHANNELS = 16


class Source:
    """A QONNX network with 8-bit maps and weights, node by node."""

    def __init__(self, size, seed=0):
        self.nodes, self.constants = [], {"zero": np.float32(0), "eight": np.float32(8)}
        self.shape = [1, CHANNELS, *size]
        self.rng = np.random.default_rng(seed)
        self.value = self.quantised("x", 2.0**-4)

    def quantised(self, x, step):
        name = f"q{len(self.nodes)}"
        self.constants[f"{name}_step"] = np.float32(step)
        self.nodes.append(quant(x, name, f"{name}_step", "zero", "eight"))
        return name

    def op(self, op_type, *inputs, **attributes):
        name = f"v{len(self.nodes)}"
        self.nodes.append((op_type, list(inputs), [name], attributes))
        return name

    def constant(self, array):
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(array)
        return name

    def weights(self, *shape):
        integers = self.rng.integers(-127, 128, shape)
        return self.quantised(self.constant((integers * 2.0**-9).astype(np.float32)), 2.0**-9)

    def conv(
        self, kernel, outputs=CHANNELS, inputs=CHANNELS, group=1, op_type="Conv", **attributes
    ):
        split = (outputs, inputs // group) if op_type == "Conv" else (inputs, outputs // group)
        bias = (self.rng.integers(-99, 100, outputs) * 2.0**-13).astype(np.float32)
        self.value = self.op(
            op_type, self.value, self.weights(*split, *kernel), self.constant(bias),
            group=group, **attributes,
        )  # fmt: skip
        return self

    def relu(self):
        self.value = self.op("Relu", self.value)
        return self

    def stored(self, step=2.0**-4):
        self.value = self.quantised(self.value, step)
        return self

    def slice(self, axes, starts, ends, steps):
        inputs = [self.constant(np.array(part, np.int64)) for part in (starts, ends, axes, steps)]
        self.value = self.op("Slice", self.value, *inputs)
        return self

    def pad(self, *pads):
        self.value = self.op("Pad", self.value, self.constant(np.array(pads, np.int64)))
        return self

    def move(self, op_type, **attributes):
        self.value = self.op(op_type, self.value, **attributes)
        return self

    def model(self):
        return network(self.nodes, self.constants, inputs={"x": self.shape}, outputs=(self.value,))


def square(size):
    return Source((size, size))


def enlarged(source, factor):
    scales = source.constant(np.array([1, 1, factor, factor], np.float32))
    source.value = source.op("Resize", source.value, "", scales, mode="nearest")
    return source


NETWORKS = {
    "dilated_conv": lambda: square(12).conv((3, 3), dilations=[2, 3]).relu().stored(),
    "dilated_phases": lambda: square(16)
    .conv((3, 3), dilations=[6, 4], pads=[6, 4, 6, 4])
    .relu()
    .stored()
    .conv((3, 3), dilations=[4, 4])
    .stored(),
    "dilated_phases with a cut": lambda: square(15)
    .conv((3, 3), dilations=[4, 4], pads=[4] * 4)
    .relu()
    .stored(),
    "small_depthwise": lambda: square(3).conv((3, 3), group=16, pads=[1] * 4).relu().stored(),
    "grouped_conv": lambda: square(8).conv((3, 3), group=4).relu().stored(),
    "conv_pads": lambda: square(8)
    .conv((3, 3), strides=[2, 2], pads=[0, 0, 1, 1])
    .relu()
    .stored()
    .conv((5, 5), pads=[5, 4, 5, 4])
    .stored(),
    "selection": lambda: square(8)
    .conv((1, 1))
    .relu()
    .stored()
    .slice([2, 3], [0, 1], [99, 99], [2, 2])
    .pad(0, 8, 0, 0, 0, 8, 0, 0)
    .move("Relu")
    .slice([1], [8], [24], [1])
    .conv((1, 1))
    .stored(),
    "polyphase": lambda: square(24)
    .conv((4, 4), strides=[4, 4])
    .relu()
    .stored()
    .conv((9, 9), pads=[4] * 4)
    .relu()
    .stored(),
    "polyphase with a cut": lambda: square(11).conv((9, 9), pads=[4] * 4).relu().stored(),
    "conv_transpose": lambda: square(4)
    .conv((4, 4), op_type="ConvTranspose", strides=[2, 2], pads=[1] * 4)
    .relu()
    .stored()
    .conv((3, 3), op_type="ConvTranspose", strides=[2, 2], pads=[1] * 4, group=2)
    .stored(),
    # the phases of 8 channels are whole groups of 16, what is put together of them is not
    "channel_padding of two by two phases": lambda: square(4)
    .conv((4, 4), op_type="ConvTranspose", outputs=8, strides=[2, 2], pads=[1] * 4)
    .relu()
    .stored()
    .conv((1, 1), inputs=8)
    .stored(),
    # 80 phases would be whole groups, but not of 9
    "channel_padding of three by three phases": lambda: square(4)
    .conv((3, 3), op_type="ConvTranspose", outputs=8, strides=[3, 3])
    .stored()
    .conv((1, 1), inputs=8)
    .stored(),
    "channel_padding with a cut": lambda: square(11)
    .conv((9, 9), outputs=8, pads=[4] * 4)
    .relu()
    .stored()
    .conv((1, 1), inputs=8)
    .stored(),
    "conv1d": lambda: Source((12,)).conv((3,), pads=[1, 1]).relu().stored().conv((3,)).stored(),
    "depth_to_space": lambda: square(4)
    .conv((1, 1), outputs=64)
    .move("DepthToSpace", blocksize=2)
    .relu()
    .stored()
    .conv((3, 3))
    .stored(),
    "resize_nearest": lambda: enlarged(square(4).conv((1, 1)).relu().stored(), 2)
    .conv((3, 3))
    .stored(),
    "resize_nearest before its rounding": lambda: enlarged(square(4).conv((1, 1)), 3).stored(),
    "space_to_depth": lambda: square(6).move("SpaceToDepth", blocksize=2).slice(
        [1], [0], [16], [1]
    ).conv((1, 1)).stored(),
}  # fmt: skip


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
    assert {row["class"] for row in report["tensors"]} == {"exact"}
    assert not conversion.diagnostics.errors
