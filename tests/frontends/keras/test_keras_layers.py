"""Layers that normalise, join and move elements, against NumPy."""

import numpy as np
import pytest

from tests.frontends.keras.files import L, T, findings, given, one_layer, outputs_of, save

RNG = np.random.default_rng(5)


def values(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def close(found, wanted):
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(("axis", "at"), [(-1, 3), (3, 3), ([3], 3), ([-2], 2), (1, 1)])
@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_a_batch_norm_has_only_the_variables_it_needs(tmp_path, axis, at, scale, center, ending):
    x = values(2, 3, 4, 5)
    size = x.shape[at]
    held = {"gamma": values(size), "beta": values(size), "moving_mean": values(size)}
    held["moving_variance"] = abs(values(size)) + 0.1
    spread = {k: v.reshape([-1 if a == at else 1 for a in range(4)]) for k, v in held.items()}
    wanted = (x - spread["moving_mean"]) / np.sqrt(spread["moving_variance"] + 2e-3)
    wanted = wanted * spread["gamma"] if scale else wanted
    wanted = wanted + spread["beta"] if center else wanted
    stored = {
        name: array
        for name, array in held.items()
        if {"gamma": scale, "beta": center}.get(name, True)
    }
    config = {"axis": axis, "epsilon": 2e-3, "scale": scale, "center": center}
    layer = L("BatchNormalization", "b", config=config, weights=stored)
    close(one_layer(tmp_path, layer, x, ending=ending), wanted)


def test_a_batch_norm_adds_a_thousandth_by_default(tmp_path):
    held = {
        "gamma": np.ones(3),
        "beta": np.zeros(3),
        "moving_mean": np.zeros(3),
        "moving_variance": np.full(3, 1e-4),
    }
    weights = {name: array.astype(np.float32) for name, array in held.items()}
    x = values(4, 3)
    found = one_layer(tmp_path, L("BatchNormalization", "b", weights=weights), x)
    close(found, x / np.sqrt(np.float32(1.1e-3)))


def test_a_batch_norm_of_integers_is_refused(tmp_path):
    held = dict.fromkeys(("gamma", "beta", "moving_mean"), np.ones(3, np.float32))
    held["moving_variance"] = np.ones(3, np.int32)
    layers = [given("x", (3,)), L("BatchNormalization", "b", ["x"], weights=held)]
    [finding] = findings(save(tmp_path / "m.keras", layers, ["b"]))
    assert finding == ("DLA108", "moving_variance is stored as int32")


def test_a_rescaling_may_differ_by_channel(tmp_path):
    x = values(2, 3, 3, 2)
    layer = L("Rescaling", "r", config={"scale": 2.0, "offset": -1.0})
    close(one_layer(tmp_path, layer, x), 2 * x - 1)
    layer = L("Rescaling", "r", config={"scale": [0.5, 4.0], "offset": [1.0, 0.0]})
    close(one_layer(tmp_path, layer, x), x * np.float32([0.5, 4]) + np.float32([1, 0]))


@pytest.mark.parametrize("invert", [False, True])
def test_a_normalisation_is_stored_or_declared(tmp_path, invert):
    x, mean = values(2, 3, 3, 2), values(2)
    variance = np.float32([0.5, 1e-20])  # the second deviation is below the least one, 1e-7
    deviation = np.maximum(np.sqrt(variance), 1e-7)
    wanted = x * deviation + mean if invert else (x - mean) / deviation
    held = {"mean": mean, "variance": variance, "count": np.int64(7)}
    config = {"axis": [-1], "invert": invert}
    close(one_layer(tmp_path, L("Normalization", "n", config=config, weights=held), x), wanted)
    config |= {"mean": mean.tolist(), "variance": variance.tolist()}
    close(one_layer(tmp_path, L("Normalization", "n", config=config), x), wanted)
    config |= {"mean": 2.0, "variance": 4.0, "axis": None}
    wanted = x * 2 + 2 if invert else (x - 2) / 2
    close(one_layer(tmp_path, L("Normalization", "n", config=config), x), wanted)


def test_a_normalisation_of_the_whole_has_one_mean(tmp_path):
    x = values(2, 3, 3, 2)
    held = {"mean": np.float32(0.5), "variance": np.float32(4.0), "count": np.int64(7)}
    layer = L("Normalization", "n", config={"axis": None}, weights=held)
    close(one_layer(tmp_path, layer, x), (x - np.float32(0.5)) / 2)


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("Add", lambda a, b, c: a + b + c),
        ("Multiply", lambda a, b, c: a * b * c),
        ("Average", lambda a, b, c: (a + b + c) / 3),
        ("Maximum", lambda a, b, c: np.maximum(np.maximum(a, b), c)),
        ("Minimum", lambda a, b, c: np.minimum(np.minimum(a, b), c)),
    ],
)
def test_merges_take_any_number_of_tensors(tmp_path, kind, wanted):
    arrays = values(2, 4, 3), values(2, 4, 3), values(2, 1, 3)
    close(one_layer(tmp_path, L(kind, "m"), *arrays), wanted(*arrays))


