import numpy as np
import pytest
from harness import Net, context, node_of, ops, run_pass
from hypothesis import given, settings
from hypothesis import strategies as st

from dlaconv.ir import dialect
from dlaconv.ir.layout_names import Turned
from dlaconv.ir.passes.channels_first import channels_first
from dlaconv.ir.passes.clean import clean
from dlaconv.ir.passes.fully_connected import fully_connected
from dlaconv.ir.passes.layout_ops import compose, inverse, is_identity

RNG = np.random.default_rng(6)
TO_NCHW, TO_NHWC = [0, 3, 1, 2], [0, 2, 3, 1]


class Nhwc(Net):
    """Channels-last networks as converters write them: Transposes around every convolution."""

    def conv(self, x, channels=4, kernel=3, **attributes):
        inputs = self.channels[x]
        value = self.op("Transpose", x, perm=TO_NCHW)
        value = self.op(
            "Conv", value, RNG.normal(size=(channels, inputs, kernel, kernel)), **attributes
        )
        return self.note(self.op("Transpose", value, perm=TO_NHWC), channels)

    def pool(self, x, op_type="MaxPool", **attributes):
        value = self.op(op_type, self.op("Transpose", x, perm=TO_NCHW), **attributes)
        return self.note(self.op("Transpose", value, perm=TO_NHWC), self.channels[x])

    def __init__(self, **inputs):
        super().__init__(**inputs)
        self.channels = {name: shape[-1] for name, shape in inputs.items()}

    def note(self, name, channels):
        self.channels[name] = channels
        return name

    def same(self, op_type, x, *more, **attributes):
        return self.note(self.op(op_type, x, *more, **attributes), self.channels[x])


def transposes(model):
    return ops(model).count("Transpose")


def convert(net, *outputs, feeds=None):
    return run_pass([channels_first, clean], net.model(*outputs), feeds=feeds)


def test_a_channels_last_network_keeps_one_transpose_at_its_input():
    net = Nhwc(x=[1, 9, 8, 3])
    value = net.note(net.quantize("x", 0.1), 3)
    for _ in range(3):
        value = net.same("Relu", net.conv(value))
        value = net.note(net.quantize(value, 0.1), 4)
    value = net.op("ReduceMean", value, [1, 2], keepdims=0)
    net.op("Tanh", value, out="y")
    after = convert(net, "y")
    assert ops(after)[0] == "Transpose"
    assert transposes(after) == 1


@pytest.mark.parametrize("shape", [(), (4,), (6, 1), (1, 7, 6, 4)])
@pytest.mark.parametrize("op_type", ["Add", "Mul", "Sub", "PRelu"])
def test_constants_between_two_convolutions_are_permuted(shape, op_type):
    net = Nhwc(x=[1, 9, 8, 3])
    shared = net.const(RNG.normal(size=shape))
    value = net.conv(net.same(op_type, net.conv("x"), shared))
    net.op("ReduceMean", value, [1, 2], keepdims=0, out="y")
    assert transposes(convert(net, "y")) == 1


def test_quantisers_per_channel_are_permuted():
    net = Nhwc(x=[1, 9, 8, 3])
    steps = np.array([0.1, 0.2, 0.3, 0.4])
    value = net.conv(net.note(net.quantize(net.conv("x"), steps), 4))
    net.op("ReduceMean", value, [1, 2], keepdims=0, out="y")
    after = convert(net, "y")
    assert dialect.quantisation_of(node_of(after, "QuantizeHalfEven")).step.shape == (1, 4, 1, 1)


def test_residual_blocks_and_concatenations_change_layout_together():
    net = Nhwc(x=[1, 9, 8, 3])
    first = net.same("Relu", net.conv("x"))
    second = net.conv(first, kernel=1)
    added = net.same("Add", first, second)
    joined = net.note(net.op("Concat", added, first, axis=-1), 8)
    net.op(
        "ReduceMean", net.conv(net.pool(joined, kernel_shape=[2, 2])), [1, 2], keepdims=0, out="y"
    )
    after = convert(net, "y")
    assert transposes(after) == 1
    assert node_of(after, "Concat").attributes["axis"].as_int() == 1


