"""Cases at the limits of the target: the last legal value, and the first illegal one."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from tests.backends.access.rules.case import WARNING, Case
from tests.backends.access.rules.case_nets import (
    after_conv,
    attention,
    distant,
    gemm_integers,
    inner_conv,
    integers,
    operands,
    pool,
    prelu,
    scales,
    weights_off_by,
)
from tests.backends.access.rules.rule_nets import (
    TARGET,
    Net,
    one_conv,
    one_depthwise,
    one_gemm,
    one_op,
    two_maps,
)

wide = partial(one_conv, 1, 16, 16, 16)
"""A convolution on a map that large kernels fit on."""


def kernel(height: int, width: int):
    return lambda: wide(kernel=(height, width))


def pads(*amounts: int):
    return lambda: wide(kernel=(7, 7), pads=list(amounts))


def depthwise_pads(*amounts: int):
    return lambda: one_depthwise(1, 16, 16, 16, kernel=(7, 7), pads=list(amounts))


def pool_of(op_type: str, *kernel_shape: int, size: int = 16, **changes):
    changes.setdefault("strides", [1, 1])
    return lambda: one_op(op_type, (1, 16, size, size), kernel_shape=list(kernel_shape), **changes)


def map_of(*shape: int, op_type: str = "Relu", **changes):
    return lambda: one_op(op_type, (1, *shape), **changes)


def scaled_channel(value: float):
    return lambda: one_conv(scales=np.asarray(scales(value)))


def stated(*values: float):
    return lambda: one_conv(weight_ch_scales=list(values))


def bias_of(value: float):
    return lambda: one_conv(bias=np.full(16, value))


def concat_of(*map_scales: float):
    net = Net()
    x = net.input(1, 16, 8, 8)
    parts = [net.conv(x, output_scale=scale, scale=scale) for scale in map_scales]
    return net.model(net.op("Concat", *parts, axis=1))


MAPS = (
    Case("IO-1", map_of(1, 8, 8), map_of(0, 8, 8), "0 channels, not 1 to 512"),
    Case("IO-1", map_of(512, 8, 8), map_of(513, 8, 8), "513 channels"),
    Case("IO-2", map_of(16, 1, 1), map_of(16, 0, 1), "is 0x1"),
    Case("IO-2", map_of(16, 512, 512), map_of(16, 512, 513), "is 512x513"),
    Case("IO-2", map_of(16, 512, 512), map_of(16, 513, 512), "is 513x512"),
    Case("IO-3", lambda: inner_conv(16), lambda: inner_conv(15), "15 channels"),
    Case("IO-3", lambda: inner_conv(32), lambda: inner_conv(17), "17 channels"),
    Case("IO-3", lambda: inner_conv(2048), lambda: inner_conv(2049), "2049 channels"),
    Case(
        "IO-4",
        lambda: one_conv(1, 16, 256, 256),
        lambda: one_conv(1, 16, 256, 257),
        "is 256x257, each side must be 1 to 256",
    ),
    Case(
        "IO-5",
        one_conv,
        lambda: one_conv(channels=17),
        "take 272 bytes, the buffer has 256",
        WARNING,
        replace(TARGET, weight_buffer=256),
    ),
    Case(
        "IO-5",
        lambda: one_gemm(16, 16),
        lambda: one_gemm(17, 16),
        "take 272 bytes, the buffer has 256",
        WARNING,
        replace(TARGET, weight_buffer=256),
    ),
)
CONVOLUTIONS = (
    Case("CV-1", kernel(1, 7), kernel(1, 8), "kernel 1x8"),
    Case("CV-1", kernel(7, 1), kernel(8, 1), "kernel 8x1"),
    Case("CV-1", kernel(2, 6), kernel(8, 8), "kernel 8x8"),
    Case(
        "CV-2",
        lambda: one_conv(1, 16, 512, 512),
        lambda: one_conv(1, 16, 512, 513),
        "a map of 512x513, each side must be 1 to 512",
    ),
    Case("CV-3", lambda: one_conv(1, 2048, 8, 8), lambda: one_conv(1, 2049, 8, 8), "2049 channels"),
    Case(
        "CV-3",
        lambda: one_conv(channels=2048),
        lambda: one_conv(channels=2049),
        "makes 2049 channels",
    ),
    Case(
        "CV-4",
        lambda: wide(strides=[2, 2], kernel=(3, 3)),
        lambda: wide(strides=[2, 3], kernel=(3, 3)),
        "stride 2x3, each must be 1 or 2",
    ),
    Case("CV-5", pads(3, 3, 3, 3), pads(3, 3, 3, 4), "3x3 before and 3x4 after"),
    Case("CV-5", pads(3, 3, 3, 3), pads(4, 3, 3, 3), "4x3 before and 3x3 after"),
    Case("CV-5", pads(0, 0, 0, 0), pads(0, -1, 0, 0), "0x-1 before and 0x0 after"),
    Case(
        "CV-6",
        lambda: wide(kernel=(3, 3), dilations=[1, 1]),
        lambda: wide(kernel=(3, 3), dilations=[1, 2]),
        "dilation 1x2",
    ),
    Case(
        "CV-6",
        lambda: one_depthwise(kernel=(3, 3)),
        lambda: one_depthwise(kernel=(3, 3), dilations=[3, 3]),
        "dilation 3x3",
    ),
    Case("CV-7", lambda: one_conv(group=1), lambda: one_conv(group=8), "8 groups for 16"),
    Case("CV-8", lambda: integers(127), lambda: integers(-129), "of -129 to 3"),
    Case("CV-9", one_conv, lambda: one_conv(1, 16, 8, 8, 8, kernel=(1, 1, 1)), "rank 5"),
    Case(
        "DW-1",
        lambda: one_depthwise(1, 16, 4, 4),
        lambda: one_depthwise(1, 16, 4, 3),
        "map of 4x3, each side must be 4 to 512",
    ),
    Case(
        "DW-1",
        lambda: one_depthwise(1, 16, 512, 4),
        lambda: one_depthwise(1, 16, 513, 4),
        "map of 513x4",
    ),
    Case(
        "DW-2",
        lambda: one_depthwise(1, 16, 16, 16, kernel=(1, 7)),
        lambda: one_depthwise(1, 16, 16, 16, kernel=(1, 8)),
        "kernel 1x8",
    ),
    Case(
        "DW-3",
        lambda: one_depthwise(channels=2048),
        lambda: one_depthwise(channels=2049),
        "2049 channels",
    ),
    Case(
        "DW-4",
        lambda: one_depthwise(strides=[1, 1]),
        lambda: one_depthwise(strides=[3, 1]),
        "stride 3x1",
    ),
    Case(
        "DW-4",
        lambda: one_depthwise(strides=[2, 2]),
        lambda: one_depthwise(strides=[2, 1]),
        "differs",
        WARNING,
    ),
    Case("DW-5", depthwise_pads(3, 3, 3, 3), depthwise_pads(3, 3, 4, 3), "3x3 before and 4x3"),
    Case("DW-5", depthwise_pads(3, 3, 3, 3), depthwise_pads(4, 4, 4, 4), "4x4 before and 4x4"),
    Case("DW-5", depthwise_pads(1, 1, 1, 1), depthwise_pads(1, 1, 1, 0), "differ", WARNING),
    Case(
        "DW-6",
        lambda: integers(-128, build=one_depthwise),
        lambda: integers(128, build=one_depthwise),
        "of 128 to 128",
    ),
)
POOLS = (
    Case("PL-1", pool_of("MaxPool", 2, 2), pool_of("MaxPool", 1, 1), "kernel 1x1"),
    Case("PL-1", pool_of("MaxPool", 3, 3), pool_of("MaxPool", 3, 2), "kernel 3x2"),
    Case("PL-2", pool_of("AveragePool", 2, 2), pool_of("AveragePool", 1, 1), "kernel 1x1"),
    Case("PL-2", pool_of("AveragePool", 7, 7), pool_of("AveragePool", 7, 8), "kernel 7x8"),
    Case(
        "PL-2",
        map_of(16, 2, 2, op_type="GlobalAveragePool"),
        map_of(16, 1, 2, op_type="GlobalAveragePool"),
        "kernel 1x2",
    ),
    Case(
        "PL-3",
        pool_of("MaxPool", 3, 3, strides=[2, 2]),
        pool_of("MaxPool", 3, 3, strides=[2, 3]),
        "stride 2x3",
    ),
    Case(
        "PL-3",
        pool_of("AveragePool", 3, 3, strides=[1, 1]),
        pool_of("AveragePool", 3, 3, strides=[4, 4]),
        "stride 4x4",
    ),
    Case(
        "PL-4",
        pool_of("MaxPool", 5, 5, pads=[0, 0, 3, 3]),
        pool_of("MaxPool", 5, 5, pads=[0, 0, 4, 4]),
        "0x0 before and 4x4 after, each must be 0 to 3",
    ),
    Case(
        "PL-4",
        pool_of("AveragePool", 7, 7, pads=[3, 3, 3, 3]),
        pool_of("AveragePool", 7, 7, pads=[3, 3, 3, 4]),
        "3x3 before and 3x4 after",
    ),
    Case(
        "PL-4",
        pool_of("MaxPool", 3, 3, pads=[0, 0, 2, 2]),
        pool_of("MaxPool", 3, 3, pads=[0, 0, 2, 3]),
        "not less than the kernel 3x3",
    ),
    Case("PL-4", pool_of("MaxPool", 3, 3), pool_of("MaxPool", 3, 3, auto_pad="VALID"), "auto_pad"),
    Case(
        "PL-5",
        pool_of("MaxPool", 3, 3, pads=[0, 0, 1, 1]),
        pool_of("MaxPool", 3, 3, pads=[1, 0, 0, 0]),
        "padding 1x0 at the top and left",
    ),
    Case(
        "PL-5",
        pool_of("MaxPool", 3, 3, pads=[0, 0, 1, 1]),
        pool_of("MaxPool", 3, 3, pads=[0, 1, 0, 0]),
        "padding 0x1 at the top and left",
    ),
    Case(
        "PL-6",
        pool_of("AveragePool", 3, 3, pads=[1, 1, 0, 0]),
        pool_of("AveragePool", 3, 3, pads=[0, 0, 0, 1]),
        "padding 0x1 at the bottom and right",
    ),
    Case(
        "PL-7",
        pool_of("AveragePool", 3, 3, pads=[0, 0, 0, 0]),
        pool_of("AveragePool", 3, 3, pads=[1, 0, 0, 0], count_include_pad=0),
        "count_include_pad is 0",
        WARNING,
    ),
    Case(
        "PL-8",
        pool_of("AveragePool", 3, 3),
        pool_of("AveragePool", 3, 3, ceil_mode=1),
        "ceil_mode is 1",
    ),
)
OTHERS = (
    Case("AC-4", lambda: prelu([0.0]), lambda: prelu([-(2.0**-20)]), "-9.53674e-07 does", WARNING),
    Case("AC-4", lambda: prelu([1.0]), lambda: prelu([1.0078125]), "1.00781 does", WARNING),
    Case(
        "AC-4",
        lambda: after_conv("LeakyRelu", alpha=127 / 128),
        lambda: after_conv("LeakyRelu", alpha=255 / 256),
        "slope 0.996094 is no 8-bit integer",
        WARNING,
    ),
    Case("AC-4", lambda: prelu([0.5] * 16), lambda: prelu([0.5] * 8), "8 slopes for 16", WARNING),
    Case("FC-1", lambda: one_gemm(1), lambda: one_gemm(4096), "reads 4096 channels, not 1 to 2048"),
    Case("FC-2", lambda: one_gemm(beta=1.0), lambda: one_gemm(beta=2.0), "beta is 2, not 1"),
    Case("FC-2", lambda: one_gemm(transA=0), lambda: one_gemm(transA=1), "transA is 1, not 0"),
    Case("EL-1", lambda: operands(2), lambda: operands(1), "1 operands, not 2"),
    Case(
        "EL-2",
        lambda: attention(4, 1),
        lambda: attention(1, 8),
        "1x4x4x8 and 1x4x1x8",
        WARNING,
    ),
    Case(
        "EL-2",
        lambda: two_maps("Div"),
        lambda: one_op("Div", (1, 16, 8, 8), (1, 16, 8, 1)),
        "1x16x8x8 and 1x16x8x1",
        WARNING,
    ),
    Case(
        "CT-1", lambda: two_maps("Concat", axis=1), lambda: two_maps("Concat", axis=-1), "axis -1"
    ),
    Case("CT-1", lambda: two_maps("Concat", axis=1), lambda: two_maps("Concat", axis=0), "axis 0"),
    Case(
        "RS-1",
        lambda: one_op("ReduceSum", axes=[1]),
        lambda: one_op("ReduceSum", axes=[0]),
        "axes [0] contain the batch",
        WARNING,
    ),
    Case(
        "TR-1",
        lambda: one_op("Transpose", perm=[0, 3, 2, 1]),
        lambda: one_op("Transpose"),
        "perm [3, 2, 1, 0] moves the batch",
        WARNING,
    ),
)
NUMBERS = (
    Case(
        "SC-1",
        lambda: one_conv(output_scale=2.0**-20),
        lambda: one_conv(output_scale=float(np.nextafter(np.float32(2.0**-20), 1, dtype="f"))),
        "is no power of two (the nearest is 2^-20",
    ),
    Case("SC-1", one_conv, lambda: one_conv(output_scale=0.0), "output_scale 0 is no power of two"),
    Case("SC-1", one_conv, lambda: one_conv(output_scale=float("inf")), "output_scale inf is no"),
    Case(
        "SC-2",
        scaled_channel(2.0**-3 / 3 * (1 + 2.0**-23)),
        scaled_channel(2.0**-3 / 3 * (1 + 2.0**-21)),
        "channel 3 is no 2^n/a",
    ),
    Case("SC-2", scaled_channel(2.0**-3 / 256), scaled_channel(2.0**-3 / 259), "no 2^n/a"),
    Case(
        "SC-2",
        scaled_channel(2.0**-3 / 15),
        scaled_channel(2.0**-3 / 17),
        "no 2^n/a with a in 1 to 15",
        target=replace(TARGET, scale_divisor=(1, 15)),
    ),
    Case("SC-3", stated(*[0.5] * 16), stated(*[0.5] * 15), "15 weight scales for 16"),
    Case("SC-3", stated(*[0.5] * 16), stated(*[0.5] * 17), "17 weight scales for 16"),
    Case("SC-3", stated(*[0.5] * 16), stated(*[0.5] * 15, 0.0), "channel 15 is not positive"),
    Case("SC-3", stated(*[0.5] * 16), stated(-0.5, *[0.5] * 15), "channel 0 is not positive"),
    Case("SC-3", stated(*[0.5] * 16), stated(float("nan"), *[0.5] * 15), "finite: nan"),
    Case(
        "SC-4", lambda: weights_off_by(0.0009), lambda: weights_off_by(0.0011), "0.0011 units off"
    ),
    Case("SC-4", lambda: gemm_integers(-128), lambda: gemm_integers(-129), "of -129 to 3"),
    Case("SC-4", lambda: gemm_integers(127), lambda: gemm_integers(128), "of 3 to 128"),
    Case("SC-5", bias_of(100.001), bias_of(100.0015), "is 0.0015 units off"),
    Case("SC-5", bias_of(-32768), bias_of(-32769), "has -32769, beyond -32768 to 32767"),
    Case("SC-5", bias_of(32767), bias_of(32768), "has 32768, beyond -32768 to 32767"),
    Case(
        "SC-7",
        lambda: concat_of(2.0**-4, 2.0**-4),
        lambda: concat_of(2.0**-4, 2.0**-5),
        "Concat reads 'conv1_out' with scale",
    ),
    Case("SC-8", lambda: distant(8), lambda: distant(9), "differ by a factor of 512", WARNING),
    Case("SC-8", lambda: distant(-8), lambda: distant(-9), "more than 2^8", WARNING),
    Case("AT-7", one_conv, lambda: one_conv(input_bitdepth=9), "input_bitdepth is 9, not 8"),
    Case("AT-7", one_conv, lambda: one_conv(output_bitdepth=7), "output_bitdepth is 7, not 8"),
    Case(
        "AT-7",
        lambda: one_conv(bias=np.zeros(16), bias_bitdepth=16),
        lambda: one_conv(bias=np.zeros(16), bias_bitdepth=17),
        "bias_bitdepth is 17, not 16",
    ),
    Case(
        "AT-7",
        lambda: pool("MaxPool", 2),
        lambda: pool("MaxPool", 2, output_bitdepth=16),
        "output_bitdepth is 16, not 8",
    ),
)

CASES = (*MAPS, *CONVOLUTIONS, *POOLS, *OTHERS, *NUMBERS)
