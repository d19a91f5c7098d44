import numpy as np
import onnx_ir as ir
import pytest
from harness import Net

from dlaconv.ir.execution import run
from dlaconv.ir.passes.constant_ops import evaluate, result_size

F = np.float32(np.random.default_rng(0).normal(size=(2, 3, 4)))
P = np.abs(F) + np.float32(0.5)
I = np.arange(-6, 6).reshape(3, 4)  # noqa: E741
B = F > 0

CASES = [
    *[(op, [F], {}) for op in ("Neg", "Abs", "Sign", "Ceil", "Floor", "Round", "Relu", "Identity")],
    *[(op, [P], {}) for op in ("Sqrt", "Exp", "Log", "Reciprocal")],
    *[(op, [F, P[:, :1]], {}) for op in ("Add", "Sub", "Mul", "Div", "Less", "Greater", "Equal")],
    *[(op, [F, F], {}) for op in ("LessOrEqual", "GreaterOrEqual")],
    *[(op, [I, np.array([4, -3, 2, 5])], {}) for op in ("Add", "Sub", "Mul", "Div")],
    ("Pow", [P, np.float32(2)], {}),
    ("Not", [B], {}),
    ("And", [B, ~B], {}),
    ("Or", [B, B], {}),
    ("Where", [B, F, np.float32(0)], {}),
    ("Cast", [F], {"to": int(ir.DataType.INT32)}),
    ("Cast", [I], {"to": int(ir.DataType.FLOAT)}),
    ("Cast", [F], {"to": int(ir.DataType.BOOL)}),
    ("Clip", [F, np.float32(-0.5), np.float32(0.25)], {}),
    ("Clip", [F, np.float32(0.1)], {}),
    ("Clip", [F], {}),
    ("Clip", [I.astype(np.int8), np.int8(-3), np.int8(2)], {}),
    ("Gather", [F, np.array([[2, 0], [-1, 1]])], {"axis": 1}),
    ("Gather", [F, np.array(1)], {"axis": -1}),
    ("Concat", [F, P, F], {"axis": -2}),
    ("Slice", [F, np.array([0]), np.array([100]), np.array([1]), np.array([2])], {}),
    ("Slice", [F, np.array([-1]), np.array([-100]), np.array([2]), np.array([-1])], {}),
    ("Slice", [F, np.array([2, -2]), np.array([0, 100]), np.array([1, 2]), np.array([-1, 1])], {}),
    ("Slice", [F, np.array([1, 0])[:1], np.array([2**62])], {}),
    ("Transpose", [F], {"perm": [2, 0, 1]}),
    ("Transpose", [F], {}),
    ("Reshape", [F, np.array([0, -1])], {}),
    ("Reshape", [F, np.array([4, 6])], {"allowzero": 1}),
    ("Flatten", [F], {"axis": 0}),
    ("Flatten", [F], {"axis": -1}),
    ("Flatten", [F], {}),
    ("Squeeze", [F[:1], np.array([0])], {}),
    ("Squeeze", [F[:1]], {}),
    ("Unsqueeze", [F, np.array([0, -1])], {}),
    ("Split", [F, np.array([1, 2])], {"axis": 1}),
    ("Split", [F], {"axis": 2, "num_outputs": 2}),
    ("Split", [F], {"axis": 1, "num_outputs": 2}),
    ("Size", [F], {}),
    ("Expand", [F[:, :1], np.array([2, 5, 4])], {}),
    ("Expand", [F, np.array([1])], {}),
    ("Tile", [F, np.array([1, 2, 3])], {}),
    ("Range", [np.float32(1), np.float32(4), np.float32(0.5)], {}),
    ("Range", [np.array(9), np.array(0), np.array(-2)], {}),
    ("Pad", [F, np.array([0, 1, 0, 2, 0, 1]), np.float32(3)], {}),
    ("Pad", [F, np.array([1, 2]), np.float32(0), np.array([1])], {}),
    ("ConstantOfShape", [np.array([2, 0, 3])], {}),
    ("ConstantOfShape", [np.array([2, 3])], {"value": ir.tensor(np.array([7], np.int64))}),
    ("ReduceMax", [F, np.array([1])], {"keepdims": 0}),
    ("ReduceMin", [F], {}),
    ("ReduceMax", [F], {"noop_with_empty_axes": 1}),
    ("ReduceSum", [I, np.array([0])], {}),
    ("ReduceProd", [I], {}),
]


@pytest.mark.parametrize(
    "case", range(len(CASES)), ids=[f"{i}-{row[0]}" for i, row in enumerate(CASES)]
)
def test_numpy_and_onnxruntime_agree(case):
    op_type, inputs, attributes = CASES[case]
    outputs = 2 if op_type == "Split" else 1
    net = Net(x=[1])
    names = [net.const(array, dtype=array.dtype) for array in map(np.asarray, inputs)]
    net.op(op_type, *names, out="y", outputs=outputs, **attributes)
    node = net.nodes[0]
    got = evaluate(node, inputs)
    for value, array in zip(node.outputs, got, strict=True):
        value.dtype = ir.DataType.from_numpy(array.dtype)  # onnxruntime refuses another type
    wanted = [value.name for value in node.outputs]
    model = net.model(*wanted)
    expected = run(model, {"x": np.zeros(1, np.float32)})
    for name, array in zip(wanted, got, strict=True):
        assert array.dtype == expected[name].dtype
        assert array.shape == expected[name].shape
        assert np.allclose(array, expected[name], rtol=1e-6, equal_nan=True)
    assert sum(array.size for array in got) <= result_size(node, inputs)
