import numpy as np
import pytest
from harness import Net, context, node_of, ops, run_pass

from dlaconv.ir import dialect
from dlaconv.ir.passes.integer_weights import integer_weights
from dlaconv.ir.rounding import Rounding

RNG = np.random.default_rng(1)
WEIGHTS = RNG.normal(size=(4, 3, 3, 3))
PER_CHANNEL = np.array([0.01, 0.02, 0.03, 0.04]).reshape(4, 1, 1, 1)


def conv(quantise, *, out="y"):
    net = Net(x=[1, 3, 8, 8])
    net.op("Conv", "x", quantise(net), out=out)
    return net.model(out)


def integers_of(model):
    holder = node_of(model, "Dequantize")
    return dialect.array_of(holder.inputs[0]), dialect.step_of(holder)


@pytest.mark.parametrize("step", [0.02, np.array([0.02]), np.full((1, 1, 1, 1), 0.02), PER_CHANNEL])
@pytest.mark.parametrize("rounding", [Rounding.HALF_EVEN, Rounding.FLOOR])
def test_weights_become_integers_under_the_same_name(step, rounding):
    model = conv(lambda net: net.quantize(net.const(WEIGHTS), step, out="w", rounding=rounding))
    after = run_pass(integer_weights, model)
    integers, steps = integers_of(after)
    assert ops(after) == ["Dequantize", "Conv"]
    assert integers.dtype == np.int8
    assert steps.shape == (() if np.size(step) == 1 else (4, 1, 1, 1))
    assert node_of(after, "Dequantize").outputs[0].name == "w"
    assert "c0" not in after.graph.initializers  # the floats are gone


@pytest.mark.parametrize(
    ("bits", "dtype"), [(4, np.int8), (8, np.int8), (12, np.int16), (20, np.int32)]
)
def test_the_smallest_integer_type_is_taken(bits, dtype):
    wide = np.full_like(WEIGHTS, 1e9)
    after = run_pass(integer_weights, conv(lambda net: net.quantize(net.const(wide), 1.0, bits)))
    assert integers_of(after)[0].dtype == dtype


def test_zero_points_are_taken_off_the_integers():
    model = conv(
        lambda net: net.quantize(net.const(WEIGHTS), 0.02, signed=False, zero_point=128.0, out="w")
    )
    integers, _ = integers_of(run_pass(integer_weights, model))
    assert integers.min() < 0 < integers.max()


def test_unsigned_integers_above_127_need_int16():
    after = run_pass(
        integer_weights, conv(lambda net: net.quantize(net.const(abs(WEIGHTS)), 0.01, signed=False))
    )
    assert integers_of(after)[0].dtype == np.int16


def test_bipolar_weights_become_plus_and_minus_one():
    after = run_pass(integer_weights, conv(lambda net: net.bipolar(net.const(WEIGHTS), 0.5)))
    assert set(np.unique(integers_of(after)[0])) == {-1, 1}


def test_a_quantised_bias_becomes_the_floats_it_stands_for():
    net = Net(x=[1, 3, 8, 8])
    bias = net.quantize(net.const(RNG.normal(size=4)), PER_CHANNEL.reshape(-1) / 1000, 32)
    net.op("Conv", "x", WEIGHTS, bias, out="y")
    after = run_pass(integer_weights, net.model("y"))
    assert ops(after) == ["Conv"]
    assert dialect.array_of(node_of(after, "Conv").inputs[2]).dtype == np.float32


def test_a_constant_that_is_weight_and_operand_serves_both():
    net = Net(x=[1, 3, 8, 8], z=[4, 3, 3, 3])
    weights = net.quantize(net.const(WEIGHTS), PER_CHANNEL)
    net.op("Conv", "x", weights, out="y")
    net.op("Add", "z", weights, out="sum")
    assert ops(run_pass(integer_weights, net.model("y", "sum"))) == ["Dequantize", "Conv", "Add"]


def test_shared_floats_are_not_changed_in_place():
    net = Net(x=[1, 3, 8, 8])
    shared = net.const(WEIGHTS)
    net.op("Conv", "x", net.quantize(shared, 0.02), out="a")
    net.op("Conv", "x", net.quantize(shared, 0.05, 4), out="b")
    net.op("Conv", "x", shared, out="c")
    after = run_pass(integer_weights, net.model("a", "b", "c"))
    assert ops(after).count("Dequantize") == 2
    assert np.array_equal(
        dialect.array_of(after.graph.initializers[shared]), WEIGHTS.astype(np.float32)
    )