def test_a_subtraction_takes_two(tmp_path):
    a, b = values(2, 3), values(2, 3)
    close(one_layer(tmp_path, L("Subtract", "m"), a, b), a - b)
    layers = [given("a", (3,)), given("b", (3,)), L("Subtract", "m", [["a", "b", "a"]])]
    [(rule, message)] = findings(save(tmp_path / "m.keras", layers, ["m"]))
    assert (rule, "3 tensors" in message) == ("DLA108", True)


@pytest.mark.parametrize("axis", [-1, 1, 2])
def test_a_concatenation_has_an_axis(tmp_path, axis):
    a, b = values(2, 3, 4), values(2, 3, 4)
    found = one_layer(tmp_path, L("Concatenate", "m", config={"axis": axis}), a, b)
    close(found, np.concatenate([a, b], axis))


def test_operations_broadcast_and_take_constants(tmp_path):
    x, ops = values(2, 3, 4), "keras.src.ops.numpy"
    for kind, arguments, wanted in [
        ("Add", ["x", 0.5], x + 0.5),
        ("Subtract", [1.0, "x"], 1 - x),
        ("TrueDivide", ["x", 4.0], x / 4),
        ("Multiply", ["x", [1.0, 2.0, 3.0, 4.0]], x * np.float32([1, 2, 3, 4])),
        ("Maximum", ["x", 0.0], np.maximum(x, 0)),
    ]:
        layers = [given("x", (3, 4)), L(kind, "o", arguments, module=ops)]
        for ending in (".keras", ".h5"):
            [found] = outputs_of(save(tmp_path / f"m{ending}", layers, ["o"]), x=x)
            close(found, wanted)


@pytest.mark.parametrize(
    ("kind", "config", "wanted"),
    [
        ("Mean", {"axis": [1, 2], "keepdims": False}, lambda x: x.mean((1, 2))),
        ("Sum", {"axis": -1, "keepdims": True}, lambda x: x.sum(-1, keepdims=True)),
        ("Max", {"axis": [1]}, lambda x: x.max(1)),
        ("Transpose", {"axes": [0, 3, 1, 2]}, lambda x: x.transpose(0, 3, 1, 2)),
        ("Reshape", {"newshape": [-1, 12, 2]}, lambda x: x.reshape(-1, 12, 2)),
        ("ExpandDims", {"axis": 1}, lambda x: x[:, None]),
        ("Clip", {"x_min": -0.5, "x_max": 0.25}, lambda x: np.clip(x, -0.5, 0.25)),
    ],
)
def test_operations_count_axes_with_the_batch(tmp_path, kind, config, wanted):
    x = values(2, 3, 4, 2)
    layers = [given("x", (3, 4, 2)), L(kind, "o", ["x"], config, module="keras.src.ops.numpy")]
    [found] = outputs_of(save(tmp_path / "m.keras", layers, ["o"]), x=x)
    close(found, wanted(x))