def test_flattened_maps_permute_the_weights_of_their_fully_connected_layers():
    net = Nhwc(x=[1, 9, 8, 3])
    value = net.op("Reshape", net.conv("x"), np.array([1, 168]))
    value = net.quantize(net.op("Relu", value), 0.1)
    net.op("Gemm", value, RNG.normal(size=(5, 168)), transB=1, out="a")
    integers = RNG.integers(-127, 128, size=(4, 168)).astype(np.int8)
    weights = net.dequantize(net.const(integers, dtype=np.int8), np.full((4, 1), 0.01), out="w")
    net.op("Gemm", value, weights, transB=1, out="b")
    model = net.model("a", "b")
    after = run_pass([fully_connected, channels_first, clean], model)  # reordered sums: 1e-5
    assert transposes(after) == 1


@pytest.mark.parametrize("reader", ["output", "Softmax"])
def test_flattened_maps_that_something_else_reads_keep_their_transpose(reader):
    net = Nhwc(x=[1, 9, 8, 3])
    value = net.op("Reshape", net.conv("x"), np.array([1, 168]), out="flat")
    net.op("Gemm", value, RNG.normal(size=(5, 168)), transB=1, out="a")
    net.op("Softmax", value, out="s")
    outputs = {"output": ["a", "flat"], "Softmax": ["a", "s"]}[reader]
    assert transposes(convert(net, *outputs)) == 2


@pytest.mark.parametrize("shape", [[168], [1, 168], [1]], ids=str)
@pytest.mark.parametrize("op_type", ["Add", "Mul", "PRelu", "Sub", "Div"])
def test_values_by_column_behind_a_flattened_map_are_permuted(op_type, shape):
    net = Nhwc(x=[1, 9, 8, 3])
    value = net.op("Reshape", net.conv("x"), np.array([1, 168]))
    value = net.op(op_type, value, RNG.uniform(0.5, 1, size=shape))
    net.op("Gemm", net.op("Relu", value), RNG.normal(size=(5, 168)), transB=1, out="a")
    assert transposes(convert(net, "a")) == 1


def test_a_constant_by_column_that_others_read_stays_as_it_is_for_them():
    net = Nhwc(x=[1, 9, 8, 3], z=[1, 168])
    factors = net.const(RNG.uniform(0.5, 1, size=168))
    value = net.op("Mul", net.op("Reshape", net.conv("x"), np.array([1, 168])), factors)
    net.op("Gemm", value, RNG.normal(size=(5, 168)), transB=1, out="a")
    net.op("Mul", "z", factors, out="b")
    assert transposes(convert(net, "a", "b")) == 1


@pytest.mark.parametrize("axis", [1, -1])
def test_flattened_maps_that_are_joined_permute_their_columns_of_the_weights(axis):
    net = Nhwc(x=[1, 9, 8, 3], z=[1, 6, 5, 2], v=[1, 7])
    x = net.op("Relu", net.op("Reshape", net.conv("x"), np.array([1, 168])))
    z = net.op("Reshape", net.conv("z"), np.array([1, 48]))
    joined = net.op("Concat", "v", x, z, axis=axis)
    value = net.op("Mul", joined, RNG.uniform(0.5, 1, size=223))
    more = net.op("Concat", value, "v", axis=axis)
    net.op("Gemm", net.op("Add", value, RNG.normal(size=223)), RNG.normal(size=(5, 223)),
           transB=1, out="a")  # fmt: skip
    net.op("Gemm", more, RNG.normal(size=(4, 230)), transB=1, out="b")
    assert transposes(convert(net, "a", "b")) == 2


def test_a_flattened_map_that_is_joined_with_itself_keeps_its_transpose():
    net = Nhwc(x=[1, 9, 8, 3])
    value = net.op("Reshape", net.conv("x"), np.array([1, 168]))
    joined = net.op("Concat", value, value, axis=1)
    net.op("Gemm", joined, RNG.normal(size=(5, 336)), transB=1, out="a")
    assert transposes(convert(net, "a")) == 2


