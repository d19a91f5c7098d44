"""Layers of HGQ2 that do two things at once."""

import numpy as np
import pytest

from tests.frontends.keras.files import findings, given, one_layer, save
from tests.frontends.keras.test_hgq import config, layer, quantised, stored, values


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("ebops", [True, False])
def test_a_dense_normalises_what_it_reads_by_its_weights(tmp_path, scale, ebops):
    x, kernel, bias = values(5, 3), values(3, 2), values(2)
    gamma, mean, variance = np.float32([[1.2, -0.7, 0.4], [0.3, 0.1, -0.2], [0.5, 1.5, 2]])
    weights = {"kernel": kernel, "bias": bias, "bn_gamma": gamma, "beta": 0.1, "ebops": 7}
    left_out = ([] if scale else ["bn_gamma"]) + ([] if ebops else ["beta", "ebops"])
    weights = {name: array for name, array in weights.items() if name not in left_out}
    weights |= {
        "moving_mean": mean,
        "moving_variance": variance,
        **stored("iq", [[1]], [[2]], [[3]]),
        **stored("kq", [[1]], [[1]], [[4]], "kbi"),
        **stored("bq", [1], [2], [5], "kbi"),
    }
    given_config = {
        "units": 2,
        "scale": scale,
        "enable_ebops": ebops,
        "iq_conf": config(),
        "kq_conf": config("kbi"),
        "bq_conf": config("kbi"),
    }
    found = one_layer(tmp_path, layer("QBatchNormDense", given_config, weights, reads=["x0"]), x)
    factor = (gamma if scale else np.float32(1)) / np.sqrt(variance + np.float32(1e-3))
    own = quantised(factor[:, None] * kernel, 1, 1, 4)
    wanted = quantised(x, 1, 2, 3) @ own + quantised(bias - mean @ kernel, 1, 2, 5)
    np.testing.assert_array_equal(found, wanted)


def test_a_normalising_dense_needs_its_quantisers(tmp_path):
    weights = {
        "kernel": values(3, 2),
        "bias": values(2),
        "moving_mean": values(3),
        "moving_variance": np.ones(3, np.float32),
    }
    dummy = {"config": {"q_type": "dummy"}}
    given_config = {"units": 2, "scale": False, "enable_ebops": False, "enable_iq": False}
    given_config |= {"kq_conf": dummy, "bq_conf": dummy}
    own = layer("QBatchNormDense", given_config, weights)
    [(rule, message)] = findings(save(tmp_path / "m.keras", [given("x", (3,)), own], ["q"]))
    assert (rule, "without a quantiser of its kernel" in message) == ("DLA178", True)


@pytest.mark.parametrize(("count", "share"), [(2, 0.5), (3, 0.25), (5, 0.25), (6, 0.125)])
def test_an_average_divides_by_a_power_of_two(tmp_path, count, share):
    arrays = [values(2, 3) for _ in range(count)]
    own = layer("QAveragePow2", {"enable_iq": False, "iq_confs": None}, {}, reads=[])
    found = one_layer(tmp_path, own, *arrays)
    total = arrays[0]
    for array in arrays[1:]:
        total = total + array
    np.testing.assert_allclose(found, total * np.float32(share), rtol=1e-6, atol=1e-7)
