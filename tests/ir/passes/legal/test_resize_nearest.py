"""Nearest-neighbour enlargement as a convolution that copies and a move."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlaconv.ir import dialect
from dlaconv.ir.passes.hoist_quantise import hoist_quantise
from dlaconv.ir.passes.legal.resize_nearest import resize_nearest
from tests.ir.passes.harness import Net, context, node_of, ops, run_pass

MOVE = ["Reshape", "Transpose", "Reshape"]


def scales(*factors):
    return np.array(factors, np.float32)


def resize(net, x, factors, *, sizes=None, **attributes):
    given = [None, scales(1, 1, *factors)]
    if sizes is not None:
        given = [None, None, np.array(sizes, np.int64)]
    return net.op("Resize", x, *given, **attributes)


@given(
    channels=st.integers(1, 3),
    size=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    factors=st.tuples(st.integers(1, 4), st.integers(1, 3)),
    coordinates=st.sampled_from(
        ["half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners", "half_pixel_symmetric"]
    ),
    nearest=st.sampled_from(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]),
    by_size=st.booleans(),
    quantised=st.booleans(),
)
def test_values_are_where_they_were(
    channels, size, factors, coordinates, nearest, by_size, quantised
):
    net = Net(x=[1, channels, *size])
    x = net.quantize("x") if quantised else "x"
    sizes = [1, channels, size[0] * factors[0], size[1] * factors[1]] if by_size else None
    y = resize(
        net, x, factors, sizes=sizes, coordinate_transformation_mode=coordinates,
        nearest_mode=nearest,
    )  # fmt: skip
    noted = context()
    after = run_pass(resize_nearest.as_pass(), net.model(y), noted, tolerance=0)
    usual = (coordinates, nearest) in {
        ("asymmetric", "floor"), ("half_pixel", "round_prefer_floor"),
        ("half_pixel", "round_prefer_ceil"),
    }  # fmt: skip
    assert not (usual and noted.blocked)
    if not noted.blocked:
        assert ops(after)[-3:] == MOVE
        copies = factors[0] * factors[1]
        assert noted.rewrites[0].macs == channels**2 * copies * size[0] * size[1]


def test_the_copies_have_the_grid_of_the_source():
    net = Net(x=[1, 2, 3, 3])
    y = resize(
        net,
        net.quantize("x"),
        (2, 2),
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    noted = context()
    after = run_pass(resize_nearest.as_pass(), net.model(y), noted, tolerance=0)
    grids = [dialect.quantisation_of(n) for n in after.graph if dialect.is_quantize(n)]
    assert grids[0].same_grid(grids[1])
    assert node_of(after, "Conv").name in noted.gains


def test_another_rounding_behind_it_is_the_only_one():
    net = Net(x=[1, 2, 3, 3])
    y = net.quantize(resize(net, net.quantize("x", 0.25), (2, 2)), 0.5)
    passes = [resize_nearest.as_pass(), hoist_quantise]
    after = run_pass(passes, net.model(y), tolerance=0)
    rounding = "QuantizeHalfEven"
    assert [op for op in ops(after) if op != "Dequantize"] == [rounding, "Conv", rounding, *MOVE]


def with_axes(net):
    sizes = np.array([6, 9], np.int64)
    return net.op("Resize", "x", None, None, sizes, axes=[2, 3], mode="nearest")


def test_sizes_of_some_axes():
    net = Net(x=[1, 2, 3, 3])
    assert (
        ops(run_pass(resize_nearest.as_pass(), net.model(with_axes(net)), tolerance=0))[-3:] == MOVE
    )


def rounded_twice(net, y):
    return [net.quantize(y, step) for step in (0.5, 1.0)]


BLOCKED = {
    "mode linear": lambda net: resize(net, "x", (2, 2), mode="linear"),
    "factor of 1.5": lambda net: resize(net, "x", (1.5, 2)),
    "factor of 0.5": lambda net: resize(net, "x", (0.5, 2)),
    "evenly": lambda net: resize(net, "x", (3, 3), coordinate_transformation_mode="align_corners"),
    "channels": lambda net: net.op("Resize", "x", None, scales(1, 2, 1, 1)),
    "rows and columns": lambda net: net.op(
        "Resize", net.op("Reshape", "x", np.array([1, 2, 16])), None, scales(1, 1, 2)
    ),
    "one step per channel": lambda net: resize(
        net, net.quantize("x", np.full((1, 2, 1, 1), 0.5)), (2, 2)
    ),
    "takes 2050": lambda net: resize(net, "x", (25, 41)),
    "several ways": lambda net: rounded_twice(net, resize(net, "x", (2, 2))),
}


@pytest.mark.parametrize("reason", BLOCKED)
def test_what_no_convolution_can_do_is_told_and_stays(reason):
    net, noted = Net(x=[1, 2, 4, 4]), context()
    BLOCKED[reason](net)
    finals = [v.outputs[0].name for v in net.nodes if not v.outputs[0].uses()]
    model = net.model(*finals)
    after = run_pass(resize_nearest.as_pass(), model, noted)
    assert ops(after) == ops(model)
    [[told]] = noted.blocked.values()
    assert reason in told