def test_maps_of_one_pixel_flatten_without_permutation():
    net = Nhwc(x=[1, 3, 3, 3])
    net.op("Softmax", net.op("Reshape", net.conv("x"), np.array([1, 4])), out="y")
    assert transposes(convert(net, "y")) == 1


def test_a_channels_last_output_keeps_its_layout():
    net = Nhwc(x=[1, 9, 8, 3])
    net.same("Relu", net.conv("x"), out="y")
    after = convert(net, "y")
    assert transposes(after) == 2
    assert ops(after)[-1] == "Transpose"


def test_a_transpose_of_the_input_stays_at_the_border():
    net = Nhwc(x=[1, 9, 8, 3])
    net.op("Conv", net.op("Transpose", "x", perm=TO_NCHW), RNG.normal(size=(4, 3, 3, 3)), out="y")
    assert ops(convert(net, "y")) == ["Transpose", "Conv"]


def test_input_and_output_of_opposite_transposes_stay_apart():
    net = Net(x=[1, 3, 8, 8])
    value = net.op("Transpose", "x", perm=TO_NHWC)
    net.op("Transpose", value, perm=TO_NCHW, out="y")
    assert "Transpose" not in ops(run_pass(channels_first, net.model("y")))


@pytest.mark.parametrize("outputs", [["y", "z"], ["z"], ["y", "mid"]])
def test_one_value_under_two_output_names_keeps_both(outputs):
    net = Net(x=[1, 3, 8, 8])
    value = net.op("Relu", "x", out="z")
    value = net.op("Transpose", value, perm=TO_NHWC, out="mid")
    net.op("Transpose", value, perm=TO_NCHW, out="y")
    run_pass(channels_first, net.model(*[getattr(value, "name", value) for value in outputs]))


def test_reductions_renumber_their_axes():
    net = Nhwc(x=[1, 9, 8, 3])
    value = net.op("ReduceSum", net.conv("x"), [-1], keepdims=1)
    net.note(value, 1)
    net.op("ReduceMean", net.conv(value), [1, 2], keepdims=0, out="y")
    after = convert(net, "y")
    assert transposes(after) == 1


def test_a_reduction_that_would_reorder_what_is_left_gets_a_transpose():
    net = Nhwc(x=[1, 9, 8, 3])
    net.op("ReduceMean", net.conv("x"), [1], keepdims=0, out="y")  # left: N, W, C
    assert transposes(convert(net, "y")) == 2


