"""Convolution, BatchNorm and Scale as one layer, and BatchNorms that stand alone."""

import numpy as np
import pytest

from dlaconv.ir.passes import CANONICAL
from dlaconv.ir.pipeline import Context, Pipeline
from dlaconv.ir.stages import Stage
from dlaconv.ir.target import Target
from tests.frontends.caffe.files import error, numbers, output
from tests.frontends.caffe.integer_model import away
from tests.frontends.caffe.quantised import (
    convolution,
    fixed,
    in_place,
    integers,
    load,
    named,
    rules,
    steps,
    thresholds,
)

SHAPE = (1, 3, 8, 8)
C = 6
GAMMA = np.array([1.5, -0.7, 0.9, -2.0, 0.0, 1.0], np.float32)
BETA = np.array([0.3, -1, 2, 0.01, 1.26, -0.5], np.float32)
MEAN = np.array([0.5, -0.25, 1, 0, 2, -1], np.float32)
VARIANCE = np.array([0.3, 1, 2.5, 0.01, 1, 0.5], np.float32)
EPS = 1e-3
NORM = "batch_norm_param { eps: 1e-3 }"
BIASED = "scale_param { bias_term: true }"
S = GAMMA.astype(np.float64) / np.sqrt(VARIANCE.astype(np.float64) + EPS)
WEIGHTS = numbers(C, 3, 3, 3) / 3
BIAS = numbers(C, seed=1)
BLOBS = {
    "c": [WEIGHTS, BIAS],
    "n": [MEAN * 4, VARIANCE * 4, np.array([4.0])],
    "s": [GAMMA, BETA],
}
FORMS = {
    "in place": in_place("n", "BatchNorm", "c", NORM + "%s")
    + in_place("s", "Scale", "c", BIASED + "%s"),
    "one after another": named("n", "BatchNorm", NORM + "%s", ["c"])
    + named("s", "Scale", BIASED + "%s", ["n"]),
}  # fmt: skip


def image(seed=0, most=4.0):
    return np.random.default_rng(seed).uniform(-most, most, SHAPE).astype(np.float32)


def network(precision, form="in place", norm="", scale="", more=""):
    first = convolution("c", "data", C, precision)
    return first + FORMS[form] % (norm, scale) + more


def channels(values):
    return np.reshape(values, (1, -1, 1, 1))


def computed(x, weights, steps_of, step_in, step_out, offset=None):
    """The fused layer by its definition: integers of the unfused filters, S in the steps."""
    q = np.pad(
        np.clip(away(x.astype(np.float64) / step_in), -127, 127), [(0, 0), (0, 0), (1, 1), (1, 1)]
    )
    windows = np.lib.stride_tricks.sliding_window_view(q, (3, 3), (2, 3))
    sums = np.einsum("nchwij,ocij->nohw", windows, weights)
    if offset is None:
        offset = S * (BIAS - MEAN) + BETA
    bias = np.clip(away(offset / step_out), -128, 127) * step_out
    real = sums * channels(S * steps_of) * step_in + channels(bias)
    return np.clip(away(real / step_out), -128, 127)


def same(found, wanted, step):
    """The same integers but for one unit where float32 and double differ at a tie."""
    off = np.abs(integers(found, step) - wanted)
    assert off.max() <= 1
    assert (off > 0).mean() < 0.003
    assert np.unique(wanted).size > 20


