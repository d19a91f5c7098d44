import numpy as np
import onnx
import onnx_ir as ir
import pytest
from harness import Net, context

from dlaconv.errors import ConversionError
from dlaconv.ir import dialect, provenance
from dlaconv.ir.passes.infer_shapes import forget_shapes, infer_shapes, propagate_shapes


def shapes(model):
    return {value.name: value.shape for node in model.graph for value in node.outputs}


def test_every_value_gets_its_shape_and_type():
    net = Net(x=[1, 3, 8, 8])
    w = net.quantize(np.ones((4, 3, 3, 3), np.float32), np.ones((4, 1, 1, 1), np.float32), out="wq")
    net.op("Conv", "x", w, out="c")
    net.quantize("c", out="q")
    net.bipolar("q", np.float32(1), out="b")
    net.op("GlobalAveragePool", "b", out="y")
    model = net.model("y")
    for node in model.graph:
        for value in node.outputs:
            value.shape, value.dtype = None, None
    infer_shapes(model, context())
    assert {name: tuple(shape) for name, shape in shapes(model).items()} == {
        "wq": (4, 3, 3, 3), "c": (1, 4, 6, 6), "q": (1, 4, 6, 6), "b": (1, 4, 6, 6),
        "y": (1, 4, 1, 1),
    }  # fmt: skip
    kinds = {value.dtype for node in model.graph for value in node.outputs}
    assert kinds == {ir.DataType.FLOAT}


def test_integer_weights_come_out_as_floats():
    net = Net(x=[1, 4])
    q = net.const(np.ones((2, 4), np.int8), "q", np.int8)
    net.op("Gemm", "x", net.dequantize(q, 0.5, out="w"), out="y", transB=1)
    model = net.model("y")
    infer_shapes(model, context())
    (dequantise, _) = model.graph
    assert dialect.is_dequantize(dequantise)
    assert dequantise.outputs[0].dtype is ir.DataType.FLOAT


def test_stale_shapes_are_replaced():
    net = Net(x=[1, 3, 8, 8])
    net.op("Relu", "x", out="r")
    net.op("MaxPool", "r", out="y", kernel_shape=[2, 2])
    model = net.model("y")
    model.graph.inputs[0].shape = ir.Shape([1, 3, 6, 6])
    infer_shapes(model, context())
    assert {name: tuple(shape) for name, shape in shapes(model).items()} == {
        "r": (1, 3, 6, 6), "y": (1, 3, 5, 5),
    }  # fmt: skip


def test_targets_computed_from_shapes_are_followed():
    net = Net(x=[1, 3, 4, 4])
    batch = net.op("Gather", net.op("Shape", "x"), np.array([0]), axis=0)
    net.op("Reshape", "x", net.op("Concat", batch, np.array([-1]), axis=0), out="y")
    model = net.model("y")
    infer_shapes(model, context())
    assert tuple(model.graph.outputs[0].shape) == (1, 48)


def refused(model):
    where = context()
    with pytest.raises(ConversionError) as caught:
        infer_shapes(model, where)
    assert list(where.diagnostics) == list(caught.value.diagnostics)
    return caught.value.diagnostics.errors


def unchecked(net, *outputs):
    """A model that onnx has not looked at."""
    results = [net.values[name] for name in outputs]
    graph = ir.Graph(
        net.inputs, results, nodes=net.nodes, initializers=net.constants,
        opset_imports={"": 18}, name="net",
    )  # fmt: skip
    model = ir.Model(graph, ir_version=10)
    provenance.mark_all(model, "net.onnx")
    return model


def test_shapes_that_do_not_fit_are_reported_at_their_layer():
    net = Net(x=[1, 4])
    net.op("MatMul", "x", np.ones((5, 2), np.float32), out="y")
    (error,) = refused(unchecked(net, "y"))
    assert (error.rule, error.location.layer, error.location.op) == ("DLA310", "n0", "MatMul")
    assert error.location.file == "net.onnx"


@pytest.mark.parametrize(
    ("op_type", "weights", "attributes"),
    [
        ("Conv", (2, 5, 3, 3), {}),
        ("Conv", (4, 4, 3, 3), {"group": 4}),
        ("ConvTranspose", (5, 2, 3, 3), {}),
    ],
)
def test_weights_for_other_channels_are_reported(op_type, weights, attributes):
    net = Net(x=[1, 4, 8, 8])
    net.op(op_type, "x", np.ones(weights, np.float32), out="y", **attributes)
    (error,) = refused(unchecked(net, "y"))
    assert "4 channels" in error.message


