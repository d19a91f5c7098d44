"""BatchNormalization in layers of QKeras, and QBatchNormalization: what is quantised, and when."""

import h5py
import numpy as np
import pytest

from tests.frontends.keras import reference
from tests.frontends.keras.files import given, one_layer, outputs_of, save
from tests.frontends.keras.test_qkeras_layers import (
    FILES,
    FIXED,
    WIDE,
    close,
    fixed,
    qkeras,
    values,
)


@FILES
@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("scale", [True, False])
def test_a_batch_norm_is_folded_before_the_kernel_is_quantised(tmp_path, ending, use_bias, scale):
    x, kernel, bias = values(2, 5, 5, 3), values(3, 3, 3, 4), values(4)
    gamma, beta, mean = 1 + values(4), values(4), values(4)
    variance = 0.5 + abs(values(4))
    config = {
        "filters": 4,
        "kernel_size": [3, 3],
        "use_bias": use_bias,
        "scale": scale,
        "epsilon": 1e-3,
        "kernel_quantizer": FIXED,
        "bias_quantizer": WIDE,
    }
    own = {"kernel": kernel} | ({"bias": bias} if use_bias else {})
    inner = ({"gamma": gamma} if scale else {}) | {
        "beta": beta,
        "moving_mean": mean,
        "moving_variance": variance,
    }
    layer = qkeras("QConv2DBatchnorm", "q", config, own | inner, ["x"])
    path = save(tmp_path / f"m{ending}", [given("x", (5, 5, 3)), layer], ["q"])
    if ending == ".keras":
        nested(path, own, inner)
    factor = (gamma if scale else 1) / np.sqrt(variance + np.float32(1e-3))
    folded = fixed(kernel * factor)
    offset = fixed(((bias if use_bias else 0) - mean) * factor + beta, 16, 4)
    wanted = reference.convolution(x, folded, (1, 1), (1, 1), "valid") + offset
    [found] = outputs_of(path, x=x)
    close(found, wanted)


@pytest.mark.parametrize("folding", ["ema_stats_folding", "batch_stats_folding"])
def test_a_depthwise_kernel_is_folded_by_its_channel(tmp_path, folding):
    """Both ways to fold are one at inference; kernels are ``[kh, kw, C, 1]``, with one scale."""
    x, kernel, bias = values(2, 5, 5, 3), values(3, 3, 3, 1), values(3)
    gamma, beta, mean = np.float32([1.5, -0.5, 4]), values(3), values(3)
    variance = 0.5 + abs(values(3))
    auto = {"class_name": "quantized_bits", "config": {"bits": 8, "integer": 0, "alpha": "auto"}}
    config = {
        "kernel_size": [3, 3],
        "folding_mode": folding,
        "depthwise_quantizer": auto,
        "bias_quantizer": WIDE,
    }
    held = {"depthwise_kernel": kernel, "bias": bias, "gamma": gamma, "beta": beta}
    held |= {"moving_mean": mean, "moving_variance": variance}
    factor = gamma / np.sqrt(variance + np.float32(1e-3))
    folded = kernel * factor[:, None]
    step = abs(folded).max() / 127
    folded = np.sign(folded) * np.floor(abs(folded) / step + 0.5) * step
    offset = fixed((bias - mean) * factor + beta, 16, 4)
    wanted = reference.depthwise(x, folded, (1, 1), (1, 1), "valid") + offset
    layer = qkeras("QDepthwiseConv2DBatchnorm", "q", config, held)
    np.testing.assert_allclose(
        one_layer(tmp_path, layer, x, ending=".h5"), wanted, rtol=1e-4, atol=1e-4
    )


def nested(path, own, inner):
    """Puts the variables of the BatchNormalization into an object of their own, as Keras does."""
    import io
    import zipfile

    held = io.BytesIO()
    with h5py.File(held, "w") as file:
        for index, array in enumerate(own.values()):
            file.create_dataset(f"layers/q_conv2d_batchnorm/vars/{index}", data=array)
        for index, array in enumerate(inner.values()):
            file.create_dataset(f"layers/q_conv2d_batchnorm/batchnorm/vars/{index}", data=array)
    with zipfile.ZipFile(path) as archive:
        config = archive.read("config.json")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", config)
        archive.writestr("model.weights.h5", held.getvalue())


def test_a_quantised_batch_norm_has_powers_of_two(tmp_path):
    x = values(2, 3, 3, 4)
    po2 = {"class_name": "quantized_po2", "config": {"bits": 5}}
    relu = {
        "class_name": "quantized_relu_po2",
        "config": {"bits": 6, "quadratic_approximation": True},
    }
    config = {
        "beta_quantizer": po2,
        "gamma_quantizer": po2,
        "mean_quantizer": None,
        "variance_quantizer": relu,
        "epsilon": 1e-3,
    }
    weights = {
        "gamma": np.float32([1.4, 1.5, -0.7, 3.0]),
        "beta": np.float32([0.3, -0.3, 0.1, 0.0]),
        "moving_mean": values(4),
        "moving_variance": np.float32([0.3, 1.0, 2.1, 5.0]),
    }
    gamma = np.float32([1, 2, -0.5, 4])
    beta = np.float32([0.25, -0.25, 0.125, 2.0**-8])
    variance = np.float32([0.25, 1, 4, 4])
    wanted = (x - weights["moving_mean"]) / np.sqrt(variance + 1e-3) * gamma + beta
    layer = qkeras("QBatchNormalization", "q", config, weights)
    close(one_layer(tmp_path, layer, x), wanted)


def test_gamma_and_variance_have_powers_of_two_of_their_own(tmp_path):
    """Both count as trained, so no alpha is ``auto_po2``; on a vector, for each element."""
    x = values(2, 3, 3, 4)
    plain = {"class_name": "quantized_bits", "config": {"bits": 4, "integer": 0, "alpha": None}}
    names = {"gamma", "beta", "mean", "variance"}
    config = {f"{name}_quantizer": plain for name in names} | {"epsilon": 1e-3}
    weights = {
        "gamma": np.float32([1.4, 100.0, -0.07, 3.0]),
        "beta": np.float32([0.3, -0.3, 0.1, 9.0]),
        "moving_mean": np.float32([0.06, 0.07, -2.0, 0.5]),
        "moving_variance": np.float32([0.3, 60.0, 2.1, 5.0]),
    }

    def own(array):
        exponent = np.full(4, np.rint(np.log2(abs(array).max() * 2 / 14)))
        for _ in range(5):
            z = np.sign(array) * np.minimum(np.floor(abs(array) / 2**exponent + 0.5), 7)
            exponent = np.rint(np.log2(array * z / (z * z + 1e-7) + 1e-7))
        return (
            np.sign(array) * np.minimum(np.floor(abs(array) / 2**exponent + 0.5), 7) * 2**exponent
        )

    gamma, variance = own(weights["gamma"]), own(weights["moving_variance"])
    beta, mean = (np.clip(np.rint(weights[n] * 8), -8, 7) / 8 for n in ("beta", "moving_mean"))
    wanted = (x - mean) / np.sqrt(variance + 1e-3) * gamma + beta
    layer = qkeras("QBatchNormalization", "q", config, weights)
    close(one_layer(tmp_path, layer, x), np.float32(wanted))