@pytest.mark.parametrize("form", FORMS)
def test_the_format_of_dynamic_fixed_weights_is_that_of_the_unfused_filter(tmp_path, form):
    text = network(fixed(4, 6, 7), form, scale=fixed(4, 4))
    imported = load(tmp_path, text, BLOBS, shape=SHAPE)
    x = image()
    q = np.clip(away(WEIGHTS.astype(np.float64) * 128), -128, 127)
    wanted = computed(x, q, np.full(C, 1 / 128), 1 / 16, 1 / 16)
    same(output(imported, data=x), wanted, 1 / 16)
    assert steps(imported) == [1 / 16, 1 / 16]  # nothing is rounded within


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("given", [True, False])
def test_thresholds_are_those_of_the_unfused_filter(tmp_path, form, given):
    largest = np.abs(WEIGHTS).reshape(C, -1).max(1).astype(np.float64)
    th = largest * (np.linspace(0.8, 1.2, C) if given else 1)
    text = network(thresholds(4, 6, th if given else ()), form, more=in_place("r", "ReLU", "c"))
    text = text if form == "in place" else text.replace("'c' top: 'c'", "'s' top: 's'")
    imported = load(tmp_path, text, BLOBS, shape=SHAPE)
    x = image()
    q = np.clip(away(WEIGHTS / (th / 127).reshape(-1, 1, 1, 1)), -127, 127)
    wanted = computed(x, q, th / 127, 4 / 127, 6 / 127)
    same(output(imported, data=x), np.maximum(wanted, 0), 6 / 127)
    [noted] = rules(imported, "DLA149") if given else [None]
    assert noted is None or "0.833 ('c') to 1.25 ('c') times that of the file" in noted.message


@pytest.mark.parametrize(
    ("norm", "scale", "wanted"),
    [("", "", 2), (fixed(5, 5), "", 5), (fixed(5, 5), fixed(3, 3), 3), ("", fixed(3, 3), 3)],
)
def test_the_result_has_the_format_of_the_last_layer_with_one(tmp_path, norm, scale, wanted):
    text = network(fixed(4, 2, 7), norm=norm, scale=scale)
    imported = load(tmp_path, text, BLOBS, shape=SHAPE)
    assert steps(imported) == [2.0**-4, 2.0**-wanted]


def test_a_negative_factor_turns_the_sign_of_integers(tmp_path):
    weights = np.full((C, 3, 3, 3), -2.0, np.float32)  # -128, which turned round is 128
    blobs = BLOBS | {"c": [weights, BIAS]}
    imported = load(tmp_path, network(fixed(4, 1, 7)), blobs, shape=SHAPE)
    x = image(most=1)
    wanted = computed(x, np.full(weights.shape, -128), np.full(C, 1 / 128), 1 / 16, 1 / 2)
    same(output(imported, data=x), wanted, 0.5)
    context = Context(Target.load())
    Pipeline([(Stage.CANONICAL, CANONICAL)]).run(imported.model, context)
    assert "2 channels with a negative factor change sign" in str(context.rewrites)
    same(output(imported, data=x), wanted, 0.5)


def test_thresholds_of_fused_filters_are_used_as_such(tmp_path):
    largest = np.abs(WEIGHTS).reshape(C, -1).max(1).astype(np.float64)
    th = np.where(S == 0, 0.5, largest * np.abs(S)) * np.array([1, 1.02, 0.99, 1, 1, 1])
    text = network(thresholds(4, 6, th))
    imported = load(tmp_path, text, BLOBS, shape=SHAPE)
    [warned] = rules(imported, "DLA150")
    assert "th_params of 'c' (Convolution) are the largest magnitudes" in warned.message
    x = image()
    with np.errstate(divide="ignore"):
        unfused = np.where(S == 0, largest, th / np.abs(S))
    q = np.clip(away(WEIGHTS / (unfused / 127).reshape(-1, 1, 1, 1)), -127, 127)
    same(output(imported, data=x), computed(x, q, unfused / 127, 4 / 127, 6 / 127), 6 / 127)


def test_thresholds_that_fit_neither_are_those_of_the_unfused_filter(tmp_path):
    text = network(thresholds(4, 6, np.linspace(3, 5, C)))
    assert not rules(load(tmp_path, text, BLOBS, shape=SHAPE), "DLA150")


def test_a_few_filters_that_fit_by_chance_do_not_make_thresholds_those_of_fused_ones(tmp_path):
    largest = np.abs(WEIGHTS).reshape(C, -1).max(1).astype(np.float64)
    th = np.where(S == 0, 0.5, largest * np.abs(S)) * np.array([1, 1, 1, 1.4, 1, 2])
    text = network(thresholds(4, 6, th))
    assert not rules(load(tmp_path, text, BLOBS, shape=SHAPE), "DLA150")


