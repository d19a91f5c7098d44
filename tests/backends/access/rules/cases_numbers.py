"""Cases of the rules on scales, stored numbers and attributes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.backends.access.rules.case import WARNING, Case
from tests.backends.access.rules.case_nets import (
    after_conv,
    chain,
    deep_matmul,
    factor,
    gemm_integers,
    one_bias,
    pool,
    scales,
    shared,
    weights_off_by,
)
from tests.backends.access.rules.rule_nets import (
    MAP_SCALE,
    TARGET,
    one_conv,
    one_gemm,
    one_op,
    two_maps,
)

CASES = (
    Case(
        "SC-1",
        lambda: one_conv(output_scale=2.0**-9),
        lambda: one_conv(output_scale=0.0172),
        "output_scale 0.0172 is no power of two (the nearest is 2^-6, 9.16% away)",
    ),
    Case(
        "SC-1", one_conv, lambda: one_conv(input_scale=-0.5), "input_scale -0.5 is no power of two"
    ),
    Case(
        "SC-1",
        lambda: one_op("MatMul", (1, 16), (16, 16)),
        lambda: one_op("MatMul", (1, 16), (16, 16), B_scale=float("nan")),
        "B_scale nan",
    ),
    Case(
        "SC-2",
        lambda: one_conv(scales=np.asarray(scales(2.0**-3 / 255))),
        lambda: one_conv(scales=np.asarray(scales(2.0**-3 / 257))),
        "channel 3 is no 2^n/a",
    ),
    Case("SC-3", one_conv, lambda: one_conv(weight_ch_scales=[0.5]), "1 weight scales for 16"),
    Case(
        "SC-3",
        one_conv,
        lambda: one_conv(weight_ch_scales=scales(float("inf"))),
        "channel 3 is not positive and finite: inf",
    ),
    Case("SC-4", lambda: weights_off_by(0.0), lambda: weights_off_by(0.25), "is 0.25 units off"),
    Case(
        "SC-4",
        lambda: gemm_integers(127),
        lambda: gemm_integers(300),
        "channel 4 are integers of 3 to 300, beyond -128 to 127",
    ),
    Case(
        "SC-5",
        lambda: one_conv(bias=np.full(16, 32767)),
        lambda: one_conv(bias=np.full(16, 100.25)),
        "channel 0 is 0.25 units off",
    ),
    Case(
        "SC-5",
        lambda: one_gemm(bias=np.full(16, -32768)),
        lambda: one_gemm(bias=np.full(16, 32768)),
        "channel 0 has 32768, beyond -32768 to 32767",
    ),
    Case(
        "SC-5",
        one_gemm,
        lambda: one_bias(),
        "1 bias values for 16 output channels",
    ),
    Case(
        "SC-6",
        lambda: shared(MAP_SCALE),
        lambda: shared(2 * MAP_SCALE),
        "input_scale is 0.125, but map 'conv0_out' has 0.0625",
    ),
    Case(
        "SC-7",
        lambda: pool("MaxPool", 2),
        lambda: pool("MaxPool", 2, output_scale=1.0),
        "MaxPool reads 'x0' with scale 0.0625 and writes scale 1",
    ),
    Case(
        "SC-7",
        lambda: after_conv("Relu"),
        lambda: after_conv("HardSwish", opset=14, output_scale=1.0),
        "HardSwish reads",
        WARNING,
    ),
    Case("SC-9", lambda: factor(7), lambda: factor(8), "needs a left shift, by 1 bits", WARNING),
    Case("SC-9", lambda: factor(0), lambda: factor(9), "needs a left shift, by 2 bits"),
    Case("SC-9", lambda: factor(-31), lambda: factor(-32), "right shift by 32 bits", WARNING),
    Case(
        "SC-10",
        lambda: deep_matmul(2**17 - 1),
        lambda: deep_matmul(2**17),
        "can reach 2.15e+09, beyond 32 bits",
        WARNING,
    ),
    Case(
        "SC-10",
        lambda: one_conv(integers=np.full((16, 16, 1, 1), 63)),
        lambda: one_conv(integers=np.full((16, 16, 1, 1), 64)),
        "beyond 18 bits",
        WARNING,
        replace(TARGET, accumulator_bits=18),
    ),
    Case("AT-1", one_conv, lambda: one_conv(input_scale=None), "Conv lacks input_scale"),
    Case("AT-1", one_gemm, lambda: one_gemm(bias_bitdepth=16), "bias_bitdepth without a bias"),
    Case(
        "AT-1",
        lambda: one_conv(bias=np.zeros(16)),
        lambda: one_conv(bias=np.zeros(16), bias_bitdepth=None),
        "Conv lacks bias_bitdepth",
    ),
    Case("AT-1", one_conv, lambda: one_conv(output_scale=1), "output_scale is INT, not FLOAT"),
    Case(
        "AT-2",
        lambda: pool("MaxPool", 2),
        lambda: pool("MaxPool", 2, input_bitdepth=None),
        "MaxPool lacks input_bitdepth",
    ),
    Case(
        "AT-3",
        lambda: one_op("MatMul", (1, 16), (16, 16)),
        lambda: one_op("MatMul", (1, 16), (16, 16), B_scale=None, A_scale=None),
        "MatMul lacks A_scale, B_scale",
    ),
    Case(
        "AT-4", lambda: two_maps("Add"), lambda: two_maps("Add", output_bitdepth=None), "Add lacks"
    ),
    Case(
        "AT-5",
        lambda: chain("Relu"),
        lambda: after_conv("Relu", output_scale=None),
        "Relu lacks output_scale",
        WARNING,
    ),
    Case("AT-6", one_conv, lambda: one_conv(bias_scale=0.5), "bias_scale must not be used"),
    Case(
        "AT-7",
        one_conv,
        lambda: one_conv(weight_bitdepth=4),
        "weight_bitdepth is 4, not 8",
    ),
    Case(
        "AT-7",
        lambda: one_conv(bias=np.zeros(16)),
        lambda: one_conv(bias=np.zeros(16), bias_bitdepth=8),
        "bias_bitdepth is 8, not 16",
    ),
    Case(
        "AT-8",
        one_conv,
        lambda: one_conv(activation_bit=8),
        "activation_bit stands for output_bitdepth",
        WARNING,
    ),
)