def test_an_operation_concatenates_along_its_own_axis(tmp_path):
    x = values(2, 3, 4)
    config, module = {"axis": 1}, "keras.src.ops.numpy"
    layers = [given("x", (3, 4)), L("Concatenate", "o", [["x", "x"]], config, module=module)]
    [found] = outputs_of(save(tmp_path / "m.keras", layers, ["o"]), x=x)
    close(found, np.concatenate([x, x], 1))
    layers[1].config = {}  # which is the batch, other than a layer's last axis
    [(rule, message)] = findings(save(tmp_path / "m.keras", layers, ["o"]))
    assert (rule, "along axis 0" in message) == ("DLA108", True)


def test_flatten_keeps_the_order_of_channels_last_maps(tmp_path):
    x = values(2, 3, 4, 5)
    close(one_layer(tmp_path, L("Flatten", "f"), x), x.reshape(2, -1))
    layer = L("Flatten", "f", config={"data_format": "channels_first"})
    close(one_layer(tmp_path, layer, x), x.transpose(0, 2, 3, 1).reshape(2, -1))


@pytest.mark.parametrize("target", [[12, 5], [-1], [4, -1, 5], [60]])
def test_a_reshape_leaves_the_batch(tmp_path, target):
    x = values(2, 3, 4, 5)
    found = one_layer(tmp_path, L("Reshape", "r", config={"target_shape": target}), x)
    close(found, x.reshape(2, *target))


def test_other_ways_to_move_elements(tmp_path):
    x = values(2, 3, 4, 5)
    close(
        one_layer(tmp_path, L("Permute", "p", config={"dims": [3, 1, 2]}), x),
        x.transpose(0, 3, 1, 2),
    )
    y = values(2, 4)
    found = one_layer(tmp_path, L("RepeatVector", "r", config={"n": 3}), y)
    close(found, np.repeat(y[:, None], 3, 1))
    for kind in ("Dropout", "SpatialDropout2D", "GaussianNoise", "RandomFlip", "RandomZoom"):
        close(one_layer(tmp_path, L(kind, "d", config={"rate": 0.5}), x), x)


@pytest.mark.parametrize(
    ("padding", "ends"),
    [
        (2, ((2, 2), (2, 2))),
        ([1, 2], ((1, 1), (2, 2))),
        ([[0, 1], [2, 3]], ((0, 1), (2, 3))),
    ],
)
def test_paddings_and_croppings_have_ends(tmp_path, padding, ends):
    x = values(2, 6, 7, 3)
    found = one_layer(tmp_path, L("ZeroPadding2D", "z", config={"padding": padding}), x)
    close(found, np.pad(x, [(0, 0), *ends, (0, 0)]))
    found = one_layer(tmp_path, L("Cropping2D", "c", config={"cropping": padding}), x)
    (top, bottom), (left, right) = ends
    close(found, x[:, top : 6 - bottom, left : 7 - right])
    first = {"padding": padding, "data_format": "channels_first"}
    found = one_layer(tmp_path, L("ZeroPadding2D", "z", config=first), x)
    close(found, np.pad(x, [(0, 0), (0, 0), *ends]))


def test_one_axis_is_padded_at_both_ends(tmp_path):
    x = values(2, 5, 3)
    found = one_layer(tmp_path, L("ZeroPadding1D", "z", config={"padding": [1, 2]}), x)
    close(found, np.pad(x, [(0, 0), (1, 2), (0, 0)]))


