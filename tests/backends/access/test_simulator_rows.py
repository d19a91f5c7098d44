"""Every row of the semantics table in docs/simulator.md, with integers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scaled_net import INT8, UINT8, Net

from dlaconv.backends.access.reference import run_reference
from dlaconv.backends.access.simulator import Simulator
from dlaconv.ir.layers import network_of
from dlaconv.ir.rounding import Rounding

HALF_UP, HALF_EVEN, FLOOR = Rounding.HALF_UP, Rounding.HALF_EVEN, Rounding.FLOOR


def stored(net, result, *feeds, rounding=HALF_EVEN, order="mac"):
    """What the last map holds, by simulator and reference, which must agree."""
    model = net.model(result)
    network = network_of(model)
    named = {
        source.name: np.array(feed).reshape(source.shape)
        for source, feed in zip(network.inputs, feeds, strict=True)
    }
    options = {"rounding": rounding, "activation_order": order}
    (got,) = Simulator(model, **options).run(named).values()
    expected = run_reference(network, named, **options)[result.name]
    np.testing.assert_array_equal(got, expected)
    return got.reshape(-1).tolist()


def one_by_one(x_exponent=0, channels=1, *, values=1, limits=INT8):
    net = Net()
    return net, net.input((1, channels, 1, values), x_exponent, limits)


def pointwise(weight, step, out, *, bias=None, values, **more):
    net, x = one_by_one(values=len(values))
    w = np.array(weight).reshape(-1, 1, 1, 1)
    return net, net.conv(x, w, [step] * len(w), out, bias=bias, **more), values


class TestConv:
    def test_one_rounding_of_the_accumulator_with_bias(self):
        # (3 * [5, -5, 1] + 1) / 4 = 4, -3.5, 1
        net, y, x = pointwise([3], 0.25, 0, bias=[1], values=[5, -5, 1])
        assert stored(net, y, x) == [4, -4, 1]
        assert stored(net, y, x, rounding=HALF_UP) == [4, -3, 1]

    def test_divides_by_a_of_a_reciprocal_dyadic_step(self):
        # 1 * [7, 8, -7] * 1/5 = 1.4, 1.6, -1.4
        net, y, x = pointwise([1], 1 / 5, 0, values=[7, 8, -7])
        assert stored(net, y, x) == [1, 2, -1]
        assert stored(net, y, x, rounding=FLOOR) == [1, 1, -2]

    def test_saturates_to_the_range_of_the_map(self):
        net, y, x = pointwise([100], 1, 0, values=[2, -2])
        assert stored(net, y, x) == [127, -128]
        net, y, x = pointwise([100], 1, 0, values=[2, -2], limits=UINT8)
        assert stored(net, y, x) == [200, 0]

    def test_step_of_the_output_divides(self):
        net, y, x = pointwise([1], 1, 2, values=[6, 10, -6])  # 1.5, 2.5, -1.5
        assert stored(net, y, x) == [2, 2, -2]
        assert stored(net, y, x, rounding=Rounding.HALF_AWAY) == [2, 3, -2]

    def test_asymmetric_pads_are_zero(self):
        net, x = one_by_one(values=3)
        y = net.conv(x, np.array([[[[1, 10]]]]), [1], 0, pads=(0, 1, 0, 0))
        assert stored(net, y, [1, 2, 3]) == [10, 21, 32]

    def test_depthwise_keeps_channels_apart(self):
        net, x = one_by_one(channels=2)
        y = net.conv(x, np.array([2, 3]).reshape(2, 1, 1, 1), [1, 0.5], 0, group=2)
        assert stored(net, y, [5, 7]) == [10, 10]  # 21 / 2 = 10.5, to even


class TestActivations:
    def test_relu_acts_before_the_rounding_and_cuts_at_zero(self):
        net, y, x = pointwise([1], 0.25, 0, values=[-9, 9, 2], activation="Relu")
        for order in ("mac", "after-clamp"):
            assert stored(net, y, x, order=order) == [0, 2, 0]

    def test_leaky_relu_on_the_accumulator_rounds_once(self):
        net, y, x = pointwise([1], 0.5, 0, values=[-5, -6, 5], activation=("LeakyRelu", 0.25))
        assert stored(net, y, x) == [-1, -1, 2]  # -5/8, -6/8
        assert stored(net, y, x, order="after-clamp") == [0, -1, 2]  # -2 / 4, -3 / 4

    def test_after_clamp_clamps_before_the_slope(self):
        # acc = -1000: mac -100, after-clamp round(-128 * 0.1) = round(-12.8)
        slope = np.float32(0.1)
        net, y, x = pointwise([-100], 1, 0, values=[10], activation=("LeakyRelu", slope))
        assert stored(net, y, x) == [-100]
        assert stored(net, y, x, order="after-clamp") == [-13]

    def test_prelu_has_a_slope_per_channel(self):
        net, x = one_by_one(values=1)
        slopes = np.array([0.5, 0.25, -1.0]).reshape(3, 1, 1)
        w = np.array([10, 10, 10]).reshape(3, 1, 1, 1)
        y = net.conv(x, w, [1, 1, 1], 0, activation=("PRelu", slopes))
        assert stored(net, y, [-1]) == [-5, -2, 10]  # -5, -2.5, 10

    def test_standing_alone_they_round_once(self):
        for order in ("mac", "after-clamp"):
            net, x = one_by_one(values=4)
            y = net.rectified(x, ("LeakyRelu", 0.25))
            assert stored(net, y, [-6, -2, -128, 7], order=order) == [-2, 0, -32, 7]
        net, x = one_by_one(values=2)
        assert stored(net, net.rectified(x, "Relu"), [-6, 6]) == [0, 6]


class TestFullyConnected:
    def test_sums_over_the_inputs(self):
        net = Net()
        x = net.input((1, 3))
        y = net.gemm(x, np.array([[1, 2, 3], [-1, 0, 1]]), [0.5, 1 / 3], 0, bias=[1, 0])
        assert stored(net, y, [4, 5, 6]) == [16, 1]  # 33/2, 2/3


class TestAdd:
    def test_operands_meet_on_the_finer_step(self):
        net = Net()
        a, b = net.input((1, 4), 0), net.input((1, 4), -2)
        y = net.binary("Add", a, b, 1)  # (4 a + b) / 8
        # 12/8, 20/8, -12/8, 5/8
        assert stored(net, y, [3, 5, -3, 1], [0, 0, 0, 1]) == [2, 2, -2, 1]

    def test_is_not_requantised_operand_by_operand(self):
        net = Net()
        a, b = net.input((1, 1), -1), net.input((1, 1), -1)
        y = net.binary("Add", a, b, 0)
        assert stored(net, y, [1], [1]) == [1]  # 0.5 + 0.5; rounding each would give 0

    def test_saturates(self):
        net = Net()
        a, b = net.input((1, 2)), net.input((1, 2))
        y = net.binary("Add", a, b, 0)
        assert stored(net, y, [100, -100], [100, -100]) == [127, -128]


class TestAverages:
    def test_average_pool_divides_the_sum_once(self):
        net = Net()
        x = net.input((1, 1, 2, 3))
        y = net.pool("AveragePool", x, (2, 2), 0)
        assert stored(net, y, [1, 2, 3, 4, 3, 4]) == [2, 3]  # 10/4 to even, 12/4
        assert stored(net, y, [1, 2, 3, 4, 3, 4], rounding=HALF_UP) == [3, 3]

    @pytest.mark.parametrize(("include", "expected"), [(0, [6, 8, 7]), (1, [2, 5, 7])])
    def test_padding_counts_as_asked(self, include, expected):
        net = Net()
        x = net.input((1, 1, 1, 3))
        y = net.pool("AveragePool", x, (1, 3), 0, pads=(0, 2, 0, 0), count_include_pad=include)
        # sums 6, 15, 22; counted 1, 2, 3 without padding
        assert stored(net, y, [6, 9, 7]) == expected

    def test_ceil_mode_never_counts_what_lies_beyond_the_padding(self):
        net = Net()
        x = net.input((1, 1, 1, 3))
        y = net.pool("AveragePool", x, (1, 2), 0, strides=(1, 2), ceil_mode=1, count_include_pad=1)
        assert stored(net, y, [2, 4, 9]) == [3, 9]

    def test_global_average_changes_the_step_in_the_same_rounding(self):
        net = Net()
        x = net.input((1, 2, 1, 3), 1)
        y = net.unary("GlobalAveragePool", x, 0, (1, 2, 1, 1))
        assert stored(net, y, [1, 1, 0, -1, -1, -5]) == [1, -5]  # 4/3, -14/3

    def test_reduce_sum(self):
        net = Net()
        x = net.input((1, 3, 1, 2), 0)
        y = net.reduce_sum(x, (1,), 1, keepdims=0)
        assert stored(net, y, [1, 2, 3, 4, 5, 7]) == [4, 6]  # 9/2 = 4.5, 13/2 = 6.5


class TestMatMul:
    def test_product_of_two_maps(self):
        net = Net()
        a, b = net.input((1, 2, 2), -1), net.input((1, 2, 1), -1)
        y = net.binary("MatMul", a, b, 0)
        assert stored(net, y, [1, 2, 3, 4], [5, 6]) == [4, 10]  # 17/4, 39/4


class TestDiv:
    def test_exact_quotient_rounded_once(self):
        net = Net()
        a, b = net.input((1, 4)), net.input((1, 4))
        y = net.binary("Div", a, b, -1)
        # 2 a / b = 14/3, 10/4, -10/4, 2
        assert stored(net, y, [7, 5, -5, 1], [3, 4, 4, 1]) == [5, 2, -2, 2]
        assert stored(net, y, [7, 5, -5, 1], [3, 4, 4, 1], rounding=FLOOR) == [4, 2, -3, 2]

    @pytest.mark.parametrize("rounding", Rounding)
    def test_by_zero_saturates_by_sign_and_zero_by_zero_is_zero(self, rounding):
        net = Net()
        a, b = net.input((1, 4)), net.input((1, 4))
        y = net.binary("Div", a, b, 0)
        assert stored(net, y, [1, -1, 0, -128], [0] * 4, rounding=rounding) == [127, -128, 0, -128]

    def test_by_zero_meets_the_slope_after_saturating(self):
        net = Net()
        a, b = net.input((1, 3)), net.input((1, 3))
        y = net.binary("Div", a, b, 0, activation=("LeakyRelu", 0.5))
        assert stored(net, y, [-1, 1, -9], [0, 0, 2]) == [-64, 127, -2]  # -4.5 / 2 = -2.25

    def test_divisor_broadcasts_over_the_channels(self):
        net = Net()
        a, b = net.input((1, 2, 1, 2)), net.input((1, 1, 1, 2))
        y = net.binary("Div", a, b, 0)
        assert stored(net, y, [10, 20, 30, 41], [3, 7]) == [3, 3, 10, 6]


class TestTables:
    def test_hardswish_is_exact_at_ties(self):
        # x = q / 4, out step 1/8: 8 x (x + 3) / 6; q = 6: x = 1.5 -> 9, q = 3: 3.75, q = -12: 0
        net, x = one_by_one(-2, values=5)
        y = net.unary("HardSwish", x, -3)
        # q = -3: x = -0.75 -> -2.25; q = -6: x = -1.5 -> -3
        assert stored(net, y, [6, 3, -12, -3, -6]) == [9, 4, 0, -2, -3]

    def test_tanh(self):
        # tanh(0.5) = 0.46211716, tanh(-2) = -0.96402758; times 128: 59.15, -123.4
        net, x = one_by_one(-1, values=3)
        y = net.unary("Tanh", x, -7)
        assert stored(net, y, [1, -4, 0]) == [59, -123, 0]
        assert stored(net, y, [1, -4, 0], rounding=Rounding.CEIL) == [60, -123, 0]

    def test_tanh_never_reaches_one_before_its_rounding(self):
        net, x = one_by_one(2, values=2)
        y = net.unary("Tanh", x, -6)
        assert stored(net, y, [127, -128], rounding=FLOOR) == [63, -64]
        assert stored(net, y, [127, -128]) == [64, -64]

    def test_sigmoid(self):
        # sigmoid(0) = 1/2 is a tie at step 1; sigmoid(1) * 64 = 46.79, sigmoid(-1) * 64 = 17.21
        net, x = one_by_one(0, values=3)
        y = net.unary("Sigmoid", x, -6)
        assert stored(net, y, [0, 1, -1]) == [32, 47, 17]
        net, x = one_by_one(0, values=2)
        y = net.unary("Sigmoid", x, 0)
        assert stored(net, y, [0, -128], rounding=HALF_UP) == [1, 0]
        assert stored(net, y, [0, -128], rounding=Rounding.CEIL) == [1, 1]

    def test_relu_behind_a_table(self):
        net, x = one_by_one(-1, values=2)
        y = net.unary("Tanh", x, -7, activation="Relu")
        assert stored(net, y, [1, -4]) == [59, 0]


class TestMoving:
    def test_max_pool_pads_with_the_smallest_integer(self):
        net = Net()
        x = net.input((1, 1, 1, 2))
        y = net.pool("MaxPool", x, (1, 2), pads=(0, 0, 0, 1))
        assert stored(net, y, [-100, -128]) == [-100, -128]

    def test_concat_puts_channels_side_by_side(self):
        net = Net()
        a, b = net.input((1, 1, 1, 2)), net.input((1, 2, 1, 2))
        y = net.moved("Concat", [a, b], (1, 3, 1, 2), axis=1)
        assert stored(net, y, [1, 2], [3, 4, 5, 6]) == [1, 2, 3, 4, 5, 6]

    def test_transpose(self):
        net = Net()
        x = net.input((1, 2, 3))
        y = net.moved("Transpose", [x], (1, 3, 2), perm=(0, 2, 1))
        assert stored(net, y, [1, 2, 3, 4, 5, 6]) == [1, 4, 2, 5, 3, 6]

    @pytest.mark.parametrize(
        ("op_type", "shape", "axes"),
        [("Reshape", (1, 4), (1, 4)), ("Flatten", (1, 4), None), ("Squeeze", (4,), (0, 1, 3)),
         ("Unsqueeze", (1, 1, 4, 1, 1), (4,))],
    )  # fmt: skip
    def test_reshaping_keeps_the_integers(self, op_type, shape, axes):
        net = Net()
        x = net.input((1, 1, 4, 1))
        more = [] if axes is None else [net.constant(np.array(axes))]
        y = net.moved(op_type, [x, *more], shape)
        assert stored(net, y, [1, -2, 3, -4]) == [1, -2, 3, -4]