def test_resize_and_pad_are_permuted():
    net = Nhwc(x=[1, 9, 8, 3])
    value = net.op(
        "Resize",
        net.conv("x"),
        None,
        np.array([1, 2, 3, 1], np.float32),
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    value = net.note(net.op("Pad", value, np.array([0, 1, 0, 0, 0, 0, 2, 0])), 4)
    net.op("ReduceMean", net.conv(value), [1, 2], keepdims=0, out="y")
    assert transposes(convert(net, "y")) == 1


def test_maps_that_keep_their_layout_keep_their_names():
    net = Nhwc(x=[1, 9, 8, 3])
    value = net.op("Transpose", "x", perm=TO_NCHW, out="t")
    value = net.op("Conv", value, RNG.normal(size=(4, 3, 3, 3)), out="c")
    value = net.op("Transpose", value, perm=TO_NHWC)
    value = net.op("Relu", value, out="r")
    net.op("ReduceMean", value, [1, 2], keepdims=0, out="y")
    after = convert(net, "y")
    names = {value.name for node in after.graph for value in node.outputs}
    assert names == {"t", "c", Turned("r", tuple(TO_NCHW)).name, "y"}


def test_no_two_nodes_get_one_name():
    def names(*taken):
        net = Nhwc(x=[1, 9, 8, 3])
        net.op("Softmax", net.same("Relu", net.conv("x")), axis=1, out="y")
        model = net.model("y")
        for node, name in zip(model.graph, taken, strict=False):
            node.name = name
        return [node.name for node in run_pass(channels_first, model).graph]

    made = names()
    after = names(*(name for name in made if name.endswith("/transpose")))
    assert len(after) == len({*after}) == len(made)


def test_graphs_without_transposes_are_left_alone():
    net = Net(x=[1, 3, 8, 8])
    net.op("Relu", net.op("Conv", "x", RNG.normal(size=(4, 3, 3, 3))), out="y")
    model = net.model("y")
    channels_first(model, context())
    assert ops(model) == ["Conv", "Relu"]


@given(st.permutations(range(4)), st.permutations(range(4)), st.permutations(range(4)))
def test_permutations_compose_as_transposes_do(first, second, third):
    array = RNG.normal(size=(2, 3, 4, 5))
    chain = array.transpose(first).transpose(second)
    assert np.array_equal(chain, array.transpose(compose(tuple(first), tuple(second))))
    assert is_identity(compose(tuple(first), inverse(tuple(first))))
    left = compose(compose(tuple(first), tuple(second)), tuple(third))
    assert left == compose(tuple(first), compose(tuple(second), tuple(third)))


def test_equal_graph_outputs_stay_two():
    net = Net(x=[1, 4, 4, 4])
    outputs = [net.op("Transpose", "x", perm=TO_NCHW) for _ in range(4)]
    run_pass([channels_first, clean], net.model(*outputs))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_random_graphs_of_transposes_keep_their_values(data):
    net = Net(x=[1, 4, 4, 4], z=[1, 4, 4, 4])
    pool = ["x", "z"]
    for index in range(data.draw(st.integers(2, 14))):
        pick = st.sampled_from(pool)
        kind = data.draw(
            st.sampled_from(["T", "T", "Add", "Relu", "Concat", "Conv", "Mul", "Q", "Mean"])
        )
        a, b = data.draw(pick), data.draw(pick)
        if kind == "T":
            perm = data.draw(st.sampled_from([TO_NCHW, TO_NHWC, [0, 1, 3, 2], [0, 3, 2, 1]]))
            value = net.op("Transpose", a, perm=perm)
        elif kind == "Concat":
            joined = net.op("Concat", a, b, axis=data.draw(st.integers(-4, 3)))
            net.op("Tanh", joined, out=f"joined{index}")
            continue
        elif kind == "Mean":
            net.op(
                "ReduceMean",
                a,
                [data.draw(st.integers(0, 3))],
                keepdims=data.draw(st.integers(0, 1)),
            )
            continue
        elif kind == "Conv":
            value = net.op("Conv", a, RNG.normal(size=(4, 4, 1, 1)) / 4)
        elif kind == "Mul":
            shape = data.draw(st.sampled_from([(4,), (4, 1), (1, 4, 1, 1), ()]))
            value = net.op("Mul", a, RNG.normal(size=shape))
        elif kind == "Q":
            value = net.quantize(
                a, data.draw(st.sampled_from([0.25, np.array([0.1, 0.2, 0.3, 0.4])]))
            )
        else:
            value = net.op(kind, a, *([b] if kind == "Add" else []))
        pool.append(value)
    made = [value.name for node in net.nodes for value in node.outputs]
    if not made:
        return
    outputs = data.draw(st.lists(st.sampled_from(made), min_size=1, max_size=3, unique=True))
    model = net.model(*outputs)
    before = transposes(run_pass(clean, model))
    after = run_pass([channels_first, clean], model)
    assert transposes(after) <= before + len(model.graph.inputs) + len(model.graph.outputs)


@pytest.mark.parametrize("first", ["given", "made"])
def test_a_transpose_that_is_there_is_not_made_again(first):
    """The given one has the name that the other would get."""
    net = Net(x=[1, 4, 6, 3])

    def given():
        name = "x/layout_0_3_1_2"
        net.op("Transpose", "x", perm=[0, 3, 1, 2], out=name)
        return net.op("MaxPool", name, kernel_shape=[2, 2], out="a")

    def made():
        turned = net.op("Transpose", net.op("Sigmoid", "x"), perm=[0, 3, 1, 2])
        return net.op("MaxPool", turned, kernel_shape=[2, 2], out="b")

    for build in (given, made) if first == "given" else (made, given):
        build()
    after = run_pass(channels_first, net.model("a", "b"))
    assert ops(after).count("Transpose") == 1
