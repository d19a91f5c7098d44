"""The quantisers of QKeras, as functions, against what their documentation and sources say."""

import math

import numpy as np
import pytest

from dlaconv.frontends.keras.dialects import qkeras
from dlaconv.frontends.keras.dialects.qkeras_spec import SpecError, spec_of

RNG = np.random.default_rng(17)


def spec(name, **config):
    return spec_of({"class_name": name, "config": config})


def reals(name, array, *, trained=False, **config):
    found = spec(name, **config)
    return qkeras.weights(found.trained() if trained else found, np.float32(array)).reals


def values(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def half_even(x):
    low = math.floor(x)
    rest = x - low
    return low + (rest > 0.5 or (rest == 0.5 and low % 2 == 1))


@pytest.mark.parametrize(
    ("config", "step", "low", "high"),
    [
        ({"bits": 8, "integer": 0}, 2**-7, -128, 127),
        ({"bits": 8, "integer": 2}, 2**-5, -128, 127),
        ({"bits": 8, "integer": 0, "symmetric": 1}, 2**-7, -127, 127),
        ({"bits": 4, "integer": 0, "keep_negative": False}, 2**-4, 0, 15),
        ({"bits": 16, "integer": 4}, 2**-11, -32768, 32767),
        ({"bits": 6, "integer": -2}, 2**-7, -32, 31),
    ],
)
def test_bits_count_the_sign_but_not_the_integer_part(config, step, low, high):
    x = np.concatenate([values(200) * 3, np.arange(-40, 40) * step / 2]).astype(np.float32)
    wanted = [min(max(half_even(float(item) / step), low), high) * step for item in x]
    np.testing.assert_array_equal(reals("quantized_bits", x, alpha=1.0, **config), wanted)
    found = qkeras.map_quantiser(spec("quantized_bits", **config))
    np.testing.assert_array_equal(found.grid.reals(found.grid.integers(x)), wanted)


def test_a_number_as_alpha_multiplies_what_was_rounded():
    x = values(3, 4)
    wanted = np.clip(np.rint(x * 128), -128, 127) / 128 * 0.75
    np.testing.assert_allclose(reals("quantized_bits", x, alpha=0.75), wanted, rtol=1e-6)
    found = qkeras.map_quantiser(spec("quantized_bits", alpha=0.75))
    assert (found.grid.scalar_step, found.factor) == (2**-7, 0.75)
    scales = [[0.5, 1.0, 2.0, 3.0]]
    wanted = np.clip(np.rint(x * 128), -128, 127) / 128 * np.float32(scales)
    np.testing.assert_allclose(reals("quantized_bits", x, alpha=scales), wanted, rtol=1e-6)


@pytest.mark.parametrize("integer", [0, 2])
def test_auto_puts_the_largest_value_of_a_channel_on_the_largest_integer(integer):
    x = values(3, 3, 2, 5)
    found = qkeras.weights(spec("quantized_bits", alpha="auto", integer=integer), x)
    step = abs(x).max((0, 1, 2)) / 127
    np.testing.assert_allclose(found.step.reshape(-1), step, rtol=1e-6)
    size = np.minimum(np.floor(abs(x) / step + 0.5), 127)
    np.testing.assert_array_equal(found.values, np.sign(x) * size)
    assert abs(found.values).max() == 127


def test_auto_rounds_half_away_from_zero():
    x = np.float32([[2.5], [-2.5], [127.0], [0.5], [-3.5]])
    found = qkeras.weights(spec("quantized_bits", alpha="auto"), x)
    np.testing.assert_array_equal(found.values.reshape(-1), [3, -3, 127, 1, -4])


def test_a_kernel_without_alpha_gets_a_power_of_two():
    """google/qkeras#60: None means 1 for biases and maps, and auto_po2 for kernels."""
    x = values(3, 3, 4, 6) / 3
    found = spec("quantized_bits", bits=8, alpha=None).trained()
    assert (found["alpha"], found["symmetric"]) == ("auto_po2", True)
    integers = qkeras.weights(found, x)
    np.testing.assert_array_equal(np.log2(integers.step), np.rint(np.log2(integers.step)))
    assert integers.step.shape == (1, 1, 1, 6)
    assert abs(integers.values).max() <= 127
    for channel in range(6):
        x64 = x[..., channel].astype(np.float64)
        exponent = round(math.log2(abs(x64).max() * 2 / 254 + 1e-7))
        for _ in range(5):
            z = np.sign(x64) * np.minimum(np.floor(abs(x64) / 2.0**exponent + 0.5), 127)
            exponent = round(math.log2((x64 * z).mean() / ((z * z).mean() + 1e-7) + 1e-7))
        assert math.log2(integers.step[0, 0, 0, channel]) == exponent
    assert spec("binary", alpha=None).trained()["alpha"] == "auto_po2"
    assert spec("quantized_po2", bits=4).trained() == spec("quantized_po2", bits=4)


def test_a_depthwise_kernel_has_one_scale():
    x = values(3, 3, 8, 1) * np.float32(2.0) ** np.arange(8).reshape(1, 1, 8, 1)
    for alpha in ("auto", "auto_po2"):
        assert qkeras.weights(spec("quantized_bits", alpha=alpha), x).step.size == 1


def test_a_scale_after_training_is_taken_as_it_is():
    x = values(4, 3) / 4
    scale = [[0.5, 0.25, 1.0]]
    found = qkeras.weights(spec("quantized_bits", alpha="auto", post_training_scale=scale), x)
    np.testing.assert_array_equal(found.step, np.float32(scale) / 128)


def test_a_channel_of_zeros_has_a_scale_nonetheless():
    x = values(3, 2)
    x[:, 0] = 0
    for alpha in ("auto", "auto_po2"):
        for name in ("quantized_bits", "quantized_linear", "binary", "ternary"):
            found = qkeras.weights(spec(name, alpha=alpha), x)
            assert np.isfinite(found.step).all()
            assert (found.step > 0).all()
            assert name == "binary" or not found.values[:, 0].any()


@pytest.mark.parametrize("keep", [True, False])
def test_linear_clips_before_it_rounds(keep):
    x = values(50) * 2
    config = {"bits": 6, "integer": 1, "symmetric": 0, "keep_negative": keep, "alpha": 1.0}
    step = 2.0 ** (1 - 6 + keep)
    low, high = (-32, 31) if keep else (0, 63)
    wanted = np.rint(np.clip(x / step, low, high)) * step
    np.testing.assert_array_equal(reals("quantized_linear", x, **config), wanted)


def test_linear_divides_by_alpha_before_it_rounds():
    x = values(40)
    wanted = np.rint(np.clip(x / (0.75 / 128), -127, 127)) * np.float32(0.75 / 128)
    np.testing.assert_allclose(reals("quantized_linear", x, alpha=0.75), wanted, rtol=1e-6)
    assert qkeras.map_quantiser(spec("quantized_linear", alpha=0.75)).grid.scalar_step == 0.75 / 128


def test_linear_scales_automatically():
    x = values(3, 3, 2, 4)
    found = qkeras.weights(spec("quantized_linear", alpha="auto"), x)
    np.testing.assert_allclose(found.step.reshape(-1), abs(x).max((0, 1, 2)) / 127, rtol=1e-6)
    found = qkeras.weights(spec("quantized_linear", alpha="auto_po2"), x)
    np.testing.assert_array_equal(np.log2(found.step), np.rint(np.log2(found.step)))
    one = qkeras.weights(spec("quantized_linear", bits=1, alpha=1.0, integer=0), x)
    assert set(np.unique(one.reals)) == {-0.5, 0.5}


@pytest.mark.parametrize(("bits", "integer"), [(8, 2), (6, 0), (4, 3)])
def test_relu_has_no_sign(bits, integer):
    grid = qkeras.map_quantiser(spec("quantized_relu", bits=bits, integer=integer)).grid
    assert (grid.qmin, grid.qmax, grid.scalar_step) == (0, 2**bits - 1, 2.0 ** (integer - bits))


def test_a_leaky_relu_loses_a_bit_to_the_sign():
    found = qkeras.map_quantiser(spec("quantized_relu", bits=8, integer=1, negative_slope=0.25))
    assert (found.grid.qmin, found.grid.qmax, found.grid.scalar_step) == (-32, 127, 2**-6)
    assert (found.function, found.slope) == ("leaky_relu", 0.25)


@pytest.mark.parametrize(
    ("config", "low", "high"),
    [
        ({"bits": 4}, -4, 3),  # no largest value: a sign of the exponent
        ({"bits": 4, "max_value": 2.0}, -4, 1),
        ({"bits": 4, "max_value": 1.0}, -8, 0),
        ({"bits": 4, "max_value": 0.5}, -8, -1),
    ],
)
def test_powers_of_two_have_as_many_exponents_as_bits(config, low, high):
    x = np.concatenate([2.0 ** np.arange(-12, 6), [0.0], -(2.0 ** np.arange(-12, 6))])
    found = reals("quantized_po2", x, **config)
    powers = np.log2(abs(found))
    assert (powers.min(), powers.max()) == (low, high)
    assert (np.sign(found) == np.where(x < 0, -1, 1)).all()
    inside = (abs(x) >= 2.0**low) & (abs(x) <= 2.0**high)
    np.testing.assert_array_equal(found[inside], x[inside])


def test_powers_of_two_are_rounded_in_the_exponent():
    x = np.float32([1.4, 1.42, 2.8, 2.9, 0.7, 0.71])
    np.testing.assert_array_equal(reals("quantized_po2", x, bits=6), [1, 2, 2, 4, 0.5, 1])
    np.testing.assert_array_equal(
        reals("quantized_po2", x, bits=6, log2_rounding="floor"), [1, 1, 2, 2, 0.5, 0.5]
    )


def test_a_quadratic_approximation_has_even_exponents():
    x = np.float32([0.3, 1.0, 2.1, 3.9, 8.1, 20.0])
    found = reals("quantized_relu_po2", x, bits=6, quadratic_approximation=True)
    np.testing.assert_array_equal(found, [0.25, 1, 4, 4, 16, 16])


def test_powers_of_two_that_are_far_apart_are_refused():
    with pytest.raises(SpecError, match="too far apart"):
        reals("quantized_po2", np.float32([[1e-9], [1e9]]), bits=8)


@pytest.mark.parametrize(
    ("name", "config", "function", "ends"),
    [
        ("quantized_tanh", {"bits": 8}, "", (-128, 127)),
        ("quantized_tanh", {"bits": 8, "symmetric": True}, "", (-127, 127)),
        ("quantized_tanh", {"bits": 6, "use_real_tanh": True}, "tanh", (-32, 31)),
        ("quantized_sigmoid", {"bits": 8}, "hard_sigmoid_half", (0, 255)),
        ("quantized_sigmoid", {"bits": 7, "symmetric": 1}, "hard_sigmoid_half", (1, 127)),
        ("quantized_sigmoid", {"bits": 8, "use_real_sigmoid": True}, "sigmoid", (0, 255)),
    ],
)
def test_tanh_and_sigmoid_are_hard_unless_asked_otherwise(name, config, function, ends):
    found = qkeras.map_quantiser(spec(name, **config))
    assert found.function == function
    assert (found.grid.qmin, found.grid.qmax) == ends


def test_binary_and_ternary_have_signs():
    x = np.float32([[0.0, -0.1], [0.5, 0.34], [-2.0, -0.32]])
    np.testing.assert_array_equal(reals("binary", x, alpha=1.0), [[1, -1], [1, 1], [-1, -1]])
    np.testing.assert_array_equal(reals("binary", x, use_01=True), [[1, 0], [1, 1], [0, 0]])
    np.testing.assert_array_equal(reals("ternary", x, alpha=0.5), [[0, 0], [0.5, 0.5], [-0.5, 0]])
    np.testing.assert_array_equal(reals("stochastic_binary", x, alpha=1.0), reals("binary", x))
    found = reals("binary", x, alpha="auto")
    np.testing.assert_allclose(abs(found), np.ones((3, 1)) * abs(x).mean(0), rtol=1e-5)
    found = reals("ternary", values(3, 3, 2, 4), alpha="auto_po2")
    assert all(len(np.unique(abs(found[..., c]))) <= 2 for c in range(4))


def test_maps_of_signs():
    assert qkeras.map_quantiser(spec("binary", alpha=0.5)).factor == 0.5
    assert qkeras.map_quantiser(spec("quantized_bits", bits=1, alpha=1)).grid is None
    found = qkeras.map_quantiser(spec("ternary", threshold=0.5, alpha=2.0))
    x = np.float32([0.5, -0.5, 0.49, 3.0, 0.0])
    np.testing.assert_array_equal(
        found.grid.reals(found.grid.integers(x)) * found.factor, [2, -2, 0, 2, 0]
    )


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("quantized_relu(6,0)", {"bits": 6, "integer": 0}),
        ("quantized_relu(6, 2, negative_slope=0.25)", {"bits": 6, "negative_slope": 0.25}),
        ("quantized_bits(8,1,alpha=1)", {"bits": 8, "integer": 1, "alpha": 1}),
        ("quantized_bits(4,0,1)", {"bits": 4, "symmetric": 1}),
        ("quantized_bits(8,0,alpha='auto_po2')", {"alpha": "auto_po2"}),
        ("quantized_bits(4, -1)", {"integer": -1}),
        ("quantized_tanh(5)", {"bits": 5}),
        ("binary()", {"use_01": False}),
        ("quantized_relu", {"bits": 8}),
        ("quantized_bits(8, 0, scale_axis=None)", {"bits": 8}),
    ],
)
def test_calls_are_parsed(text, wanted):
    found = spec_of(text)
    assert {key: found[key] for key in wanted} == wanted


