"""Networks that the cases of several rules share."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from tests.backends.access.rules.rule_nets import (
    MAP_SCALE,
    WEIGHT_SCALE,
    Net,
    one_conv,
    one_depthwise,
    one_gemm,
    one_op,
)


def batch_norm(*, used_twice: bool = False, first: str = "Conv") -> ir.Model:
    net = Net()
    x = net.input(1, 16, 8, 8)
    y = net.conv(x) if first == "Conv" else net.op(first, x)
    ones = [net.constant(np.ones(16, np.float32), f"bn{index}") for index in range(4)]
    return net.model(net.op("BatchNormalization", y, *ones), *([y] if used_twice else []))


def after_conv(op_type: str, *, opset: int = 12, channels: int = 16, **changes) -> ir.Model:
    net = Net()
    y = net.conv(net.input(1, 16, 8, 8), channels)
    return net.model(net.op(op_type, y, **changes), opset=opset)


def chain(*op_types: str) -> ir.Model:
    net = Net()
    y = net.conv(net.input(1, 16, 8, 8))
    for op_type in op_types:
        y = net.op(op_type, y)
    return net.model(y)


def prelu(slopes: list[float]) -> ir.Model:
    net = Net()
    y = net.conv(net.input(1, 16, 8, 8))
    slope = net.constant(np.asarray(slopes, np.float32).reshape(-1, 1, 1), "slope")
    return net.model(net.op("PRelu", y, slope))


def with_constant(op_type: str, shape: tuple[int, ...], *, twice: bool = False) -> ir.Model:
    net = Net()
    y = net.conv(net.input(1, 16, 8, 8))
    other = net.conv(y) if twice else net.constant(np.ones(shape, np.float32), "k")
    return net.model(net.op(op_type, y, other))


def operands(count: int) -> ir.Model:
    net = Net()
    x = net.input(1, 16, 8, 8)
    return net.model(net.op("Add", *(net.conv(x) for _ in range(count))))


def add_of(*shapes: tuple[int, ...], op_type: str = "Add") -> ir.Model:
    return one_op(op_type, *shapes)


def residual(*, through: bool) -> ir.Model:
    net = Net()
    x = net.input(1, 16, 8, 8)
    left = net.conv(x)
    return net.model(net.op("Add", left, net.conv(x) if through else x))


def concat_with_input(channels: int) -> ir.Model:
    net = Net()
    x = net.input(1, 16, 8, 8)
    extra = net.input(1, channels, 8, 8, name="extra")
    return net.model(net.op("Concat", net.conv(x), extra, axis=1))


def inner_conv(channels: int) -> ir.Model:
    net = Net()
    y = net.conv(net.input(1, 16, 8, 8), channels)
    return net.model(net.conv(y, 16, channels_in=channels))


def shared(second: float) -> ir.Model:
    net = Net()
    y = net.conv(net.input(1, 16, 8, 8), output_scale=MAP_SCALE)
    return net.model(net.conv(y, input_scale=second))


def reshape(*shape: int) -> ir.Model:
    net = Net()
    x = net.input(1, 16, 4, 4)
    return net.model(net.op("Reshape", x, net.constant(np.asarray(shape, np.int64), "shape")))


def undefined() -> ir.Model:
    net = Net()
    return net.model(net.op("Relu", ir.val("nowhere")))


def deep_matmul(depth: int) -> ir.Model:
    return one_op("MatMul", (1, 1, 4, depth), (1, 1, depth, 4))


def pool(op_type: str, kernel: int, *, size: int = 8, **changes) -> ir.Model:
    changes.setdefault("strides", [2, 2])
    return one_op(op_type, (1, 16, size, size), kernel_shape=[kernel, kernel], **changes)


def scales(value: float, channel: int = 3) -> list[float]:
    scales = [float(np.float32(WEIGHT_SCALE))] * 16
    scales[channel] = value
    return scales


def weights_off_by(units: float) -> ir.Model:
    integers = np.zeros((16, 16, 1, 1))
    integers[:, 0] = 5
    integers[2, 0] += units
    return one_conv(integers=integers, convention="guide")


def gemm_integers(largest: int) -> ir.Model:
    integers = np.full((16, 16), 3)
    integers[4, 4] = largest
    return one_gemm(integers=integers)


def integers(largest: int, **changes) -> ir.Model:
    build = changes.pop("build", one_conv)
    integers = np.full((16, 1 if build is one_depthwise else 16, 1, 1), 3)
    integers[4, 0] = largest
    return build(integers=integers, **changes)


def one_bias() -> ir.Model:
    net = Net()
    x, weights = net.input(1, 16), net.constant(np.ones((16, 16), np.float32), "w")
    bias = net.constant(np.ones(1, np.float32), "b")
    return net.model(net.op("Gemm", x, weights, bias, transB=1, weight_ch_scales=[1.0] * 16))


def factor(log2: int) -> ir.Model:
    """A convolution whose requantisation factor is 2^log2."""
    return one_conv(scales=2.0**-7, input_scale=1.0, output_scale=2.0 ** (-7 - log2))


def attention(rows: int, columns: int) -> ir.Model:
    """A product of matrices, 4 rows of 8 channels, divided by one of ``rows`` x ``columns``."""
    net = Net()
    left, right = net.input(1, 4, 4, 6, name="a"), net.input(1, 4, 6, 8, name="b")
    product = net.op("MatMul", left, right)
    return net.model(net.op("Div", product, net.input(1, 4, rows, columns, name="sum")))


def distant(log2: int) -> ir.Model:
    """An Add of two maps whose scales are 2^log2 apart."""
    net = Net()
    x = net.input(1, 16, 8, 8)
    left = net.conv(x, scale=2.0**-4)
    return net.model(net.op("Add", left, net.conv(x, scale=2.0 ** (-4 - log2))))
