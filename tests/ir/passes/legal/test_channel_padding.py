"""Channels padded to what the hardware stores, through everything that reads them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlaconv.ir import dialect
from dlaconv.ir.channel_layout import ChannelLayout
from dlaconv.ir.execution import run
from dlaconv.ir.graph import attribute
from tests.ir.passes.harness import Net, context, node_of, ops, random_feeds, run_pass
from tests.ir.passes.legal.channel_nets import PASS, Random, unaligned


@pytest.mark.parametrize("channels", [1, 15, 16, 17, 32])
def test_maps_are_padded_to_the_next_multiple(channels):
    net = Random()
    model = net.model(net.conv(net.conv(net.entry, channels), 4))
    noted = context()
    after = run_pass(PASS, model, noted)
    inner = next(iter(after.graph)).outputs[0]
    assert inner.shape[1] == -(-channels // 16) * 16
    aligned = channels % 16 == 0
    assert (inner.name in noted.layouts) == (not aligned)
    assert len(noted.rewrites) == (0 if aligned else 2)


def test_the_report_counts_the_multiplications_by_zero():
    net = Random(size=6)
    x = net.conv(net.conv(net.entry, 5), 4, kernel=1)
    model = net.model(net.fully(x, 2))
    noted = context()
    run_pass(PASS, model, noted)
    first, second, last = noted.rewrites
    assert first.macs == 36 * 9 * 3 * 11
    assert second.macs == 36 * (16 * 16 - 5 * 4)
    assert last.macs == 36 * 12 * 2
    assert first.exact
    assert "5 channels become 16" in first.detail
    assert "it reads 144 of 576" in last.detail


def test_new_weights_are_zeros_with_a_finite_step():
    net = Random(quantised=True)
    model = net.model(net.conv(net.conv(net.entry, 5), 4))
    after = run_pass(PASS, model, tolerance=0)
    holder = next(node for node in after.graph if dialect.is_dequantize(node))
    integers, steps = dialect.array_of(holder.inputs[0]), dialect.step_of(holder)
    assert integers.shape == (16, 3, 3, 3)
    assert not integers[5:].any()
    assert np.isfinite(steps).all()
    assert (steps > 0).all()
    assert np.array_equal(steps[5:], np.repeat(steps[4:5], 11, 0))


def test_steps_per_channel_and_slopes_get_values_for_the_new_channels():
    net = Random(quantised=True)
    y = net.op("Conv", net.entry, net.weights((3, 3, 1, 1)), kernel_shape=[1, 1], strides=[1, 1],
               pads=[0] * 4, dilations=[1, 1])  # fmt: skip
    steps = np.array([0.25, 0.5, 0.125], np.float32).reshape(1, 3, 1, 1)
    y = net.quantize(y, steps)
    net.shapes[y] = (3, 6)
    after = run_pass(PASS, net.model(net.conv(y, 4)), tolerance=0)
    found = [dialect.quantisation_of(node) for node in after.graph if dialect.is_quantize(node)]
    assert found[1].step.shape == (1, 16, 1, 1)
    assert np.isfinite(found[1].step).all()
    assert found[1].step.min() == 0.125


def test_an_output_that_is_read_inside_gets_a_layer_that_selects_its_channels():
    net = Random(quantised=True)
    inner = net.conv(net.entry, 5)
    noted = context()
    after = run_pass(PASS, net.model(net.conv(inner, 4), inner), noted, tolerance=0)
    assert [tuple(value.shape) for value in after.graph.outputs] == [(1, 4, 6, 6), (1, 5, 6, 6)]
    assert noted.originals == {f"{inner}/padded": inner}
    assert noted.layouts == {
        f"{inner}/padded": ChannelLayout.behind(5, 16), **{
            name: ChannelLayout.behind(5, 16) for name in noted.layouts if name != f"{inner}/padded"
        }
    }  # fmt: skip
    assert unaligned(after) == []


@pytest.mark.parametrize("quantised", [False, True])
def test_what_only_becomes_an_output_keeps_its_channels(quantised):
    net = Random(quantised=quantised)
    model = net.model(net.leaky(net.conv(net.entry, 5)))
    after = run_pass(PASS, model, noted := context(), tolerance=0)
    assert noted.rewrites == []
    assert ops(after) == ops(model)


def test_outputs_are_padded_when_asked_for():
    net = Random(quantised=True)
    model = net.model(net.conv(net.entry, 5), net.fully(net.entry, 3))
    noted = context(pad_outputs=True)
    after = model.clone()
    PASS(after, noted)
    dialect.install(after)
    image, vector = after.graph.outputs
    assert (tuple(image.shape), tuple(vector.shape)) == ((1, 16, 6, 6), (1, 3))
    feeds = random_feeds(model)
    expected, got = (run(m, feeds, [image.name])[image.name] for m in (model, after))
    assert np.array_equal(noted.layouts[image.name].select(got), expected)
    assert not got[:, 5:].any()


def test_a_depthwise_layer_on_the_input_becomes_dense():
    net = Random(quantised=True)
    after = run_pass(PASS, net.model(net.conv(net.depthwise(net.entry), 4)), tolerance=0)
    first = next(node for node in after.graph if node.op_type == "Conv")
    assert attribute(first, "group", 1) == 1
    assert first.outputs[0].shape[1] == 16


def test_a_pool_on_the_input_reads_a_padded_copy():
    net = Random(quantised=True)
    after = run_pass(PASS, net.model(net.conv(net.pool(net.entry), 4)), tolerance=0)
    kinds = [op for op in ops(after) if op != "Dequantize"]
    assert kinds == [
        "QuantizeHalfEven", "Conv", "QuantizeHalfEven", "MaxPool", "Conv", "QuantizeHalfEven",
    ]  # fmt: skip


def test_a_sum_of_concatenated_and_other_channels_needs_no_layer_between():
    net = Random(quantised=True)
    parts = net.concat(net.conv(net.entry, 5), net.conv(net.entry, 7))
    model = net.model(net.conv(net.add(net.conv(parts, 12), parts), 3))
    after = run_pass(PASS, model, noted := context(), tolerance=0)
    assert ops(after).count("Conv") == ops(model).count("Conv")
    assert ChannelLayout(32, ((0, 5), (16, 7))) in noted.layouts.values()


def test_sums_of_two_concatenations_with_other_gaps_get_a_layer_between():
    net = Random(quantised=True)
    a, b, c, d = (net.conv(net.entry, n) for n in (5, 7, 4, 8))
    total = net.add(net.concat(a, b), net.concat(c, d))
    model = net.model(net.conv(total, 3))
    after = run_pass(PASS, model, tolerance=0)
    assert ops(after).count("Conv") == ops(model).count("Conv") + 1
    assert unaligned(after) == []


@pytest.mark.parametrize("quantised", [False, True])
def test_channels_whose_activation_is_not_zero_are_not_read(quantised):
    net = Random(quantised=quantised)
    inner = net.sigmoid(net.conv(net.entry, 5))
    model = net.model(net.fully(net.add(inner, net.conv(inner, 5)), 3))
    after = run_pass(PASS, model, tolerance=0 if quantised else None)
    assert unaligned(after) == []


def test_fully_connected_results_make_room_for_the_map_that_they_become():
    net = Random(quantised=True, size=2)
    weights = net.weights((5 * 4, 12))
    flat = net.op("Reshape", net.entry, net.ints([1, 12]))
    image = net.op("Reshape", net.stored(net.op("Gemm", flat, weights, transB=1)),
                   net.ints([1, 5, 2, 2]))  # fmt: skip
    net.shapes[image] = (5, 2)
    after = run_pass(PASS, net.model(net.conv(image, 3)), tolerance=0)
    assert unaligned(after) == []
    assert node_of(after, "Gemm").outputs[0].shape[1] == 64


def test_sums_over_rows_and_columns_keep_the_gaps():
    net = Random(quantised=True)
    inner = net.concat(net.conv(net.entry, 5), net.conv(net.entry, 4))
    total = net.stored(net.op("ReduceSum", inner, net.ints([2, 3]), keepdims=0))
    model = net.model(net.op("Gemm", total, net.weights((2, 9)), transB=1))
    after = run_pass(PASS, model, tolerance=0)
    assert node_of(after, "ReduceSum").outputs[0].shape[1] == 32
    assert unaligned(after) == []


def mixing(net, kind, x):
    channels, size = net.shapes[x]
    if kind == "Div":
        return net.keep(net.stored(net.op("Div", x, net.conv(net.entry, channels))), channels, size)
    if kind == "Transpose":
        return net.keep(net.op("Transpose", x, perm=[0, 2, 1, 3]), size, channels)
    if kind == "Reshape":
        shape = [1, size, channels, size]
        return net.keep(net.op("Reshape", x, net.ints(shape)), size, channels)
    return net.keep(net.stored(net.op("ReduceSum", x, net.ints([1]), keepdims=1)), 1, size)


@pytest.mark.parametrize("kind", ["Div", "Transpose", "Reshape", "ReduceSum"])
def test_maps_whose_channels_are_mixed_stay_and_say_why(kind):
    net = Random(seed=3, quantised=True, size=7)
    inner = net.conv(net.entry, 5)
    mixed = mixing(net, kind, inner)
    net.shapes[mixed] = (net.shapes[mixed][0], 7)
    noted = context()
    model = net.model(net.op("MaxPool", mixed, kernel_shape=[1, 1], strides=[1, 1], pads=[0] * 4))
    after = run_pass(PASS, model, noted, feeds={"x": np.full((1, 3, 7, 7), 0.5, np.float32)})
    assert after.graph.outputs[0].shape == model.graph.outputs[0].shape
    reasons = " ".join(reason for listed in noted.blocked.values() for reason in listed)
    assert f"{kind} mixes its channels" in reasons
    assert inner in unaligned(after)


def test_channels_that_fit_are_put_together_again_where_they_are_mixed():
    net = Random(quantised=True)
    both = net.concat(net.conv(net.entry, 8), net.conv(net.entry, 8))
    mixed = net.op("Transpose", both, perm=[0, 2, 1, 3])
    after = run_pass(PASS, net.model(mixed), noted := context(), tolerance=0)
    assert noted.blocked == {}
    assert unaligned(after) == []
    assert node_of(after, "Transpose").inputs[0].shape[1] == 16


def test_an_output_in_another_layout_is_no_obstacle():
    net = Random(quantised=True)
    total = net.add(net.conv(net.entry, 5), net.conv(net.entry, 5))
    last = net.op("Transpose", total, perm=[0, 2, 3, 1])
    after = run_pass(PASS, net.model(last), noted := context(), tolerance=0)
    assert noted.blocked == {}
    assert [node.inputs[0].shape[1] for node in after.graph if node.op_type == "Add"] == [16]
    assert after.graph.outputs[0].shape[3] == 5


def test_maps_with_more_channels_than_the_hardware_stores_stay():
    net = Random(size=1)
    inner = net.conv(net.entry, 2050, kernel=1)
    noted = context()
    after = run_pass(PASS, net.model(net.conv(inner, 3, kernel=1)), noted)
    assert ops(after) == ["Conv", "Conv"]
    assert "2050 are more than 2048" in noted.blocked[inner][0]


@pytest.mark.parametrize("mode", ["off", "exact", "all"])
def test_nothing_is_padded_without_legalisation(mode):
    net = Random()
    model = net.model(net.conv(net.conv(net.entry, 5), 4))
    after = run_pass(PASS, model, context(legalise=mode))
    assert (unaligned(after) == []) == (mode != "off")


@given(
    outputs=st.integers(1, 20),
    factors=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    quantised=st.booleans(),
    seed=st.integers(0, 5),
)
def test_channels_make_room_for_those_that_a_reshape_makes_of_them(
    outputs, factors, quantised, seed
):
    """Blocks of channels become rows and columns: what is behind them must fill whole groups."""
    net = Random(seed, quantised)
    rows, columns = factors
    y = net.conv(net.entry, outputs * rows * columns)
    y = net.op("Reshape", y, np.array([1, outputs, rows, columns, 6, 6]))
    y = net.op("Transpose", y, perm=[0, 1, 4, 2, 5, 3])
    y = net.op("Reshape", y, np.array([1, outputs, 6 * rows, 6 * columns]))
    net.op(
        "Conv", y, net.weights((16, outputs, 1, 1)), kernel_shape=[1, 1], strides=[1, 1],
        pads=[0] * 4, dilations=[1, 1], group=1, out="y",
    )  # fmt: skip
    noted = context()
    after = run_pass(PASS, net.model("y"), noted, tolerance=0 if quantised else 1e-5)
    assert not noted.blocked
    for node in after.graph:
        if node.op_type in {"Conv", "Reshape"} and len(node.outputs[0].shape) == 4:
            assert node.outputs[0].shape[1] % 16 == 0


@pytest.mark.parametrize("shape", [[1, 6, 8], [1, 6, 2, 4, 1]])
def test_no_layer_moves_the_channels_of_lines_and_volumes(shape):
    net = Net(x=shape)
    slopes = np.full((6, *[1] * (len(shape) - 2)), 0.5, np.float32)
    line = net.op("PRelu", "x", slopes)
    image = net.op("Reshape", line, net.const(np.array([1, 6, 8, 1]), dtype=np.int64))
    weights = np.ones((3, 6, 1, 1), np.float32)
    net.op(
        "Conv", image, weights, kernel_shape=[1, 1], strides=[1, 1], pads=[0] * 4,
        dilations=[1, 1], group=1, out="y",
    )  # fmt: skip
    after = run_pass(PASS, net.model("y"))
    assert [tuple(node.outputs[0].shape) for node in after.graph if node.op_type == "Conv"] == [
        (1, 3, 8, 1)
    ]


@pytest.mark.parametrize("quantised", [True, False])
def test_columns_that_become_whole_groups_of_channels_are_put_together_again(quantised):
    net = Random(quantised=quantised, size=2)
    flat = net.op("Reshape", net.conv(net.entry, 2), net.ints([1, 8]))
    fed = net.op("Reshape", net.entry, net.ints([1, 12]))
    both = net.op("Concat", flat, *[fed] * 10, axis=1)
    image = net.op("Reshape", both, net.ints([1, 32, 2, 2]))
    net.shapes[image] = (32, 2)
    noted = context()
    after = run_pass(PASS, net.model(net.conv(image, 16)), noted, tolerance=0)
    assert noted.blocked == {}
    assert unaligned(after) == []
    assert node_of(after, "Gemm").outputs[0].shape[1] == 128