def test_what_chaidnn_makes_of_the_formats_is_noted(tmp_path):
    [noted] = rules(load(tmp_path, network(fixed(4, 4, 6)), BLOBS, shape=SHAPE), "DLA149")
    most = (np.abs(WEIGHTS).reshape(C, -1).max(1) * np.abs(S)).max()
    there = 8 - (int(np.ceil(np.log2(most))) + 1)
    assert f"{there - 6:+d} ('c') to {there - 6:+d} ('c') from fl_params" in noted.message
    [noted] = rules(load(tmp_path, network(thresholds(4, 0.9)), BLOBS, shape=SHAPE), "DLA149")
    assert "cuts th_layer_out of 1 of them to an integer, 0.9 of 'c' to 0" in noted.message


def test_a_fused_bias_saturates_in_the_format_of_the_result(tmp_path):
    blobs = BLOBS | {"s": [GAMMA, BETA + np.array([0, 0, 90, 0, 0, 0])]}
    imported = load(tmp_path, network(fixed(4, 4, 7)), blobs, shape=SHAPE)
    [warned] = rules(imported, "DLA148")
    assert warned.location.layer == "c"
    assert "becomes 7.9375" in warned.message


def test_a_convolution_without_bias_and_a_scale_without_bias(tmp_path):
    text = network(fixed(4, 4, 7)).replace("pad: 1", "pad: 1 bias_term: false")
    text = text.replace(BIASED, "")
    imported = load(tmp_path, text, BLOBS | {"c": [WEIGHTS], "s": [GAMMA]}, shape=SHAPE)
    x = image()
    q = np.clip(away(WEIGHTS.astype(np.float64) * 128), -128, 127)
    wanted = computed(x, q, np.full(C, 1 / 128), 1 / 16, 1 / 16, offset=-S * MEAN)
    same(output(imported, data=x), wanted, 1 / 16)