def test_a_quantised_constant_as_graph_output_keeps_its_name():
    net = Net(x=[1, 3, 8, 8])
    weights = net.quantize(net.const(WEIGHTS), 0.02, out="w")
    net.op("Conv", "x", weights, out="y")
    after = run_pass(integer_weights, net.model("y", "w"))
    assert ops(after) == ["Dequantize", "Conv"]


@pytest.mark.parametrize(
    ("op_type", "shape", "step_shape"),
    [
        ("Gemm", (5, 4), (1, 4)),
        ("MatMul", (5, 4), (4,)),
        ("ConvTranspose", (3, 4, 2, 2), (1, 4, 1, 1)),
    ],
)
def test_output_channels_lie_where_the_operator_has_them(op_type, shape, step_shape):
    net = Net(x=[1, 3, 8, 8] if len(shape) == 4 else [1, 5])
    steps = np.array([0.01, 0.02, 0.03, 0.04]).reshape(step_shape)
    net.op(op_type, "x", net.quantize(net.const(RNG.normal(size=shape)), steps, out="w"), out="y")
    assert ops(run_pass(integer_weights, net.model("y"))) == ["Dequantize", op_type]


def test_steps_per_input_channel_are_reported_and_give_floats():
    model = conv(lambda net: net.quantize(net.const(WEIGHTS), [[[[0.1]], [[0.2]], [[0.3]]]]))
    found = context()
    after = run_pass(integer_weights, model, found)
    assert ops(after) == ["Conv"]
    assert [rewrite.exact for rewrite in found.rewrites] == [False]


def test_quantised_feature_maps_are_left_alone():
    net = Net(x=[1, 3, 8, 8])
    net.op("Conv", net.quantize("x"), WEIGHTS, out="y")
    assert ops(run_pass(integer_weights, net.model("y"))) == ["QuantizeHalfEven", "Conv"]


def test_a_chain_of_quantisers_on_a_constant_is_done_in_turn():
    model = conv(lambda net: net.quantize(net.quantize(net.const(WEIGHTS), 0.25), 0.5, out="w"))
    assert ops(run_pass(integer_weights, model)) == ["Dequantize", "Conv"]


def test_weights_that_are_quantised_cut_out_and_quantised_again_become_integers():
    def quantise(net):
        coarse = net.quantize(net.const(RNG.normal(size=(4, 3, 5, 5))), 0.1)
        ends = [net.const(np.array(x), dtype=np.int64) for x in ([1, 1], [4, 4], [2, 3])]
        return net.quantize(net.op("Slice", coarse, *ends), 0.02)

    assert ops(run_pass(integer_weights, conv(quantise))) == ["Dequantize", "Conv"]


STORED = RNG.integers(-128, 128, size=(4, 3, 3, 3)).astype(np.int8)


def test_integers_that_a_source_stores_stay_as_they_are():
    model = conv(lambda net: net.dequantize(net.const(STORED, dtype=np.int8), PER_CHANNEL, out="w"))
    after = run_pass(integer_weights, model)
    assert ops(after) == ["Dequantize", "Conv"]
    assert np.array_equal(integers_of(after)[0], STORED)


def test_other_readers_of_stored_integers_get_their_values():
    net = Net(x=[1, 3, 8, 8], z=[4, 3, 3, 3])
    weights = net.dequantize(net.const(STORED, dtype=np.int8), PER_CHANNEL, out="w")
    net.op("Conv", "x", weights, out="y")
    net.op("Add", "z", weights, out="v")
    after = run_pass(integer_weights, net.model("y", "v"))
    assert dialect.is_dequantize(node_of(after, "Conv").inputs[1].producer())
    assert node_of(after, "Add").inputs[1].const_value is not None


def test_stored_integers_that_are_no_weights_become_values():
    net = Net(x=[1, 3, 8, 8])
    bias = net.dequantize(net.const(np.array([[[1]], [[-2]], [[3]]]), dtype=np.int32), 0.5, out="b")
    net.op("Add", "x", bias, out="y")
    assert ops(run_pass(integer_weights, net.model("y"))) == ["Add"]


def test_stored_integers_with_a_step_along_the_inputs_become_float_weights():
    steps = np.array([0.01, 0.02, 0.03]).reshape(1, 3, 1, 1)
    model = conv(lambda net: net.dequantize(net.const(STORED, dtype=np.int8), steps, out="w"))
    known = context()
    integer_weights(model, known)
    assert ops(model) == ["Conv"]
    (rewrite,) = known.rewrites
    assert not rewrite.exact
    assert "'w'" in rewrite.detail