@pytest.mark.parametrize(
    "value", ["relu", "softmax", None, {"class_name": "ReLU", "config": {}}, 3]
)
def test_what_is_no_quantiser_is_left_to_keras(value):
    assert spec_of(value) is None


@pytest.mark.parametrize(
    "value",
    [
        "quantized_bits(__import__('os').system('true'))",
        "quantized_bits(8",
        "quantized_bits(8)(9)",
        "quantized_bits(*[8])",
        "quantized_bits(bits=open)",
        "quantized_bits(" + "(" * 500,
        "quantized_relu(1,2,3,4,5,6,7,8,9)",
        "quantized_bits(8, unknown=3)",
        "quantized_bits(8, scale_axis=1)",
        "quantized_bits(8, qnoise_factor=0.5)",
    ],
)
def test_calls_are_never_evaluated(value):
    with pytest.raises(SpecError):
        spec_of(value)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("quantized_bits", {"alpha": "auto"}),
        ("quantized_bits", {"alpha": "auto_po2"}),
        ("quantized_bits", {"bits": 0}),
        ("quantized_bits", {"bits": "8"}),
        ("quantized_bits", {"alpha": "best"}),
        ("quantized_bits", {"alpha": -1.0}),
        ("quantized_relu", {"use_sigmoid": 1}),
        ("quantized_relu", {"bits": 4, "negative_slope": 2.0**-6}),
        ("quantized_relu_po2", {"bits": 4}),
        ("bernoulli", {}),
        ("quantized_ulaw", {}),
        ("binary", {"use_01": True}),
    ],
)
def test_maps_whose_values_are_no_fixed_grid_are_refused(name, config):
    with pytest.raises(SpecError):
        qkeras.map_quantiser(spec(name, **config))