OTHERS = {
    "no Scale": in_place("n", "BatchNorm", "c", NORM + fixed(4, 4)),
    "another reader": named("n", "BatchNorm", NORM + fixed(4, 4), ["c"])
    + in_place("s", "Scale", "n", BIASED)
    + named("z", "TanH", "", ["c"]),
    "a ReLU between": in_place("r", "ReLU", "c") + FORMS["in place"] % (fixed(4, 4), fixed(4, 4)),
    "statistics of the data": in_place(
        "n", "BatchNorm", "c", "batch_norm_param { use_global_stats: false }" + fixed(4, 4)
    )
    + in_place("s", "Scale", "c", BIASED + fixed(4, 4)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_others_are_not_fused(tmp_path, name):
    text = convolution("c", "data", C, fixed(4, 5, 7)) + OTHERS[name]
    imported = load(tmp_path, text, BLOBS, shape=SHAPE)
    assert not imported.diagnostics.errors
    assert 2.0**-5 in steps(imported)
    assert not rules(imported, "DLA149")


def alone(x, formats=True, beta=BETA, gamma=GAMMA):
    """BatchNorm and Scale by CHaiDNN's rules: fl_in 4, gamma by std 0, beta -4, result 3."""
    q = np.clip(away(x.astype(np.float64) * 16), -128, 127) / 16
    factor = gamma.astype(np.float64) / np.sqrt(VARIANCE.astype(np.float64) + EPS)
    mean, offset = MEAN.astype(np.float64), np.asarray(beta, np.float64)
    if formats:
        factor = np.clip(away(factor * 2**8), -(2**15), 2**15 - 1) / 2**8
        offset = np.clip(np.trunc(offset * 2**4), -(2**15), 2**15 - 1) / 2**4
        mean = np.clip(np.trunc(mean * 2**12), -(2**15), 2**15 - 1) / 2**12
    real = (q - channels(mean)) * channels(factor) + channels(offset)
    return np.clip(away(real * 8), -128, 127)


def test_a_batch_norm_that_stands_alone_has_statistics_of_16_bits(tmp_path):
    gamma = GAMMA * np.float32(0.1)
    text = named("t", "Tile", "tile_param { axis: 1 tiles: 2 }") + named(
        "n", "BatchNorm", NORM + fixed(4, 4, batchnorm_mean_fl=1, batchnorm_mean_bw=8), ["t"]
    )
    text += in_place(
        "s",
        "Scale",
        "n",
        BIASED
        + fixed(
            4,
            3,
            scale_gamma_by_std_fl=0,
            scale_gamma_by_std_bw=8,
            scale_beta_fl=-4,
            scale_beta_bw=8,
        ),
    )
    imported = load(tmp_path, text, BLOBS | {"s": [gamma, BETA]}, shape=SHAPE)
    assert steps(imported) == [1 / 16, 1 / 8]
    x = image()
    twice = np.tile(x, (1, 2, 1, 1))
    found = integers(output(imported, data=x), 1 / 8)
    np.testing.assert_array_equal(found, alone(twice, gamma=gamma))
    assert (found != alone(twice, gamma=gamma, formats=False)).sum() > 0


def test_a_scale_alone_keeps_its_numbers(tmp_path):
    text = named("s", "Scale", BIASED + fixed(4, 3, scale_gamma_fl=5))
    gamma, beta = numbers(2, 3)
    blobs = {"s": [gamma, beta]}
    imported = load(tmp_path, text, blobs, shape=SHAPE)
    x = image()
    q = np.clip(away(x.astype(np.float64) * 16), -128, 127) / 16
    wanted = np.clip(away((q * channels(gamma) + channels(beta)) * 8), -128, 127)
    same(output(imported, data=x), wanted, 1 / 8)


@pytest.mark.parametrize(("layer", "left"), [("n", "mean"), ("s", "scale")])
def test_missing_statistics_are_an_error_of_their_layer(tmp_path, layer, left):
    blobs = {name: arrays for name, arrays in BLOBS.items() if name != layer}
    found = error(load(tmp_path, network(fixed(4, 4, 7)), blobs, shape=SHAPE))
    assert (found.rule, found.location.layer) == ("DLA132", layer)
    assert left in found.message


def test_a_negative_variance_is_an_error(tmp_path):
    blobs = BLOBS | {"n": [MEAN, -VARIANCE, np.ones(1)]}
    found = error(load(tmp_path, network(fixed(4, 4, 7)), blobs, shape=SHAPE))
    assert (found.rule, found.location.layer) == ("DLA108", "n")


def test_a_scale_factor_of_zero_gives_statistics_of_zero(tmp_path):
    blobs = BLOBS | {"n": [MEAN, VARIANCE, np.zeros(1)], "s": [GAMMA / 40, BETA]}
    imported = load(tmp_path, network(fixed(4, 4, 7)), blobs, shape=SHAPE)
    assert not imported.diagnostics.errors
    assert np.unique(output(imported, data=image())).size > 20


@pytest.mark.parametrize("kind", ["DepthwiseConvolution", "ConvolutionDepthwise"])
def test_depthwise_layers_of_forks_take_a_normalisation_along(tmp_path, kind):
    blobs = {name: [array[:3] for array in arrays] for name, arrays in BLOBS.items()}
    blobs["c"][0] = WEIGHTS[:3, :1]
    text = convolution("c", "data", 3, fixed(4, 4, 7), "kernel_size: 3 group: 3")
    text += FORMS["in place"] % ("", "")
    x = image()
    wanted = output(load(tmp_path, text, blobs, shape=SHAPE), data=x)
    text = text.replace("'Convolution'", f"'{kind}'")
    imported = load(tmp_path, text, blobs, shape=SHAPE)
    assert steps(imported) == [2.0**-4, 2.0**-4]
    np.testing.assert_array_equal(output(imported, data=x), wanted)
