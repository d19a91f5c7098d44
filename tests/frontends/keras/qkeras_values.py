"""Writes ``qkeras_values.json``: what QKeras itself computes, for `test_qkeras_values`.

Run where QKeras is installed, once with QKeras 0.9 (``TF_USE_LEGACY_KERAS=1``) and once with
qkeras-v3, which adds what 0.9 does not have and must agree on the rest::

    python tests/frontends/keras/qkeras_values.py
"""

import importlib.metadata
import itertools
import json
from pathlib import Path

import numpy as np

PATH = Path(__file__).with_suffix(".json")
AUTO = ("auto", "auto_po2")


def inputs():
    """Kernels with a channel of zeros and one of other size, a depthwise one, a bias, a map."""
    rng = np.random.default_rng(23)
    kernel = rng.standard_normal((2, 3, 2, 4)) * [1, 0, 0.05, 6]
    found = {
        "kernel": kernel,
        "depthwise": rng.standard_normal((3, 2, 3, 1)) * [[1], [4], [0.2]],
        "bias": rng.standard_normal(6),
        "map": np.arange(-24, 24).reshape(4, 12) / 16,
    }
    return {name: np.float32(array) for name, array in found.items()}


def cases():
    """Quantisers with what each is given."""
    weights, maps = ("kernel", "depthwise", "bias"), ("map",)
    linear = {"symmetric": 0}
    for name in ("quantized_bits", "quantized_linear"):
        for bits, alpha in itertools.product((2, 4, 8), AUTO):
            yield name, {"bits": bits, "integer": 1, "alpha": alpha}, weights
        for alpha in (1.0, 0.75):
            for more in (linear, {"symmetric": 1}, {**linear, "keep_negative": False}):
                yield name, {"bits": 4, "integer": 1, "alpha": alpha, **more}, ("kernel", "map")
        yield name, {"bits": 1, "integer": 0, "alpha": 1.0}, ("kernel",)
    for alpha in AUTO:
        unsigned = {"bits": 4, "alpha": alpha, "keep_negative": False}
        yield "quantized_bits", unsigned, ("kernel", "bias")
        yield "quantized_linear", {"bits": 1, "alpha": alpha}, weights
        yield "quantized_linear", unsigned, ("kernel",)
        yield "binary", {"alpha": alpha}, weights
        yield "binary", {"alpha": alpha, "use_01": True}, ("kernel",)
        yield "ternary", {"alpha": alpha}, weights
        yield "stochastic_ternary", {"alpha": alpha}, ("kernel",)
    yield "binary", {"alpha": 0.5}, ("kernel", "map")
    yield "ternary", {"alpha": 0.5}, ("kernel", "map")
    yield "ternary", {"alpha": 1.0, "threshold": 0.5}, ("kernel", "map")
    yield "quantized_bits", {"bits": 4, "alpha": None}, ("bias", "map")
    for bits, integer in ((4, 0), (6, 1), (8, 2)):
        yield "quantized_relu", {"bits": bits, "integer": integer}, maps
        yield "quantized_relu", {"bits": bits, "integer": integer, "negative_slope": 0.25}, maps
    bounded = {"bits": 6, "integer": 1, "relu_upper_bound": 0.75}
    yield "quantized_relu", bounded, maps
    yield "quantized_relu", {**bounded, "is_quantized_clip": False}, maps
    for most in (None, 0.5, 1, 2):
        for name in ("quantized_po2", "quantized_relu_po2"):
            yield name, {"bits": 4, "max_value": most}, ("kernel", "bias")
    yield "quantized_relu_po2", {"bits": 4, "quadratic_approximation": True}, ("kernel",)
    yield "quantized_po2", {"bits": 5, "log2_rounding": "floor"}, ("kernel",)
    for symmetric, real in itertools.product((False, True), repeat=2):
        yield "quantized_tanh", {"bits": 4, "symmetric": symmetric, "use_real_tanh": real}, maps
        sigmoid = {"bits": 4, "symmetric": symmetric, "use_real_sigmoid": real}
        yield "quantized_sigmoid", sigmoid, maps


def main():
    """Adds what the installed library computes; refuses where it differs from what is there."""
    from qkeras import quantizers

    names = {item.metadata["Name"].lower(): item for item in importlib.metadata.distributions()}
    used = names["qkeras-v3" if hasattr(quantizers, "quantized_linear") else "qkeras"]
    library = f"{used.metadata['Name']} {used.version}"
    held = json.loads(PATH.read_text()) if PATH.exists() else []
    known = {json.dumps([row["quantiser"], row["config"], row["input"]]): row for row in held}
    arrays = inputs()
    for name, config, given in cases():
        if not hasattr(quantizers, name):
            continue
        for which in given:
            quantiser = getattr(quantizers, name)(**config)
            found = np.asarray(quantiser(arrays[which].copy()), np.float32)
            row = {"quantiser": name, "config": config, "input": which, "libraries": []}
            row["result"] = [float(f"{item:.9g}") for item in found.reshape(-1)]
            row = known.setdefault(json.dumps([name, config, which]), row)
            np.testing.assert_allclose(found.reshape(-1), row["result"], rtol=1e-6, atol=1e-7)
            row["libraries"] = sorted({*row["libraries"], library})
    lines = ",\n".join(json.dumps(row) for row in known.values())
    PATH.write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
