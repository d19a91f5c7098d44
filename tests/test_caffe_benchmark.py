"""The Caffe network of the benchmarks, in small, and the table of its measurements."""

import numpy as np
import pytest

import dlaconv
from benchmarks.caffe import table
from benchmarks.caffe_networks import vgg16, write
from benchmarks.measuring import Run, middle
from dlaconv.driver.reading import load_target, read_network
from dlaconv.frontends.caffe.blobs import Weights
from dlaconv.ir.execution import Executor


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """VGG16 with a quarter of the channels, for pictures of 64 x 64."""
    folder = tmp_path_factory.mktemp("vgg16")
    found = folder / "vgg16.prototxt", folder / "vgg16.caffemodel"
    write(vgg16(16, 64, 16), *found)
    return found


def test_the_network_has_the_weights_of_vgg16():
    shapes = [layer.shape for layer in vgg16() if layer.shape]
    assert len(shapes) == 16
    assert shapes[0] == (64, 3, 3, 3)
    assert shapes[13] == (4096, 25088)
    count = sum(int(np.prod(shape)) + shape[0] for shape in shapes)
    assert count == 138_357_544  # of the paper's network D
    assert [layer.type for layer in vgg16()].count("Pooling") == 5


def test_its_files_are_the_same_each_time(files, tmp_path):
    again = tmp_path / "a.prototxt", tmp_path / "a.caffemodel"
    write(vgg16(16, 64, 16), *again)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in files]
    write(vgg16(16, 64, 16), *again, seed=1)
    assert again[1].read_bytes() != files[1].read_bytes()


def test_floats_are_packed_and_begin_as_drawn(files):
    stored = Weights(files[1])
    [weights, bias] = stored.blobs("conv1_1")
    assert weights.shape == (16, 3, 3, 3)
    drawn = np.random.default_rng(0).standard_normal(432 + 16, np.float32)
    deviation = np.float32(2 / np.sqrt(27 * 4))
    assert np.array_equal(weights.array, drawn[:432] * deviation)
    assert np.array_equal(bias.array, drawn[432:] * np.float32(0.1))
    assert list(stored.layers) == [layer.name for layer in vgg16()]


def test_no_map_dies_or_explodes(files):
    model = dlaconv.load(list(files), "caffe").model
    names = [node.outputs[0].name for node in model.graph if node.op_type in {"Conv", "Gemm"}]
    x = np.random.default_rng(0).normal(0, 2, (1, 3, 64, 64)).astype(np.float32)
    found = Executor(model, names).run({"data": x})
    assert len(found) == 16
    for name, values in found.items():
        assert 0.4 < values.std() < 4, name


def test_converted_weights_are_the_floats_rounded_half_away(files, tmp_path):
    """As XportDNN stores them, with 7 bits behind the point; and nothing else becomes of them."""
    output = tmp_path / "net.dla.onnx"
    given = {"precision": "8,8,8", "fl_bitwidths": "4,7,4"}
    report = dlaconv.convert(list(files), output, frontend="caffe", **given).report
    assert report["verification"]["passed"]
    network, _ = read_network(output, load_target(None))
    stored = Weights(files[1])
    named = [layer.name for layer in vgg16() if layer.shape]
    linear = [layer.weights for layer in network.layers if layer.weights is not None]
    for name, weights in zip(named, linear, strict=True):
        scaled = stored.blobs(name)[0].array.astype(np.float64) * 2**7
        wanted = np.clip(np.copysign(np.floor(np.abs(scaled) + 0.5), scaled), -128, 127)
        assert np.array_equal(weights.integers.reshape(-1), wanted), name
        assert (weights.scales == 2**-7).all()


def test_the_table_has_medians_and_ratios_by_pairs():
    def runs(*walls):
        return [Run(wall, 2 * wall, 1 << 20) for wall in walls]

    found = {"copy": runs(1, 2, 10), "ours": runs(3, 8, 20), "caffe-onnx": runs(400)}
    found["caffe-onnx"] = [Run(400, 500, 64 << 20)]
    lines = table(found)
    assert lines[2] == "| copy | 2.00 | 4.00 | 1 | 1.00 | 1/200 | 1/64 |"
    assert lines[3] == "| ours | 8.00 | 16.00 | 1 | 3.00 | 1/50 | 1/64 |"
    assert lines[4] == "| caffe-onnx | 400.00 | 500.00 | 64 | 200.00 | 1/1 | 1/1 |"
    del found["caffe-onnx"]
    assert table(found)[3] == "| ours | 8.00 | 16.00 | 1 | 3.00 |"
    assert middle(runs(5, 1, 3)) == Run(3, 6, 1 << 20)
