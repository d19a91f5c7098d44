"""QONNX's operators as its documentation and executor define them, in NumPy (float32).

``ROUND_TO_ZERO`` and ``DPU`` are Brevitas' own, as its ``round_to_zero`` and ``dpu_round`` compute.
"""

import numpy as np


def rounded(values, mode):
    sign, magnitude = np.sign(values), np.abs(values)
    return {
        "ROUND": lambda: np.round(values),
        "HALF_EVEN": lambda: np.round(values),
        "CEIL": lambda: np.ceil(values),
        "FLOOR": lambda: np.floor(values),
        "UP": lambda: sign * np.ceil(magnitude),
        "DOWN": lambda: np.fix(values),
        "ROUND_TO_ZERO": lambda: sign * np.floor(magnitude),
        "DPU": lambda: np.where(
            (values < 0) & (values - np.floor(values) == 0.5), np.ceil(values), np.round(values)
        ),
        "HALF_UP": lambda: sign * np.floor(magnitude + np.float32(0.5)),
        "HALF_DOWN": lambda: sign * np.ceil(magnitude - np.float32(0.5)),
    }[mode.upper()]()


def clipped(values, bits, *, signed, narrow):
    low = -(2 ** (bits - 1)) + narrow if signed else 0
    high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1 - narrow
    return np.clip(values, np.float32(low), np.float32(high))


def int_quant(x, scale, zero, bits, *, signed=1, narrow=0, mode="ROUND"):
    scale, zero = np.float32(scale), np.float32(zero)
    y = x / scale + zero
    if bits == 1 and signed:
        y = np.where(y >= 0, np.float32(1), np.float32(-1))
    else:
        y = rounded(clipped(y, bits, signed=signed, narrow=narrow), mode)
    return (y - zero) * scale


def trunc_v1(x, scale, in_bits, out_bits, mode="FLOOR"):
    scale = np.float32(scale)
    y = np.round(x / scale) / np.float32(2.0 ** (in_bits - out_bits))
    return rounded(y, mode) * scale


def trunc_v2(x, scale, zero, out_scale, out_bits, *, signed=1, narrow=0, mode="FLOOR"):
    scale, zero, out_scale = np.float32(scale), np.float32(zero), np.float32(out_scale)
    factor = np.float32(2.0 ** np.round(np.log2(out_scale / scale)))
    y = np.round(x / scale + zero) / factor
    y = rounded(clipped(y, out_bits, signed=signed, narrow=narrow), mode)
    return (y - zero / factor) * out_scale
