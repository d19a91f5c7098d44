"""Networks with pairs of QuantizeLinear and DequantizeLinear."""

import numpy as np

from dlaconv.ir import dialect

IMAGE = (1, 3, 4, 4)


def qdq(x, y, scale="s", zero="z", **attributes):
    """A pair of nodes."""
    inputs = [scale, zero] if zero else [scale]
    return [
        ("QuantizeLinear", [x, *inputs], [f"{y}_q"], attributes),
        ("DequantizeLinear", [f"{y}_q", *inputs], [y], attributes),
    ]


def numbers(scale=0.25, zero=0, kind=np.int8):
    return {"s": np.asarray(scale, np.float32), "z": np.asarray(zero, kind)}


def ties(shape=IMAGE, step=0.25, spread=200):
    """Values on half units of a step, so that every second one is a tie."""
    return (np.random.default_rng(0).integers(-spread, spread, shape) * step / 2).astype(np.float32)


def quantisers(model):
    return [dialect.quantisation_of(node) for node in model.graph if dialect.is_quantize(node)]
