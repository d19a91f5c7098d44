import numpy as np
import onnx_ir as ir
import pytest
from harness import Net

from dlaconv.ir.passes.infer_shapes import propagate_shapes
from dlaconv.ir.passes.misfits import misfits


def ones(*shape):
    return np.ones(shape, np.float32)


def unchecked(net, output="y"):
    """A model that onnx's checker has not looked at, with the shapes that onnx infers."""
    graph = ir.Graph(
        net.inputs,
        [net.values[output]],
        nodes=net.nodes,
        initializers=net.constants,
        opset_imports={"": 18},
        name="net",
    )
    model = ir.Model(graph, ir_version=10)
    propagate_shapes(model, strict=False)
    return model


CASES = {
    "weights of another rank": ("Conv", [ones(4, 4, 3)], {}, "input of 4 dimensions"),
    "other channels": ("Conv", [ones(2, 5, 3, 3)], {}, "4 channels meet weights for 5"),
    "no group": ("Conv", [ones(4, 4, 3, 3)], {"group": 0}, "0 groups"),
    "filters that cannot be split": ("Conv", [ones(3, 2, 1, 1)], {"group": 2}, "2 groups"),
    "a kernel that is none": ("Conv", [ones(4, 4, 3, 3)], {"kernel_shape": [3, 1]}, "[3, 1]"),
    "a short bias": ("Conv", [ones(4, 4, 1, 1), ones(3)], {}, "4 filters"),
    "a bias of two dimensions": ("Conv", [ones(4, 4, 1, 1), ones(4, 1)], {}, "[4, 1]"),
    "a transposed bias": ("ConvTranspose", [ones(4, 2, 1, 1), ones(4)], {}, "2 filters"),
    "three strides": ("Conv", [ones(4, 4, 1, 1)], {"strides": [1, 1, 1]}, "strides has 3"),
    "two pads": ("MaxPool", [], {"kernel_shape": [2, 2], "pads": [0, 0]}, "pads has 2 numbers"),
    "many dilations": ("Conv", [ones(4, 4, 1, 1)], {"dilations": [1] * 4}, "dilations has 4"),
    "a window beyond its map": ("MaxPool", [], {"kernel_shape": [9, 9]}, "no element"),
    "slopes of other channels": ("PRelu", [ones(3, 1, 1)], {}, "slopes of shape [3, 1, 1]"),
    "slopes of more dimensions": ("PRelu", [ones(4, 1, 1, 1, 1)], {}, "[4, 1, 1, 1, 1]"),
    "slopes that enlarge": ("PRelu", [ones(2, 4, 1, 1)], {}, "[2, 4, 1, 1]"),
    "endless pads": (
        "MaxPool",
        [],
        {"kernel_shape": [2, 2], "pads": [0, 0, 0, 2**62]},
        "2147483647",
    ),
    "a stride of 0": ("MaxPool", [], {"kernel_shape": [2, 2], "strides": [0, 1]}, "from 1 to"),
    "a negative pad": ("MaxPool", [], {"kernel_shape": [2, 2], "pads": [0, -1, 0, 0]}, "from 0 to"),
    "a result beyond memory": ("Expand", [np.array([2**41, 1, 1, 1])], {}, "beyond any memory"),
    "no permutation": ("Transpose", [], {"perm": []}, "no order of 4 axes"),
    "axes in a column": ("ReduceMean", [np.array([[2], [3]])], {}, "has the shape [2, 1]"),
    "one axis alone": ("Unsqueeze", [np.array(2)], {}, "has the shape []"),
    "a reshape to more": ("Reshape", [np.array([1, 999])], {}, "cannot become [1, 999]"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_inference_lets_pass_is_reported_at_its_node(case):
    op_type, constants, attributes, said = CASES[case]
    net = Net(x=[1, 4, 8, 8])
    names = [net.const(array, dtype=array.dtype) for array in constants]
    net.op(op_type, "x", *names, out="y", **attributes)
    model = unchecked(net)
    [(node, why)] = misfits(model)
    assert node.op_type == op_type
    assert said in why
    [error] = propagate_shapes(model)
    assert error.rule == "DLA310"
    assert propagate_shapes(model, strict=False) == []


def test_what_fits_and_what_is_unknown_is_not_reported():
    net = Net(x=[1, 4, 8, 8], open=["N", 4, "h", "w"])
    c = net.op("Conv", "x", ones(6, 2, 3, 3), ones(6), group=2, kernel_shape=[3, 3])
    t = net.op("ConvTranspose", c, ones(6, 2, 2, 2), ones(4), group=2, strides=[2, 2])
    p = net.op("PRelu", t, ones(4, 1, 1))
    m = net.op("MaxPool", p, kernel_shape=[2, 2], pads=[0, 0, 1, 1], dilations=[1, 1])
    net.op("Conv", "open", ones(6, 3, 3, 3), out="unknown")
    net.op("Reshape", m, np.array([1, -1]), out="y")
    assert list(misfits(unchecked(net))) == []
