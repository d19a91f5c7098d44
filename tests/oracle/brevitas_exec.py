"""Exports small Brevitas models with both exporters; belongs to the oracle environment.

``python brevitas_exec.py FOLDER``: writes ``NAME.legacy.onnx`` and ``NAME.dynamo.onnx`` for each
layer of `LAYERS` and `MISEXPORTED`, and ``NAME.npz`` with inputs ``x`` and what Brevitas computes,
``y``. A model that an exporter refuses leaves ``NAME.EXPORTER.error.txt``. Those of `MISEXPORTED`
are exported once more as ``NAME.merged``, with rounded weights.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import brevitas.nn as qnn
import numpy as np
import torch
from brevitas.export import export_qonnx
from brevitas.nn.utils import merge_quant_weights
from brevitas.quant import (
    Int8ActPerTensorFixedPoint,
    Int8ActPerTensorFloat,
    Int8BiasPerTensorFixedPointInternalScaling,
    Int8WeightNormL2PerChannelFixedPoint,
    Int8WeightPerChannelFloat,
    Int8WeightPerTensorFixedPoint,
    Int16Bias,
    Int32Bias,
    SignedBinaryWeightPerTensorConst,
    SignedTernaryWeightPerTensorConst,
    Uint8ActPerTensorFixedPoint,
)
from torch import Tensor, nn

IMAGE = (1, 3, 8, 8)
VECTOR = (1, 16)
SAMPLES = 4


class Int8WeightPerChannelFixedPoint(Int8WeightPerTensorFixedPoint):
    """One power-of-two scale per output channel."""

    scaling_per_output_channel = True


def conv(channels: int = 3, filters: int = 8, kernel: int = 3, **more: object) -> nn.Module:
    return qnn.QuantConv2d(channels, filters, kernel, **{"padding": kernel // 2, **more})


class Wrapped(nn.Module):
    """Layers between an input and an output quantiser."""

    def __init__(self, *layers: nn.Module, output: bool = True, **identity: object) -> None:
        super().__init__()
        self.first = qnn.QuantIdentity(return_quant_tensor=True, **identity)
        self.layers = nn.Sequential(*layers)
        self.last = qnn.QuantIdentity() if output else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.layers(self.first(x)))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = qnn.QuantReLU(return_quant_tensor=True)
        self.conv = conv(3, 3)
        self.shared = qnn.QuantIdentity(return_quant_tensor=True)
        self.last = qnn.QuantReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.last(self.shared(self.conv(x)) + self.shared(x))


class EltwiseAdd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv(), conv()
        self.first = qnn.QuantIdentity(return_quant_tensor=True)
        self.add = qnn.QuantEltwiseAdd()

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.add(self.conv1(x), self.conv2(x))


class Concat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv(), conv()
        self.first = qnn.QuantIdentity(return_quant_tensor=True)
        self.shared = qnn.QuantIdentity(return_quant_tensor=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return torch.cat([self.shared(self.conv1(x)), self.shared(self.conv2(x))], dim=1)


class Linear3d(nn.Module):
    """A linear layer on three axes: MatMul, Transpose behind the weights, Add."""

    def __init__(self, *, bias: bool) -> None:
        super().__init__()
        self.first = qnn.QuantIdentity(return_quant_tensor=True)
        self.fc = qnn.QuantLinear(8, 5, bias=bias)
        self.last = qnn.QuantIdentity()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.fc(self.first(x).flatten(1, 2)))


def batch_norm(channels: int) -> nn.Module:
    norm = nn.BatchNorm2d(channels)
    with torch.no_grad():
        norm.weight.uniform_(-1.5, 1.5)
        norm.bias.normal_()
        norm.running_mean.normal_(0, 0.2)
        norm.running_var.uniform_(0.5, 1.5)
    return norm


def linear(*, bias: bool, **more: object) -> nn.Module:
    return qnn.QuantLinear(16, 10, bias=bias, **more)


POT = {"act_quant": Int8ActPerTensorFixedPoint}
LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "identity": (lambda: Wrapped(), IMAGE),
    "identity_power_of_two": (lambda: Wrapped(**POT), IMAGE),
    "relu": (lambda: Wrapped(qnn.QuantReLU()), IMAGE),
    "relu_signed": (lambda: Wrapped(qnn.QuantReLU(act_quant=Int8ActPerTensorFloat)), IMAGE),
    "relu_power_of_two": (
        lambda: Wrapped(qnn.QuantReLU(act_quant=Uint8ActPerTensorFixedPoint)),
        IMAGE,
    ),
    "relu_4_bits": (lambda: Wrapped(qnn.QuantReLU(bit_width=4)), IMAGE),
    "hard_tanh": (lambda: Wrapped(qnn.QuantHardTanh(min_val=-1.0, max_val=1.0)), IMAGE),
    "sigmoid": (lambda: Wrapped(qnn.QuantSigmoid()), IMAGE),
    "relu6": (lambda: Wrapped(nn.ReLU6(), qnn.QuantIdentity()), IMAGE),
    "rounding_floor": (
        lambda: Wrapped(qnn.QuantIdentity(float_to_int_impl_type="floor")),
        IMAGE,
    ),
    "rounding_ceil": (lambda: Wrapped(qnn.QuantIdentity(float_to_int_impl_type="ceil")), IMAGE),
    "rounding_to_zero": (
        lambda: Wrapped(qnn.QuantIdentity(float_to_int_impl_type="round_to_zero")),
        IMAGE,
    ),
    "rounding_dpu": (lambda: Wrapped(qnn.QuantIdentity(float_to_int_impl_type="dpu")), IMAGE),
    "rounding_dpu_of_ties": (
        lambda: Wrapped(
            nn.AvgPool2d(2),
            qnn.QuantIdentity(act_quant=Int8ActPerTensorFixedPoint, float_to_int_impl_type="dpu"),
            **POT,
        ),
        IMAGE,
    ),
    "conv": (lambda: Wrapped(conv(bias=True)), IMAGE),
    "conv_no_bias": (lambda: Wrapped(conv(bias=False)), IMAGE),
    "conv_per_channel": (
        lambda: Wrapped(conv(bias=True, weight_quant=Int8WeightPerChannelFloat)),
        IMAGE,
    ),
    "conv_power_of_two": (
        lambda: Wrapped(
            conv(
                bias=True,
                weight_quant=Int8WeightPerChannelFixedPoint,
                bias_quant=Int16Bias,
            ),
            **POT,
        ),
        IMAGE,
    ),
    "conv_int32_bias": (lambda: Wrapped(conv(bias=True, bias_quant=Int32Bias)), IMAGE),
    "conv_own_bias_scale": (
        lambda: Wrapped(conv(bias=True, bias_quant=Int8BiasPerTensorFixedPointInternalScaling)),
        IMAGE,
    ),
    "conv_strided": (lambda: Wrapped(conv(bias=True, stride=2)), IMAGE),
    "conv_dilated": (lambda: Wrapped(conv(bias=True, dilation=2, padding=2)), IMAGE),
    "conv_depthwise": (lambda: Wrapped(conv(3, 3, groups=3, bias=True)), IMAGE),
    "conv_4_bits": (lambda: Wrapped(conv(bias=True, weight_bit_width=4)), IMAGE),
    "conv_ternary": (
        lambda: Wrapped(
            conv(
                bias=True, weight_quant=SignedTernaryWeightPerTensorConst, weight_scaling_const=0.1
            )
        ),
        IMAGE,
    ),
    "conv_binary": (
        lambda: Wrapped(
            conv(bias=True, weight_quant=SignedBinaryWeightPerTensorConst, weight_scaling_const=0.1)
        ),
        IMAGE,
    ),
    "conv_transposed": (
        lambda: Wrapped(
            qnn.QuantConvTranspose2d(
                3, 8, 2, stride=2, bias=True, weight_quant=Int8WeightPerChannelFloat
            )
        ),
        IMAGE,
    ),
    "padded_conv": (
        lambda: Wrapped(nn.ZeroPad2d((0, 1, 0, 1)), conv(bias=True, stride=2, padding=0)),
        IMAGE,
    ),
    "batch_norm": (lambda: Wrapped(conv(bias=False), batch_norm(8), qnn.QuantReLU()), IMAGE),
    "batch_norm_as_scale_bias": (
        lambda: Wrapped(conv(bias=False), qnn.BatchNorm2dToQuantScaleBias(8), qnn.QuantReLU()),
        IMAGE,
    ),
    "max_pool": (lambda: Wrapped(nn.MaxPool2d(2)), IMAGE),
    "average_pool": (lambda: Wrapped(nn.AvgPool2d(2)), IMAGE),
    "global_average": (lambda: Wrapped(nn.AdaptiveAvgPool2d(1)), IMAGE),
    "trunc_average": (lambda: Wrapped(qnn.TruncAvgPool2d(2), output=False), IMAGE),
    "trunc_average_floor": (
        lambda: Wrapped(qnn.TruncAvgPool2d(4, float_to_int_impl_type="floor"), output=False),
        IMAGE,
    ),
    "trunc_average_power_of_two": (
        lambda: Wrapped(qnn.TruncAvgPool2d(2), output=False, **POT),
        IMAGE,
    ),
    "trunc_global_average": (
        lambda: Wrapped(qnn.TruncAdaptiveAvgPool2d(1), output=False, **POT),
        IMAGE,
    ),
    "linear": (lambda: Wrapped(linear(bias=True)), VECTOR),
    "linear_no_bias": (lambda: Wrapped(linear(bias=False)), VECTOR),
    "linear_int32_bias": (lambda: Wrapped(linear(bias=True, bias_quant=Int32Bias)), VECTOR),
    "linear_3d": (lambda: Linear3d(bias=True), IMAGE),
    "linear_3d_no_bias": (lambda: Linear3d(bias=False), IMAGE),
    "residual": (Residual, (1, 3, 8, 8)),
    "eltwise_add": (EltwiseAdd, IMAGE),
    "concat": (Concat, IMAGE),
    "upsample": (lambda: Wrapped(nn.Upsample(scale_factor=2)), IMAGE),
}


MISEXPORTED: dict[str, Callable[[], nn.Module]] = {
    "weights_floor": lambda: Wrapped(conv(bias=True, weight_float_to_int_impl_type="floor")),
    "weights_to_zero": lambda: Wrapped(
        conv(bias=True, weight_float_to_int_impl_type="round_to_zero")
    ),
    "weights_normalised": lambda: Wrapped(
        conv(bias=True, weight_quant=Int8WeightNormL2PerChannelFixedPoint)
    ),
}
"""Weight quantisers that Brevitas exports as if they rounded to nearest."""


def make(name: str, folder: Path) -> None:
    build, shape = LAYERS[name] if name in LAYERS else (MISEXPORTED[name], IMAGE)
    torch.manual_seed(len(name))
    net = build()
    net.train()
    for _ in range(3):  # activation scales from data
        net(torch.randn(16, *shape[1:]))
    net.eval()
    with torch.no_grad():
        for parameter_name, parameter in net.named_parameters():
            if "weight_quant" in parameter_name:  # as if trained: norms and scales move apart
                parameter.mul_(0.7)
    x = torch.randn(SAMPLES, *shape[1:])
    with torch.no_grad():
        y = torch.cat([getattr(out := net(one[None]), "value", out) for one in x])
    np.savez(folder / f"{name}.npz", x=x.numpy(), y=y.numpy())
    export(net, x[:1], folder / name)
    if name in MISEXPORTED:
        merge_quant_weights(net, x[:1])
        export(net, x[:1], folder / f"{name}.merged")


def export(net: nn.Module, x: Tensor, stem: Path) -> None:
    for exporter in ("legacy", "dynamo"):
        path = stem.with_name(f"{stem.name}.{exporter}.onnx")
        try:
            export_qonnx(net, args=x, export_path=str(path), dynamo=exporter == "dynamo")
        except Exception:
            path.unlink(missing_ok=True)
            path.with_suffix(".error.txt").write_text(traceback.format_exc())


def main() -> None:
    """Makes the files of every layer."""
    for name in (*LAYERS, *MISEXPORTED):
        make(name, Path(sys.argv[1]))


if __name__ == "__main__":
    main()