def test_a_batch_norm_for_other_channels_is_reported():
    net = Net(x=[1, 4, 8, 8])
    net.op("BatchNormalization", "x", *[np.ones(3, np.float32) for _ in range(4)], out="y")
    (error,) = refused(unchecked(net, "y"))
    assert (error.rule, error.location.op) == ("DLA310", "BatchNormalization")


def test_an_open_input_is_reported_with_the_option_to_set_it():
    net = Net(x=["N", 3, "height", "width"])
    net.op("Relu", "x", out="y")
    (error,) = refused(net.model("y"))
    assert error.rule == "DLA311"
    assert error.help == "give it, such as --set-shape x=1,3,224,224"
    assert "[N, 3, height, width]" in error.message


def test_a_shape_that_depends_on_the_data_is_reported_once():
    net = Net(x=[1, 8])
    net.op("Gather", "x", net.op("NonZero", "x", out="z"), out="r", axis=1)
    net.op("Relu", "r", out="y")
    errors = refused(unchecked(net, "y"))
    assert [(error.rule, error.location.op) for error in errors] == [("DLA312", "NonZero")]


def test_open_shapes_are_no_contradiction_when_propagated():
    net = Net(x=["N", 3])
    net.op("Relu", "x", out="y")
    model = net.model("y")
    assert propagate_shapes(model) == []


def test_what_is_transparent_keeps_its_input_shape():
    net = Net(x=[1, 3])
    node = ir.node("Odd", [net.value("x")], domain="com.example", name="odd")
    net._add(node, "o")
    net.op("Relu", "o", out="y")
    model = unchecked(net, "y")
    propagate_shapes(model, strict=False, transparent=lambda node: node.op_type == "Odd")
    assert tuple(model.graph.outputs[0].shape) == (1, 3)


def test_weights_are_never_serialised(monkeypatch):
    net = Net(x=[1, 1000])
    weights = net.const(np.zeros((1000, 1000), np.float32), "w")
    net.op("MatMul", "x", weights, out="y")
    model = net.model("y")
    sizes = []
    infer = onnx.shape_inference.infer_shapes

    def measured(proto, **options):
        sizes.append(proto.ByteSize())
        return infer(proto, **options)

    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", measured)
    tensor = model.graph.initializers["w"].const_value
    infer_shapes(model, context())
    assert sizes[0] < 1000
    assert model.graph.initializers["w"].const_value is tensor
    assert [value.name for value in model.graph.inputs] == ["x"]


def work(layers):
    net = Net(x=[1, 4, 8, 8])
    x = "x"
    weights = net.const(np.ones((4, 4, 1, 1), np.float32))
    for _ in range(layers):
        x = net.quantize(net.op("Relu", net.op("Conv", x, weights)))
    return unchecked(net, x)


def test_time_grows_with_the_number_of_nodes():
    """Measured in calls of Python functions, which do not depend on the machine."""
    import sys

    counts = []
    for layers in (200, 800):
        model, calls = work(layers), 0

        def count(frame, event, argument):
            nonlocal calls
            calls += event in {"call", "c_call"}

        sys.setprofile(count)
        try:
            infer_shapes(model, context())
        finally:
            sys.setprofile(None)
        counts.append(calls)
    assert counts[1] < 5 * counts[0]


@pytest.mark.parametrize("kind", [ir.DataType.FLOAT, ir.DataType.INT64])
def test_a_constant_of_a_huge_shape_takes_no_time(kind):
    """onnx follows the values of small integer tensors, and took minutes for a large one."""
    net = Net(x=[1, 2])
    size = net.const(np.array([2]), dtype=np.int64)
    filled = net.op("ConstantOfShape", size, value=ir.tensor(np.zeros(1, kind.numpy())))
    net.op("Cast", filled, to=int(ir.DataType.INT64), out="k")
    net.op("Relu", "x", out="y")
    model = net.model("y")
    # enlarged only now: the inference that the network is built with follows the values, too
    huge = ir.tensor(np.array([2**40]), name=size)
    model.graph.initializers[size].const_value = huge
    forget_shapes(model)
    assert not [error for error in propagate_shapes(model) if "x" in error.message]
    made = {value.name: value for node in model.graph for value in node.outputs}
    assert made[filled].dtype is kind
