"""Reading the layers of a SCALED model, and refusing what is none."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import onnx_ir as ir
import pytest

from dlaconv.ir import dialect
from dlaconv.ir.graph import register_constants
from dlaconv.ir.layers import network_of, signed_sums
from dlaconv.ir.quantisation import Quantisation


class Chain:
    """A model grown one node at a time; ``last`` is the value to go on from."""

    def __init__(self, shape=(1, 2, 4, 4), exponent=-3, **quantisation):
        self.x = self.last = ir.val("x", dtype=ir.DataType.FLOAT, shape=shape)
        self.nodes = []
        self.quantize(exponent, **quantisation)

    def add(self, node):
        node.name = node.name or f"n{len(self.nodes)}"
        node.outputs[0].name = node.outputs[0].name or f"v{len(self.nodes)}"
        node.outputs[0].shape = node.outputs[0].shape or self.last.shape
        self.nodes.append(node)
        self.last = node.outputs[0]
        return self.last

    def op(self, op_type, *more, shape=None, **attributes):
        node = ir.node(op_type, [self.last, *more], attributes)
        if shape is not None:
            node.outputs[0].shape = ir.Shape(shape)
        return self.add(node)

    def quantize(self, exponent, step=None, **quantisation):
        q = Quantisation.of(2.0**exponent if step is None else step, **quantisation)
        return self.add(dialect.quantize(self.last, q, name=f"q{len(self.nodes)}"))

    def integers(self, array, step, name):
        node = dialect.dequantize(
            dialect.constant(name, array), step, name=f"d{name}", output=f"r{name}"
        )
        self.nodes.append(node)
        return node.outputs[0]

    def conv(self, step=0.25, bias_step=None, channels=3):
        w = self.integers(
            np.ones((channels, 2, 1, 1), np.int8), np.full((channels, 1, 1, 1), step), "w"
        )
        unit = step * 2.0**-3 if bias_step is None else bias_step
        b = self.integers(np.arange(channels, dtype=np.int32), np.full(channels, unit), "b")
        return self.op("Conv", w, b, shape=(1, channels, 4, 4), pads=[0] * 4)

    def network(self, *outputs):
        outputs = outputs or (self.last,)
        graph = ir.Graph(
            [self.x], list(outputs), nodes=self.nodes, opset_imports={"": 18}, name="g"
        )
        register_constants(graph, self.nodes)
        return network_of(ir.Model(graph, ir_version=10))


def test_a_layer_is_operator_activation_and_quantiser():
    chain = Chain()
    chain.conv(step=1 / 3)
    chain.op("Relu")
    chain.quantize(-2, signed=False)
    (layer,) = (network := chain.network()).layers
    assert (layer.op, layer.activation.op_type) == ("Conv", "Relu")
    assert [source.name for source in layer.inputs] == ["x"]
    assert (layer.output.exponent, layer.output.qmin, layer.output.qmax) == (-2, 0, 255)
    assert layer.output.shape == (1, 3, 4, 4)
    assert layer.weights.steps == (Fraction(1, 3),) * 3
    assert layer.weights.bias.tolist() == [0, 1, 2]
    assert layer.multipliers == (Fraction(1, 3) * Fraction(1, 8) / Fraction(1, 4),) * 3
    assert network.outputs == ((layer.output.name, layer.output),)


def test_maps_have_the_name_of_the_graph_input_or_of_the_stored_value():
    chain = Chain()
    chain.op("MaxPool", kernel_shape=[1, 1], pads=[0] * 4)
    network = chain.network()
    assert set(network.maps) == {"x", chain.last.name}
    assert network.maps["x"].step == Fraction(1, 8)


@pytest.mark.parametrize("op_type", ["MaxPool", "Relu", "LeakyRelu", "Flatten", "Transpose"])
def test_operators_that_keep_the_scale_need_no_quantiser(op_type):
    chain = Chain(exponent=-3, bits=7)
    chain.op(op_type)
    (layer,) = chain.network().layers
    assert (layer.output.exponent, layer.output.qmin, layer.output.qmax) == (-3, -64, 63)
    assert layer.activation is None


def test_a_quantiser_behind_such_an_operator_belongs_to_it():
    chain = Chain(exponent=-3)
    chain.op("Relu")
    chain.quantize(-3, signed=False, bits=7)
    (layer,) = chain.network().layers
    assert (layer.op, layer.output.qmin, layer.output.qmax) == ("Relu", 0, 127)


def test_slopes_are_exact():
    chain = Chain()
    chain.op("LeakyRelu", alpha=0.1)
    (layer,) = chain.network().layers
    assert Fraction(float(layer.slopes)) == Fraction(float(np.float32(0.1)))
    chain = Chain()
    chain.conv()
    slope = dialect.constant("slope", np.array([0.5, 0.25, 2], np.float32).reshape(3, 1, 1))
    chain.op("PRelu", slope)
    chain.quantize(0)
    (layer,) = chain.network().layers
    assert layer.slopes.ravel().tolist() == [0.5, 0.25, 2]
    chain = Chain()
    chain.op("PRelu", chain.integers(np.array([[[13]], [[26]]], np.int8), 2.0**-8, "s"))
    (layer,) = chain.network().layers
    assert layer.slopes.ravel().tolist() == [13 / 256, 26 / 256]
    chain = Chain()
    chain.op("Relu")
    assert chain.network().layers[0].slopes is None


def test_steps_of_two_operands_meet_in_the_multiplier():
    for op_type, expected in (
        ("Add", Fraction(1, 8)), ("MatMul", Fraction(1, 64)), ("Div", Fraction(1))
    ):  # fmt: skip
        chain = Chain(exponent=-3)
        chain.op(op_type, chain.last)
        chain.quantize(0)
        (layer,) = chain.network().layers
        assert layer.multipliers == (expected,)
        assert len(layer.inputs) == 2


@pytest.mark.parametrize(("dtype", "limit"), [(np.int8, 128), (np.int32, 1 << 20)])
def test_positive_and_negative_integers_are_summed_apart(dtype, limit):
    integers = np.random.default_rng(0).integers(-limit, limit, (70, 40, 5, 5)).astype(dtype)
    axes, wide = (1, 2, 3), integers.astype(np.int64)
    positive, negative = signed_sums(integers)
    assert np.array_equal(positive, np.maximum(wide, 0).sum(axis=axes))
    assert np.array_equal(negative, np.maximum(-wide, 0).sum(axis=axes))


def unknown_operator(chain):
    chain.op("Softmax")


def step_no_power_of_two(chain):
    chain.quantize(0, step=0.3)


def zero_point(chain):
    chain.conv()
    chain.quantize(0, zero_point=1.0)


def step_per_channel(chain):
    chain.conv()
    chain.quantize(0, step=np.ones((1, 3, 1, 1)))


def quantiser_behind_nothing(chain):
    chain.quantize(-3)


def output_not_quantised(chain):
    chain.conv()


def changed_step(chain):
    chain.op("MaxPool", kernel_shape=[1, 1], pads=[0] * 4)
    chain.quantize(5)


def float_weights(chain):
    w = dialect.constant("w", np.ones((3, 2, 1, 1), np.float32))
    chain.op("Conv", w, shape=(1, 3, 4, 4), pads=[0] * 4)
    chain.quantize(0)


def bias_of_another_step(chain):
    chain.conv(bias_step=0.5)
    chain.quantize(0)


def constant_operand(chain):
    chain.op("Add", dialect.constant("c", np.float32(1)))
    chain.quantize(0)


def leaky_table(chain):
    chain.op("Tanh")
    chain.op("LeakyRelu")
    chain.quantize(0)


def endless_slope(chain):
    chain.op("LeakyRelu", alpha=math.inf)


@pytest.mark.parametrize(
    ("build", "complaint"),
    [
        (unknown_operator, "hardware has no Softmax"),
        (step_no_power_of_two, "is no power of two"),
        (zero_point, "one step and no zero point"),
        (step_per_channel, "one step and no zero point"),
        (quantiser_behind_nothing, "quantises the result of no hardware operator"),
        (output_not_quantised, "is no quantised map"),
        (changed_step, "MaxPool cannot change the step"),
        (float_weights, "the weights are no integers"),
        (bias_of_another_step, "bias step is not weight step times input step"),
        (constant_operand, "reads something that is no stored map"),
        (leaky_table, "cannot follow Tanh"),
        (endless_slope, "a slope is not finite"),
    ],
)
def test_what_is_not_scaled_is_refused_by_name(build, complaint):
    chain = Chain()
    build(chain)
    with pytest.raises(ValueError, match=complaint):
        chain.network()


def test_one_input_has_one_quantisation():
    chain = Chain()
    first = chain.last
    chain.last = chain.x
    second = chain.quantize(-2)
    with pytest.raises(ValueError, match="'x' is quantised in two ways"):
        chain.network(first, second)


def test_concat_operands_share_one_step():
    chain = Chain()
    first = chain.last
    chain.conv(channels=2)
    second = chain.quantize(-1)
    chain.last = first
    chain.op("Concat", second, shape=(1, 4, 4, 4), axis=1)
    with pytest.raises(ValueError, match="Concat cannot change the step"):
        chain.network()


def test_unknown_shapes_are_refused():
    chain = Chain()
    chain.op("Reshape", dialect.constant("s", np.array([1, -1])), shape=(1, None))
    with pytest.raises(ValueError, match="is not static"):
        chain.network()
