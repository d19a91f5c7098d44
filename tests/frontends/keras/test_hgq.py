"""The fixed-point numbers of HGQ2, whose widths are variables, and its layers."""

import math

import numpy as np
import pytest

from dlaconv.frontends.keras.dialects import hgq
from tests.frontends.keras import reference
from tests.frontends.keras.files import L, findings, given, load, one_layer, outputs_of, save

RNG = np.random.default_rng(23)
ORDERS = {
    ("kif", "SAT"): "ifk",
    ("kif", "WRAP"): "fki",
    ("kbi", "SAT"): "bik",
    ("kbi", "WRAP"): "bki",
}


def values(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def config(kind="kif", rounding="RND", overflow="SAT", **more):
    inner = {"q_type": kind, "round_mode": rounding, "overflow_mode": overflow, **more}
    return {"module": "hgq.quantizer.config", "class_name": "QuantizerConfig", "config": inner}


def quantiser(k, i, f, kind="kif", rounding="RND", overflow="SAT", **more):
    found = hgq.kind_of(config(kind, rounding, overflow, **more))
    widths = {"k": k, "i": i, "f": f, "b": np.add(i, f)}
    return hgq.fixed_point(found, {n: np.float32(widths[n]) for n in found.order})


def stored(path, k, i, f, kind="kif", overflow="SAT"):
    """The variables of a quantiser in the order of the file."""
    widths = {"k": k, "i": i, "f": f, "b": np.add(i, f)}
    order = ORDERS[kind, "WRAP" if overflow == "WRAP" else "SAT"]
    return {
        f"{path}/quantizer/vars/{n}": np.float32(widths[name]) + (0.3 if name != "k" else 0)
        for n, name in enumerate(order)
    }


def one(x, k, i, f, rounding="RND", overflow="SAT"):
    """One number, as HGQ2 documents it."""
    if k + i + f <= 0:
        return 0.0
    scaled = float(x) * 2.0**f
    whole = {
        "RND": math.floor(scaled + 0.5),
        "TRN": math.floor(scaled),
        "RND_CONV": round(scaled),
    }[rounding]
    high = 2.0 ** (i + f) - 1
    if overflow == "WRAP":
        low = -k * 2.0 ** (i + f)
        whole = (whole - low) % (high + 1 - low) + low
    else:
        low = -k * (high if overflow == "SAT_SYM" else high + 1)
        whole = min(max(whole, low), high)
    return whole / 2.0**f


@pytest.mark.parametrize("rounding", ["RND", "TRN", "RND_CONV"])
@pytest.mark.parametrize("overflow", ["SAT", "SAT_SYM", "WRAP"])
@pytest.mark.parametrize("kind", ["kif", "kbi"])
@pytest.mark.parametrize(("k", "i", "f"), [(1, 2, 3), (0, 3, 2), (1, -1, 5), (1, 4, -1), (1, 0, 0)])
def test_numbers_have_a_sign_integer_bits_and_fraction_bits(kind, rounding, overflow, k, i, f):
    x = np.concatenate([values(60) * 5, np.arange(-24, 24) / 16]).astype(np.float32)
    found = hgq.constant(quantiser(k, i, f, kind, rounding, overflow), x).reals
    np.testing.assert_array_equal(found, [one(item, k, i, f, rounding, overflow) for item in x])


def test_widths_may_differ_from_weight_to_weight():
    x = values(3, 3, 2, 4)
    f = RNG.integers(-1, 6, x.shape)
    i = RNG.integers(-2, 2, x.shape)
    found = hgq.constant(quantiser(np.ones(x.shape), i, f), x)
    wanted = [one(*item) for item in zip(x.flat, np.ones(x.size), i.flat, f.flat, strict=True)]
    np.testing.assert_array_equal(found.reals.reshape(-1), wanted)
    assert found.step.shape == (1, 1, 1, 4)
    np.testing.assert_array_equal(found.values, np.rint(found.values))


def test_the_grid_of_a_channel_is_as_coarse_as_its_weights_allow():
    x = np.float32([[4.0, 0.25], [12.0, 0.5], [0.0, 0.0]])
    found = hgq.constant(quantiser(np.ones((3, 2)), np.full((3, 2), 5), np.full((3, 2), 8)), x)
    np.testing.assert_array_equal(found.step, [[4, 0.25]])
    np.testing.assert_array_equal(found.values, [[1, 1], [3, 2], [0, 0]])


def test_weights_that_wrap_are_only_rounded():
    x = np.float32([3.3, -5.1])
    found = hgq.constant(quantiser(1, 1, 2, overflow="WRAP", is_weight=True), x)
    np.testing.assert_array_equal(found.reals, [3.25, -5.0])


def test_widths_are_rounded_half_to_even():
    kind = hgq.kind_of(config())
    found = hgq.fixed_point(kind, {"k": np.uint8(1), "i": np.float32(2.5), "f": np.float32(3.5)})
    assert (found.i, found.f) == (2, 4)


@pytest.mark.parametrize("kind", ["kif", "kbi"])
@pytest.mark.parametrize("rounding", ["RND", "TRN", "RND_CONV"])
@pytest.mark.parametrize("overflow", ["SAT", "SAT_SYM", "WRAP"])
def test_each_element_of_a_map_has_its_own_numbers(overflow, rounding, kind):
    k = np.float32([[1, 0, 0, 1, 1, 0, 1]])
    i = np.float32([[2, 3, -4, -1, 1, 2, 0]])
    f = np.float32([[3, 1, 2, 5, -1, -3, 0]])
    found = hgq.element_grids(quantiser(k, i, f, kind, rounding, overflow))
    x = np.concatenate([values(60, 7) * 6, np.arange(-168, 168).reshape(48, 7) / 16])
    wanted = [
        [
            one(item, *widths, rounding, overflow)
            for item, widths in zip(row, zip(k[0], i[0], f[0], strict=True), strict=True)
        ]
        for row in x
    ]
    np.testing.assert_array_equal(found.on_grid(x.astype(np.float32)), wanted)


@pytest.mark.parametrize("rounding", ["S_RND", "S_RND_CONV", "rnd"])
def test_stochastic_rounding_is_plain_at_inference(rounding):
    plain = hgq.kind_of(config(rounding=rounding.upper().removeprefix("S_"))).rounding
    assert hgq.kind_of(config(rounding=rounding)).rounding is plain


@pytest.mark.parametrize(
    "given_config",
    [
        None,
        {"config": {"q_type": "float"}},
        config(rounding="UP"),
        config(overflow="SYM"),
        config(scaler=2.0),
        config(affine=[1.0, 0.0]),
    ],
)
def test_other_quantisers_are_refused(given_config):
    with pytest.raises(hgq.WidthError):
        hgq.kind_of(given_config)


@pytest.mark.parametrize(
    ("k", "i", "f", "words"),
    [
        (2, 1, 1, "a sign"),
        (1, np.nan, 1, "no number of bits"),
        (1, 1e9, 1, "no number of bits"),
        (1, 20, 20, "a map of 40 bits"),
        (1, -80, 90, "a map with 90 bits on one side"),
        (1, 90, -80, "a map with 80 bits on one side"),
        ([1, 1], [1, 1, 1], [1, 1, 1], r"widths of shapes \[2\], \[3\]"),
    ],
)
def test_widths_that_are_none_are_refused(k, i, f, words):
    with pytest.raises(hgq.WidthError, match=words):
        hgq.element_grids(quantiser(k, i, f))


def test_a_quantiser_may_do_nothing():
    assert hgq.kind_of({"config": {"q_type": "dummy"}}) is None


def quantised(x, k, i, f, **more):
    flat = [one(item, k, i, f, **more) for item in x.reshape(-1)]
    return np.float32(flat).reshape(x.shape)


def layer(kind, given_config, weights, reads=("x",), **more):
    return L(kind, "q", list(reads), given_config, weights, module="hgq.layers", **more)


@pytest.mark.parametrize("overflow", ["SAT", "WRAP"])
def test_a_convolution_quantises_what_it_reads(tmp_path, overflow):
    x, kernel, bias = values(2, 5, 5, 3), values(3, 3, 3, 4) / 2, values(4)
    given_config = {
        "filters": 4,
        "kernel_size": [3, 3],
        "padding": "same",
        "activation": "relu",
        "enable_iq": True,
        "enable_oq": True,
        "iq_conf": config(),
        "kq_conf": config(
            "kbi", overflow="SAT_SYM" if overflow == "SAT" else "WRAP", is_weight=True
        ),
        "bq_conf": config("kbi"),
        "oq_conf": config("kif", "TRN"),
    }
    own = "SAT" if overflow == "SAT" else "WRAP"
    weights = {
        "kernel": kernel,
        "bias": bias,
        **stored("iq", np.ones((1, 1, 1, 1)), [[[[3]]]], [[[[4]]]]),
        **stored("kq", np.ones((1, 1, 1, 1)), [[[[1]]]], [[[[6]]]], "kbi", own),
        **stored("bq", [1], [2], [5], "kbi"),
        **stored("oq", np.zeros((1, 1, 1, 1)), [[[[2]]]], [[[[3]]]]),
    }
    found = one_layer(tmp_path, layer("QConv2D", given_config, weights, reads=["x0"]), x)
    inner = reference.convolution(
        quantised(x, 1, 3, 4),
        quantised(kernel, 1, 1, 6, overflow="SAT_SYM"),
        (1, 1),
        (1, 1),
        "same",
    )
    inner = np.maximum(inner + quantised(bias, 1, 2, 5), 0)
    np.testing.assert_array_equal(found, quantised(inner, 0, 2, 3, rounding="TRN"))


def test_a_dense_and_a_pool(tmp_path):
    x, kernel = values(3, 6), values(6, 2)
    given_config = {"units": 2, "use_bias": False, "iq_conf": config(), "kq_conf": config("kbi")}
    weights = {
        "kernel": kernel,
        **stored("iq", [[1]], [[2]], [[3]]),
        **stored("kq", [[1]], [[1]], [[4]], "kbi"),
    }
    found = one_layer(tmp_path, layer("QDense", given_config, weights, reads=["x0"]), x)
    np.testing.assert_array_equal(found, quantised(x, 1, 2, 3) @ quantised(kernel, 1, 1, 4))
    x = values(2, 4, 4, 2)
    given_config = {"pool_size": [2, 2], "iq_conf": config()}
    weights = stored("iq", np.ones((1, 1, 1, 1)), [[[[2]]]], [[[[3]]]])
    found = one_layer(tmp_path, layer("QMaxPooling2D", given_config, weights, reads=["x0"]), x)
    np.testing.assert_array_equal(
        found, reference.maximum(quantised(x, 1, 2, 3), (2, 2), (2, 2), "valid")
    )


def test_each_input_of_a_sum_has_a_quantiser(tmp_path):
    a, b = values(2, 3), values(2, 3)
    weights = {
        **stored("iq/quantizers/quantizer", [[1]], [[2]], [[3]]),
        **stored("iq/quantizers/quantizer_1", [[1]], [[1]], [[1]]),
    }
    sum_of = L("QAdd", "q", [["a", "b"]], {"iq_confs": [config(), config()]}, weights)
    sum_of.module = "hgq.layers.ops.merge"
    path = save(tmp_path / "m.keras", [given("a", (3,)), given("b", (3,)), sum_of], ["q"])
    [found] = outputs_of(path, a=a, b=b)
    np.testing.assert_array_equal(found, quantised(a, 1, 2, 3) + quantised(b, 1, 1, 1))


def test_factor_and_offset_of_a_batch_norm_are_quantised(tmp_path):
    x = values(2, 3, 3, 2)
    gamma, beta, mean, variance = np.float32([[1.2, -0.7], [0.3, 0.1], [0.5, -1], [0.8, 2]])
    given_config = {"iq_conf": config(), "kq_conf": config("kbi"), "bq_conf": config("kbi")}
    weights = {
        "bn_gamma": gamma,
        "bn_beta": beta,
        "moving_mean": mean,
        "moving_variance": variance,
        **stored("iq", np.ones((1, 1, 1, 1)), [[[[3]]]], [[[[4]]]]),
        **stored("kq", [1, 1], [1, 1], [4, 5], "kbi"),
        **stored("bq", [1], [2], [5], "kbi"),
    }
    found = one_layer(
        tmp_path, layer("QBatchNormalization", given_config, weights, reads=["x0"]), x
    )
    factor = gamma / np.sqrt(variance + np.float32(1e-3))
    offset = beta - mean * factor
    factor = np.float32([one(factor[0], 1, 1, 4), one(factor[1], 1, 1, 5)])
    np.testing.assert_array_equal(
        found, quantised(x, 1, 3, 4) * factor + quantised(offset, 1, 2, 5)
    )


def own_quantizer(k, i, f, overflow="SAT", rounding="RND"):
    """A Quantizer, whose variables lie in the layer itself."""
    weights = stored("quantizer_", k, i, f, overflow=overflow)
    weights = {name.removeprefix("quantizer_/"): array for name, array in weights.items()}
    given_config = {"config": config(rounding=rounding, overflow=overflow)}
    return layer("Quantizer", given_config, weights, ["x0"])


def dialect_ops(path):
    return [node.op_type for node in load(path).model.graph if node.domain]


@pytest.mark.parametrize("overflow", ["SAT", "SAT_SYM", "WRAP"])
def test_a_map_of_several_widths_is_imported_as_it_is(tmp_path, overflow):
    k, i, f = [[1, 1, 0]], [[2, 1, -4]], [[3, 1, 2]]
    x = values(20, 3) * 6
    found = one_layer(tmp_path, own_quantizer(k, i, f, overflow), x)
    widths = list(zip(*k, *i, *f, strict=True))
    wanted = [
        [one(v, *w, overflow=overflow) for v, w in zip(row, widths, strict=True)] for row in x
    ]
    np.testing.assert_array_equal(found, np.float32(wanted))
    assert not list(load(tmp_path / "model.keras").diagnostics)
    end = "Wrap" if overflow == "WRAP" else ""
    assert dialect_ops(tmp_path / "model.keras") == [f"FixedPointHalfUp{end}"]


def test_a_map_of_one_width_that_wraps_wraps_when_imported(tmp_path):
    x = values(20, 3) * 9
    found = one_layer(tmp_path, own_quantizer([[1]], [[2]], [[3]], "WRAP", "TRN"), x)
    np.testing.assert_array_equal(found, quantised(x, 1, 2, 3, overflow="WRAP", rounding="TRN"))
    assert abs(x).max() > 8
    assert abs(found).max() <= 4


def test_a_map_of_one_width_is_one_grid(tmp_path):
    one_layer(tmp_path, own_quantizer([[1, 1]], [[2, 2]], [[3, 3]]), values(2, 2))
    assert dialect_ops(tmp_path / "model.keras") == ["QuantizeHalfUp"]


def test_a_map_without_any_bit_is_zero(tmp_path):
    found = one_layer(tmp_path, own_quantizer([[1]], [[-4]], [[2]]), values(2, 2) * 100)
    assert not found.any()


def test_what_cannot_be_read_is_refused(tmp_path):
    inputs = [given("x", (3,))]
    own = layer("QDense", {"units": 2, "iq_conf": config(), "kq_conf": config()}, {})
    assert [r for r, _ in findings(save(tmp_path / "a.keras", [*inputs, own], ["q"]))] == ["DLA176"]
    for kind in ("QEinsumDense", "QDenseT", "QSoftmax"):
        own = layer(kind, {"iq_conf": config()}, {})
        [(rule, message)] = findings(save(tmp_path / "b.keras", [*inputs, own], ["q"]))
        assert (rule, f"{kind} of HGQ2" in message) == ("DLA180", True)
    weights = stored("iq", np.ones((1, 7)), np.ones((1, 7)), np.ones((1, 7)))
    own = layer("QDense", {"units": 2, "iq_conf": config(), "kq_conf": config()}, weights)
    [(rule, message)] = findings(save(tmp_path / "c.keras", [*inputs, own], ["q"]))
    assert (rule, "widths of shape [1, 7]" in message) == ("DLA108", True)
    weights = stored("iq", [[1]], [[20]], [[20]])
    own = layer("QDense", {"units": 2, "iq_conf": config(), "kq_conf": config()}, weights)
    [(rule, message)] = findings(save(tmp_path / "d.keras", [*inputs, own], ["q"]))
    assert (rule, "a map of 40 bits" in message) == ("DLA178", True)


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    kernel = np.full((3, 2), np.nan, np.float32)
    given_config = {
        "units": 2,
        "use_bias": False,
        "enable_iq": False,
        "kq_conf": config("kbi", overflow="WRAP", is_weight=True),
    }
    weights = {"kernel": kernel, **stored("kq", [[1]], [[1]], [[4]], "kbi", "WRAP")}
    own = layer("QDense", given_config, weights)
    [(rule, message)] = findings(save(tmp_path / "m.keras", [given("x", (3,)), own], ["q"]))
    assert (rule, "not finite" in message) == ("DLA108", True)
