"""Truncated averages: two operators of one name, steps that are no powers of two, computed widths.

``sum >> n`` of the integers is what was trained, whatever the scales around it.
"""

import numpy as np
import pytest
from onnx import helper

from tests.frontends.builders import QONNX, network, parameters, quant, random
from tests.frontends.qonnx.reference import int_quant, rounded, trunc_v1, trunc_v2
from tests.traps.support import assert_computes, conv2d, grid, hardware

STEP, WEIGHT, MAP, RESULT = 2.0**-5, 2.0**-7, 2.0**-4, 2.0**-4
SIZE = 14
WEIGHTS = random(4, 3, 1, 1, seed=1, spread=0.4)
X = grid(6, 3, SIZE, SIZE, step=STEP, seed=9)
ONE_PIXEL = {"x": [1, 3, SIZE, SIZE]}
SUMMED = int_quant(conv2d(X, int_quant(WEIGHTS, WEIGHT, 0, 8)).astype(np.float32), MAP, 0, 8)
"""The map that is averaged."""


def trunc(x, y, *inputs, **attributes):
    domain = "onnx.brevitas" if len(inputs) == 4 else QONNX
    return helper.make_node(
        "Trunc", [x, *inputs], [y], name=f"trunc_{y}", domain=domain, **attributes
    )


def integer_sums(kernel):
    """Sums of the map's integers over windows that do not overlap."""
    windows = np.lib.stride_tricks.sliding_window_view(SUMMED / MAP, (kernel, kernel), (2, 3))
    return windows[:, :, ::kernel, ::kernel].sum((-1, -2))


