"""Sources that take several samples at once: the hardware takes one, and so does the comparison."""

import numpy as np
import onnx
import pytest
from onnx import helper

import dlaconv
from dlaconv.errors import ConversionError
from dlaconv.options import Options
from tests.core.test_partition import network

SHAPES = {"x": (1, 3, 8, 8)}


@pytest.fixture
def batched(tmp_path):
    """A network that takes four samples, which a Reshape says, too."""
    model = network("conv", "conv")
    graph = model.graph
    graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    shape = helper.make_tensor("shape", onnx.TensorProto.INT64, [4], [4, 16, 4, 16])
    graph.initializer.append(shape)
    graph.node.append(helper.make_node("Reshape", ["y", "shape"], ["z"], name="fold"))
    graph.output[0].name = "z"
    onnx.save(model, tmp_path / "net.onnx")
    rng = np.random.default_rng(1)
    np.savez(tmp_path / "data.npz", x=rng.uniform(-1, 1, (8, 3, 8, 8)).astype(np.float32))
    return tmp_path


def options(folder, **others):
    return Options(calibrate=folder / "data.npz", **others)


def test_a_batch_that_is_set_to_one_is_compared_as_one(batched):
    net = batched / "net.dla.onnx"
    report = dlaconv.convert(
        batched / "net.onnx", net, options=options(batched, shapes=SHAPES)
    ).report
    assert report["verification"]["passed"]
    assert report["verification"]["outputs"]["z"]["qsnr_db"] > 25
    assert dlaconv.verify(batched / "net.onnx", net).passed
    compared = dlaconv.compare(batched / "net.onnx", net, batched / "data.npz")
    assert (compared.samples, compared.outputs["z"]["qsnr_db"] > 25) == (8, True)


def test_its_layers_are_ranked(batched):
    found = dlaconv.sensitivity(batched / "net.onnx", options=options(batched, shapes=SHAPES))
    assert [row["layer"] for row in found.layers] != []


def test_without_a_shape_the_batch_is_refused_with_one(batched):
    with pytest.raises(ConversionError) as caught:
        dlaconv.convert(batched / "net.onnx", None, options=options(batched))
    [error] = caught.value.diagnostics.errors
    assert (error.rule, error.help) == ("DLA306", "give --set-shape x=1,3,8,8")