def test_up_sampling_repeats_or_interpolates(tmp_path):
    x = values(2, 3, 4, 2)
    found = one_layer(tmp_path, L("UpSampling2D", "u", config={"size": [2, 3]}), x)
    close(found, x.repeat(2, 1).repeat(3, 2))
    config = {"size": [2, 2], "interpolation": "bilinear"}
    found = one_layer(tmp_path, L("UpSampling2D", "u", config=config), x)
    wanted = x
    for axis, size in ((1, 3), (2, 4)):
        place = np.clip((np.arange(2 * size) + 0.5) / 2 - 0.5, 0, size - 1)
        low = np.floor(place).astype(int)
        share = (place - low).reshape([-1 if a == axis else 1 for a in range(4)])
        high = np.minimum(low + 1, size - 1)
        wanted = np.take(wanted, low, axis) * (1 - share) + np.take(wanted, high, axis) * share
    close(found, wanted)


@pytest.mark.parametrize(
    ("layer", "rule", "why"),
    [
        (L("Reshape", "r", config={"target_shape": [7, 9]}), "DLA108", "60 elements"),
        (L("Reshape", "r", config={"target_shape": [-1, -1]}), "DLA108", "60 elements"),
        (L("Permute", "r", config={"dims": [1, 1, 2]}), "DLA108", "dims is [1, 1, 2]"),
        (L("Cropping2D", "r", config={"cropping": 2}), "DLA108", "cuts 2 and 2 of 3"),
        (L("ZeroPadding2D", "r", config={"padding": [-1, 0]}), "DLA108", "padding is [-1, 0]"),
        (L("ZeroPadding2D", "r", config={"padding": 1 << 30}), "DLA108", "padding is"),
        (L("UpSampling2D", "r", config={"interpolation": "area"}), "DLA178", "'area'"),
        (L("UpSampling2D", "r", config={"interpolation": ["area"]}), "DLA178", "['area']"),
        (L("UpSampling2D", "r", config={"size": [65536, 65536]}), "DLA108", "tensor of shape"),
        (L("BatchNormalization", "r", config={"axis": [1, 2]}), "DLA178", "over axes [1, 2]"),
        (L("BatchNormalization", "r", config={"axis": 0}), "DLA108", "of the batch"),
        (L("Rescaling", "r", config={"scale": [1.0, 2.0]}), "DLA108", "values of shape [2]"),
        (L("Rescaling", "r", config={"scale": "half"}), "DLA108", "no numbers"),
        (L("LSTM", "r"), "DLA178", "keeps a state"),
        (L("RandomCrop", "r"), "DLA178", "at inference, too"),
        (L("Dens", "r"), "DLA102", "Dens is no layer"),
        (L("Dense", "r", module="mine", registered="mine>Dense"), "DLA102", "mine>Dense"),
        (L("Mean", "r", config={"axis": 0}, module="keras.src.ops.numpy"), "DLA178", "batch"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path, layer, rule, why):
    layer.reads = ["x"]
    path = save(tmp_path / "m.keras", [given("x", (3, 4, 5)), layer], ["r"])
    [(found, message)] = findings(path)
    assert found == rule
    assert why in message


def test_every_bad_layer_is_reported(tmp_path):
    layers = [
        given("x", (3,)),
        L("Lambda", "a", ["x"]),
        L("GRU", "b", ["a"]),
        L("QAdaptiveActivation", "c", ["b"], module="qkeras.qlayers"),
        L("Add", "d", [[T("c"), T("x")]]),
    ]
    found = findings(save(tmp_path / "m.keras", layers, ["d"]))
    assert [rule for rule, _ in found] == ["DLA179", "DLA178", "DLA180"]


@pytest.mark.parametrize("registered", ["CustomScaleLayer", "Custom>CustomScaleLayer"])
def test_the_scaled_sum_of_inception_resnet_is_read(tmp_path, registered):
    x, y = values(2, 3, 4), values(2, 3, 4)
    layer = L("CustomScaleLayer", "s", config={"scale": 0.25}, registered=registered)
    close(one_layer(tmp_path, layer, x, y), x + 0.25 * y)
