"""Cases of the rules on the whole file, maps and convolutions."""

from __future__ import annotations

from dataclasses import replace

from tests.backends.access.rules.case import WARNING, Case
from tests.backends.access.rules.case_nets import after_conv, chain, inner_conv, integers, undefined
from tests.backends.access.rules.rule_nets import TARGET, one_conv, one_depthwise, one_gemm

CASES = (
    Case("GR-1", one_conv, lambda: one_conv(opset=13), "opset 13, not 12"),
    Case(
        "GR-1",
        lambda: after_conv("HardSwish", opset=14),
        lambda: after_conv("HardSwish", opset=12),
        "opset 12, not 14",
    ),
    Case("GR-1", one_conv, lambda: one_conv(ir_version=8), "IR version 8, newer than 7"),
    Case("GR-2", one_conv, lambda: one_conv("N", 16, 8, 8), "?x16x8x8"),
    Case("GR-2", one_conv, lambda: one_conv(4, 16, 8, 8), "batch of 4"),
    Case("GR-3", lambda: chain("Relu"), lambda: chain("Softmax"), "Softmax is no operator"),
    Case(
        "GR-3",
        lambda: after_conv("MaxPool", kernel_shape=[2, 2]),
        lambda: after_conv("Elu"),
        "Elu is no operator of ACCESS",
    ),
    Case(
        "GR-4",
        one_conv,
        lambda: after_conv("Relu", mode="soft"),
        "Unrecognized attribute: mode",
        WARNING,
    ),
    Case("GR-4", one_conv, undefined, "'nowhere' is read", WARNING),
    Case("GR-4", one_conv, lambda: one_conv(channels_in=8), "16 channels meet weights for 8"),
    Case("IO-1", lambda: one_conv(1, 512, 8, 8), lambda: one_conv(1, 513, 8, 8), "513 channels"),
    Case("IO-1", lambda: one_gemm(512), lambda: one_gemm(1024), "1024 channels, not 1 to 512"),
    Case("IO-2", lambda: one_conv(1, 16, 512, 1), lambda: one_conv(1, 16, 513, 8), "is 513x8"),
    Case("IO-3", lambda: inner_conv(48), lambda: inner_conv(40), "40 channels, not 16 to 2048"),
    Case("IO-3", lambda: inner_conv(16), lambda: inner_conv(2064), "2064 channels"),
    Case("IO-3", one_conv, lambda: one_conv(channels=10), "10 channels", WARNING),
    Case(
        "IO-4",
        lambda: one_conv(1, 16, 512, 512, kernel=(1, 1), strides=[2, 2]),
        lambda: one_conv(1, 16, 257, 8),
        "is 257x8, each side must be 1 to 256",
    ),
    Case(
        "IO-5",
        lambda: one_conv(),
        lambda: one_conv(kernel=(3, 3)),
        "the weights take 2304 bytes, the buffer has 256",
        WARNING,
        replace(TARGET, weight_buffer=256),
    ),
    Case(
        "CV-1",
        lambda: one_conv(kernel=(7, 5)),
        lambda: one_conv(1, 16, 16, 16, kernel=(9, 3)),
        "kernel 9x3, each side must be 1 to 7",
    ),
    Case("CV-2", lambda: one_conv(1, 16, 512, 8), lambda: one_conv(1, 16, 513, 8), "map of 513x8"),
    Case("CV-3", lambda: one_conv(1, 2048, 8, 8), lambda: one_conv(1, 2064, 8, 8), "reads 2064"),
    Case(
        "CV-3",
        lambda: one_conv(channels=2048),
        lambda: one_conv(channels=2064),
        "makes 2064 channels, not 1 to 2048",
    ),
    Case(
        "CV-4",
        lambda: one_conv(strides=[2, 2]),
        lambda: one_conv(strides=[3, 3]),
        "stride 3x3, each must be 1 or 2",
    ),
    Case("CV-4", one_conv, lambda: one_conv(strides=[1, 2]), "differs between", WARNING),
    Case(
        "CV-5",
        lambda: one_conv(kernel=(7, 7), pads=[3, 3, 3, 3]),
        lambda: one_conv(kernel=(7, 7), pads=[4, 4, 4, 4]),
        "padding 4x4 before and 4x4 after, each must be 0 to 3",
    ),
    Case("CV-5", one_conv, lambda: one_conv(auto_pad="VALID"), "auto_pad is VALID"),
    Case(
        "CV-5",
        one_conv,
        lambda: one_conv(kernel=(2, 2), pads=[0, 0, 1, 1]),
        "padding 0x0 before and 1x1 after differ",
        WARNING,
    ),
    Case(
        "CV-6",
        lambda: one_conv(kernel=(3, 3), dilations=[1, 1]),
        lambda: one_conv(kernel=(3, 3), dilations=[2, 2]),
        "dilation 2x2, it must be 1",
    ),
    Case(
        "CV-7", one_depthwise, lambda: one_conv(group=2), "2 groups for 16 channels in and 16 out"
    ),
    Case(
        "CV-7",
        one_depthwise,
        lambda: one_conv(channels=32, group=16),
        "16 groups for 16 channels in and 32 out",
    ),
    Case(
        "CV-8",
        lambda: integers(-128),
        lambda: integers(128),
        "channel 4 are integers of 3 to 128",
    ),
    Case("CV-9", one_conv, lambda: one_conv(1, 16, 8, kernel=(3,)), "rank 3"),
    Case(
        "DW-1",
        lambda: one_depthwise(1, 16, 4, 4),
        lambda: one_depthwise(1, 16, 3, 8),
        "map of 3x8, each side must be 4 to 512",
    ),
    Case(
        "DW-2",
        lambda: one_depthwise(kernel=(7, 1)),
        lambda: one_depthwise(kernel=(8, 1)),
        "kernel 8x1",
    ),
    Case(
        "DW-3",
        lambda: one_depthwise(channels=2048),
        lambda: one_depthwise(channels=2064),
        "2064 channels",
    ),
    Case(
        "DW-4",
        lambda: one_depthwise(strides=[2, 2]),
        lambda: one_depthwise(strides=[4, 4]),
        "stride 4x4",
    ),
    Case(
        "DW-5",
        lambda: one_depthwise(kernel=(7, 7), pads=[3] * 4),
        lambda: one_depthwise(kernel=(7, 7), pads=[5] * 4),
        "padding 5x5",
    ),
    Case(
        "DW-6",
        lambda: integers(127, build=one_depthwise),
        lambda: integers(-129, build=one_depthwise),
        "channel 4 are integers of -129 to -129",
    ),
)
