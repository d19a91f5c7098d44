"""``model.quantize("int8")``: kernels of Dense are integers, maps are scaled at run time."""

import numpy as np
import pytest

from dlaconv.ir import dialect
from tests.frontends.keras.files import L, findings, given, load, one_layer, save

RNG = np.random.default_rng(31)
POLICY = {"class_name": "QuantizedDTypePolicy", "config": {"mode": "int8"}}


def dense(kernel, scale, bias=None, policy=POLICY, ending=".keras"):
    config = {"units": kernel.shape[1], "use_bias": bias is not None, "dtype": policy}
    held = {"kernel": kernel, **({} if bias is None else {"bias": bias}), "kernel_scale": scale}
    if ending == ".h5":  # which has another order
        held = {name: held[name] for name in sorted(held)}
    return L("Dense", "d", [], config, held)


def arrays():
    kernel = RNG.integers(-127, 128, (6, 3)).astype(np.int8)
    return kernel, np.float32([50.0, 127.5, 3.0]), RNG.standard_normal(3).astype(np.float32)


@pytest.mark.parametrize("ending", [".keras", ".h5"])
@pytest.mark.parametrize("with_bias", [True, False])
def test_the_stored_scale_multiplies(tmp_path, ending, with_bias):
    kernel, scale, bias = arrays()
    x = RNG.standard_normal((4, 6)).astype(np.float32)
    layer = dense(kernel, scale, bias if with_bias else None, ending=ending)
    wanted = x @ (kernel / scale) + (bias if with_bias else 0)
    found = one_layer(tmp_path, layer, x, ending=ending)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_integers_of_the_kernel_stay(tmp_path):
    kernel, scale, bias = arrays()
    layer = dense(kernel, scale, bias)
    layer.reads = ["x"]
    model = load(save(tmp_path / "m.keras", [given("x", (6,)), layer], ["d"])).model
    [node] = [node for node in model.graph if dialect.is_dequantize(node)]
    np.testing.assert_array_equal(dialect.array_of(node.inputs[0]), kernel)
    np.testing.assert_allclose(dialect.step_of(node), 1 / scale[None, :], rtol=1e-6)
    assert not any(dialect.is_quantize(node) for node in model.graph)


@pytest.mark.parametrize(
    ("change", "rule", "why"),
    [
        ({"policy": {**POLICY, "config": {"mode": "int4"}}}, "DLA178", "'int4'"),
        (
            {"policy": {"class_name": "Int4DTypePolicy", "config": {"mode": "int4/128"}}},
            "DLA178",
            "'int4/128'",
        ),
        (
            {"policy": {"class_name": "GPTQDTypePolicy", "config": {"mode": "gptq/4/128"}}},
            "DLA178",
            "'gptq/4/128'",
        ),
        ({"policy": "float8_from_float32"}, "DLA178", "'float8'"),
        ({"kernel": np.ones((6, 3), np.float32)}, "DLA108", "a kernel of float32"),
        ({"scale": np.zeros(3, np.float32)}, "DLA108", "not positive"),
    ],
)
def test_other_modes_are_refused(tmp_path, change, rule, why):
    kernel, scale, bias = arrays()
    layer = dense(**{"kernel": kernel, "scale": scale, "bias": bias, **change})
    layer.reads = ["x"]
    [(found, message)] = findings(save(tmp_path / "m.keras", [given("x", (6,)), layer], ["d"]))
    assert found == rule
    assert why in message


@pytest.mark.parametrize(
    "policy", ["float32", {"class_name": "DTypePolicy", "config": {"name": "mixed_float16"}}]
)
def test_a_policy_without_a_mode_quantises_nothing(tmp_path, policy):
    x = RNG.standard_normal((4, 6)).astype(np.float32)
    kernel = RNG.standard_normal((6, 3)).astype(np.float32)
    layer = L(
        "Dense", "d", [], {"units": 3, "use_bias": False, "dtype": policy}, {"kernel": kernel}
    )
    np.testing.assert_allclose(one_layer(tmp_path, layer, x), x @ kernel, rtol=1e-5, atol=1e-5)


def test_other_quantised_layers_are_refused(tmp_path):
    layer = L("EinsumDense", "d", ["x"], {"dtype": POLICY})
    [(rule, message)] = findings(save(tmp_path / "m.keras", [given("x", (6,)), layer], ["d"]))
    assert (rule, "EinsumDense of Keras's own quantisation" in message) == ("DLA180", True)
