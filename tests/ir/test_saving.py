"""Models are written without being held, and read back by everyone."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from dlaconv.ir import blocks, saving
from dlaconv.ir.blocks import BlockTensor
from dlaconv.ir.saving import save

RNG = np.random.default_rng(0)
WEIGHTS = RNG.normal(size=(40, 50)).astype(np.float32)
SMALL = RNG.normal(size=(50,)).astype(np.float32)


def model() -> ir.Model:
    """``y = w x + small``, with weights that are computed and ones that are there."""
    x = ir.val("x", dtype=ir.DataType.FLOAT, shape=(50, 50))
    tensor = BlockTensor(lambda rows: WEIGHTS[rows] * 2, ir.DataType.FLOAT, (40, 50), "w")
    weights = ir.val("w", dtype=tensor.dtype, shape=tensor.shape, const_value=tensor)
    kept = ir.val("k", const_value=ir.Tensor(WEIGHTS, name="k"))
    small = ir.val("s", const_value=ir.Tensor(SMALL, name="s"))
    node = ir.node("MatMul", [weights, x])
    add = ir.node("Add", [node.outputs[0], small])
    more = ir.node("Add", [add.outputs[0], kept])
    more.outputs[0].name, more.outputs[0].dtype = "y", ir.DataType.FLOAT
    more.outputs[0].shape = ir.Shape((40, 50))
    initializers = [weights, small, kept]
    graph = ir.Graph(
        [x], more.outputs, nodes=[node, add, more], initializers=initializers,
        opset_imports={"": 18}, name="g",
    )  # fmt: skip
    return ir.Model(graph, ir_version=9, producer_name="test", metadata_props={"a": "b"})


def written(tmp_path) -> onnx.ModelProto:
    path = tmp_path / "net.onnx"
    save(model(), path, tmp_path / "net.data")
    onnx.checker.check_model(str(path))
    return onnx.load(path)


def arrays(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {item.name: onnx.numpy_helper.to_array(item) for item in proto.graph.initializer}


def test_the_file_is_what_protobuf_would_write(tmp_path):
    proto = written(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]
    found = arrays(proto)
    assert set(found) == {"w", "s", "k"}
    assert np.array_equal(found["w"], WEIGHTS * 2)
    assert np.array_equal(found["k"], WEIGHTS)
    assert np.array_equal(found["s"], SMALL)
    whole = ir.to_proto(model())
    del proto.graph.initializer[:]
    del whole.graph.initializer[:]
    assert proto == whole


@pytest.mark.parametrize("elements", [1, 60, 1 << 20])
def test_the_size_of_blocks_does_not_matter(tmp_path, monkeypatch, elements):
    monkeypatch.setattr(blocks, "_ELEMENTS", elements)
    assert np.array_equal(arrays(written(tmp_path))["w"], WEIGHTS * 2)


def test_weights_too_large_for_one_file_become_external_data(tmp_path, monkeypatch):
    monkeypatch.setattr(saving, "LARGEST_FILE", 10_000)
    proto = written(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"net.onnx", "net.data"}
    assert (tmp_path / "net.data").stat().st_size == 8192 + 8000
    assert np.array_equal(arrays(proto)["w"], WEIGHTS * 2)
    assert np.array_equal(arrays(proto)["k"], WEIGHTS)
    assert np.array_equal(arrays(proto)["s"], SMALL)


def test_the_model_stays_as_it_was(tmp_path):
    one = model()
    save(one, tmp_path / "a", tmp_path / "b")
    assert isinstance(one.graph.initializers["w"].const_value, BlockTensor)
    assert np.array_equal(one.graph.initializers["w"].const_value.numpy(), WEIGHTS * 2)