def net(kernel, *nodes, version, **more):
    """Quant -> Conv -> Quant -> AveragePool ("p") -> ``nodes`` ("t") -> Gemm -> Quant."""
    positions = (SIZE // kernel) ** 2 * 4
    made = [
        quant("x", "xq"),
        quant("w", "wq", "ws"),
        ("Conv", ["xq", "wq"], ["c"]),
        quant("c", "m", "ms"),
        ("AveragePool", ["m"], ["p"], {"kernel_shape": [kernel] * 2, "strides": [kernel] * 2}),
        *nodes,
        ("Flatten", ["t"], ["f"]),
        quant("v", "vq", "ws"),
        ("Gemm", ["f", "vq"], ["g"], {"transB": 1}),
        quant("g", "y", "rs"),
    ]
    given = {
        "w": WEIGHTS, "v": random(5, positions, seed=2, spread=0.3), "ws": np.float32(WEIGHT),
        "ms": np.float32(MAP), "rs": np.float32(RESULT), **more,
    }  # fmt: skip
    domains = [("onnx.brevitas", 1)] if version == 1 else [(QONNX, 2)]
    constants = parameters(scale=STEP) | given
    return network(made, constants, ONE_PIXEL, outputs=("t", "y"), domains=domains)


def truncated(kernel, version, mode):
    """The network with Brevitas' truncated average of either version, and its bits to drop."""
    bits = 8 + int(np.ceil(np.log2(kernel**2)))
    drop = bits - 8
    scale = np.float32(MAP / kernel**2)
    numbers = {"in": np.float32(bits), "area": np.float32(kernel**2)}
    if version == 1:
        nodes = [
            ("Mul", ["p", "area"], ["s_"]),
            trunc("s_", "t", "ms", "z", "in", "b", rounding_mode=mode),
        ]
    else:
        attributes = {"signed": 1, "narrow": 0, "rounding_mode": mode}
        nodes = [trunc("p", "t", "fine", "z", "in", "coarse", "b", **attributes)]
        numbers |= {"fine": scale, "coarse": scale * np.float32(2**drop)}
    return net(kernel, *nodes, version=version, **numbers), drop


def classified(model, truncated_map):
    """The second output, from the values of the truncated map."""
    weights = next(t for t in model.graph.initializer if t.name == "v")
    kept = int_quant(
        np.frombuffer(weights.raw_data, np.float32).reshape(weights.dims), WEIGHT, 0, 8
    )
    product = truncated_map.reshape(len(X), -1).astype(np.float64) @ kept.T
    return int_quant(product.astype(np.float32), RESULT, 0, 8)


@pytest.mark.parametrize("mode", ["FLOOR", "ROUND", "ceil", "HALF_UP"])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("kernel", [2, 3, 7])
def test_truncated_averages_are_shifted_sums(tmp_path, kernel, version, mode):
    """3x3 and 7x7 windows have steps of MAP/9 and MAP/49, powers of two in no network."""
    model, drop = truncated(kernel, version, mode)
    integers = rounded(integer_sums(kernel) / 2.0**drop, mode)
    step = MAP if version == 1 else float(np.float32(MAP / kernel**2) * np.float32(2**drop))
    del model.graph.output[1]  # behind float sums, which meet ties of their own
    assert_computes(tmp_path, model, integers * step, relative=1e-6, x=X)


def test_version_1_shrinks_the_value_and_version_2_keeps_it():
    """10.75 at 0.25, 10 -> 8 bits: 2.5 or 10; a converter for one misreads the other by 2^n."""
    x = np.float32([10.75])
    assert trunc_v1(x, 0.25, 10, 8) == 2.5
    assert trunc_v2(x, 0.25, 0, 1.0, 8) == 10


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("kernel", [2, 3, 7])
def test_rounded_averages_are_exact_on_the_hardware(tmp_path, kernel, version):
    """The average runs as a weighted sum, so its integers are those of the source."""
    model, drop = truncated(kernel, version, "ROUND")
    step = MAP if version == 1 else float(np.float32(MAP / kernel**2) * np.float32(2**drop))
    got = hardware(tmp_path, only_last_output(model), x=X)
    integers = np.round(integer_sums(kernel) / 2.0**drop)
    assert np.array_equal(got.outputs["y"], classified(model, integers * step))


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("kernel", [2, 3, 7])
def test_floored_averages_differ_where_the_sum_has_nothing_to_drop(tmp_path, kernel, version):
    """A bias of half a unit makes floor of the nearest integer, but for whole results."""
    model, drop = truncated(kernel, version, "FLOOR")
    got = hardware(tmp_path, only_last_output(model), x=X)
    name = next(name for name in got.maps if name in {"t", "t/rescaled"})
    units = got.maps[name] / got.row(name)["target"]["real_step"]
    sums = integer_sums(kernel)
    wanted = np.floor(sums / 2.0**drop)
    off = np.rint(units) - wanted
    assert set(np.unique(off)) <= {-1, 0}
    assert not off[sums % 2**drop != 0].any()


def only_last_output(model):
    del model.graph.output[0]
    return model


@pytest.mark.parametrize("pool", ["GlobalAveragePool", "ReduceMean"])
def test_the_width_of_a_global_average_may_be_computed_by_nodes(tmp_path, pool):
    """Log, Div and Ceil of the largest sum: constants once folded."""
    area = SIZE * SIZE
    bits = int(np.ceil(np.log2(area * 128)))
    scale = np.float32(MAP / area)
    nodes = {
        "GlobalAveragePool": [("GlobalAveragePool", ["m"], ["a"])],
        "ReduceMean": [("ReduceMean", ["m", "axes"], ["a"], {"keepdims": 1})],
    }[pool]
    nodes += [
        helper.make_node("Log", ["largest"], ["log"]),
        helper.make_node("Div", ["log", "log2"], ["raw"]),
        helper.make_node("Ceil", ["raw"], ["in"]),
        trunc(
            "a", "t", "fine", "z", "in", "coarse", "b", signed=1, narrow=0, rounding_mode="ROUND"
        ),
    ]
    model = net(
        SIZE,
        *nodes,
        version=2,
        axes=np.array([-1, -2]),
        largest=np.float32(area * 128),
        log2=np.float32(np.log(2)),
        fine=scale,
        coarse=scale * np.float32(2 ** (bits + 1 - 8)),
    )
    del model.graph.node[4]  # the pool of the helper
    step = float(scale * np.float32(2 ** (bits + 1 - 8)))
    integers = np.round(integer_sums(SIZE) / 2.0 ** (bits + 1 - 8))
    wanted = classified(model, integers * step)
    assert_computes(tmp_path, model, integers * step, wanted, relative=1e-6, x=X)
    got = hardware(tmp_path, only_last_output(model), x=X)
    assert np.array_equal(got.outputs["y"], wanted)


@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("narrow", [0, 1])
def test_version_2_clips_to_its_own_range(tmp_path, signed, narrow):
    """Only version 2 has signed and narrow."""
    x = grid(4, 3, SIZE, SIZE, step=0.25, bits=12, seed=3)
    node = trunc(
        "x", "y", "s", "z", "in", "coarse", "b", signed=signed, narrow=narrow, rounding_mode="FLOOR"
    )
    constants = parameters(scale=0.25) | {"in": np.float32(12), "coarse": np.float32(1.0)}
    model = network([node], constants, ONE_PIXEL)
    expected = trunc_v2(x, 0.25, 0, 1.0, 8, signed=signed, narrow=narrow)
    assert expected.max() == (127 if signed else 255 - narrow)
    assert_computes(tmp_path, model, expected, x=x)


def test_version_1_clips_nothing(tmp_path):
    """Rounding the largest 10-bit integer up needs a ninth bit: 511/4 becomes 128."""
    x = np.float32([[511 * 0.25, -512 * 0.25]])
    node = trunc("x", "y", "s", "z", "in", "b", rounding_mode="ROUND")
    constants = parameters(scale=0.25) | {"in": np.float32(10)}
    model = network([node], constants, {"x": [1, 2]}, domains=[("onnx.brevitas", 1)])
    assert_computes(tmp_path, model, np.float32([[32.0, -32.0]]), x=x)
