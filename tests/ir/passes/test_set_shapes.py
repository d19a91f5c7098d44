import numpy as np
import pytest
from harness import Net, context

from dlaconv.errors import UsageError
from dlaconv.ir.graph import shape_of
from dlaconv.ir.passes.infer_shapes import infer_shapes
from dlaconv.ir.passes.set_shapes import set_shapes


def applied(model, **shapes):
    where = context(shapes=shapes)
    set_shapes(model, where)
    infer_shapes(model, where)
    return where


def relu(**inputs):
    net = Net(**inputs)
    values = [net.op("Relu", name, out=f"{name}_y") for name in inputs]
    return net.model(*values)


def test_an_open_batch_becomes_one():
    model = relu(x=["N", 3, 8, 8])
    where = applied(model)
    assert shape_of(model.graph.inputs[0]) == (1, 3, 8, 8)
    assert shape_of(model.graph.outputs[0]) == (1, 3, 8, 8)
    assert [rewrite.detail for rewrite in where.rewrites] == ["the open batch size of 'x' is 1"]


def test_a_shape_asked_for_is_set():
    model = relu(x=["N", 3, "h", "w"], z=[1, 4])
    assert not applied(model, x=(1, 3, 32, 64)).rewrites
    assert shape_of(model.graph.outputs[0]) == (1, 3, 32, 64)
    assert shape_of(model.graph.outputs[1]) == (1, 4)


def test_a_fixed_shape_may_be_changed():
    model = relu(x=[1, 3, 8, 8])
    applied(model, x=(1, 3, 16, 16))
    assert shape_of(model.graph.outputs[0]) == (1, 3, 16, 16)


def test_open_height_and_width_are_left_to_the_user():
    model = relu(x=["N", 3, "h", "w"])
    set_shapes(model, context())
    assert shape_of(model.graph.inputs[0]) is None


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        ({"ghost": (1, 3)}, "its inputs are 'x'"),
        ({"x": (1, 3, 8)}, "3 dimensions given, the input has 4"),
        ({"x": (1, 3, 8, 0)}, "below 1"),
        ({"x": (-1, 3, 8, 8)}, "below 1"),
    ],
)
def test_a_shape_that_does_not_fit_is_refused(shapes, said):
    model = relu(x=["N", 3, 8, 8])
    with pytest.raises(UsageError) as caught:
        set_shapes(model, context(shapes=shapes))
    assert said in str(caught.value)
    assert caught.value.exit_code == 2
    assert [error.rule for error in caught.value.diagnostics] == ["DLA408"]
    assert shape_of(model.graph.inputs[0]) is None


def test_all_shapes_that_do_not_fit_are_reported_together():
    model = relu(x=["N", 3], z=[1, 4])
    with pytest.raises(UsageError) as caught:
        set_shapes(model, context(shapes={"a": (1,), "b": (1,), "z": (1, 2, 3)}))
    assert len(caught.value.diagnostics) == 3


@pytest.mark.parametrize("op_type", ["Reshape", "Expand"])
def test_a_batch_in_a_target_shape_follows(op_type):
    net = Net(x=[8, 3, 1, 1])
    target = [8, 3] if op_type == "Reshape" else [8, 3, 4, 4]
    net.op(op_type, "x", np.array(target), out="y")
    model = net.model("y")
    where = applied(model, x=(1, 3, 1, 1))
    assert shape_of(model.graph.outputs[0]) == (1, *target[1:])
    assert [rewrite.name for rewrite in where.rewrites] == ["set_shapes"]


def test_a_number_that_only_looks_like_the_batch_stays():
    """[8, 4, 2] is reshaped to [8, 8]: the first 8 is the batch; in [1, 64] -> [8, 8] none is."""
    net = Net(x=[8, 4, 2], z=[1, 64])
    net.op("Reshape", "x", np.array([8, 8]), out="a")
    net.op("Reshape", "z", np.array([8, 8]), out="b")
    model = net.model("a", "b")
    applied(model, x=(1, 4, 2))
    assert [shape_of(value) for value in model.graph.outputs] == [(1, 8), (8, 8)]


def test_a_shared_target_is_not_changed_for_other_readers():
    net = Net(x=[8, 3], z=[4, 6])
    target = net.const(np.array([8, 3]), "target", np.int64)
    net.op("Reshape", "x", target, out="a")
    net.op("Reshape", "z", target, out="b")
    model = net.model("a", "b")
    applied(model, x=(2, 3))
    assert [shape_of(value) for value in model.graph.outputs] == [(2, 3), (8, 3)]


def test_nothing_to_do_leaves_the_shapes_alone():
    model = relu(x=[1, 3])
    set_shapes(model, context(shapes={"x": (1, 3)}))
    assert shape_of(model.graph.outputs[0]) == (1, 3)
