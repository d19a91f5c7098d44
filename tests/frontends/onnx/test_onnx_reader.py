"""Files that are no ONNX, damaged, or odd but sound, and the weights that are read of them."""

import contextlib
import os
import struct
import tracemalloc
import zipfile

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from dlaconv.errors import UnreadableError
from dlaconv.frontends.onnx.reader import read_onnx
from dlaconv.frontends.qonnx import load_qonnx, looks_like_qonnx
from dlaconv.ir import dialect
from tests.frontends.builders import network, parameters, quant, save
from tests.frontends.onnx.reading import conv, refused, relu, the_rule

NOT_ONNX = {
    "empty": b"",
    "text": b"layer { name: 'conv1' type: 'Convolution' }\n" * 9,
    "html": b"<!doctype html><html><head><title>404</title></head>",
    "json": b'{"graph": {"node": []}}',
    "zeros": b"\0" * 1000,
    "random": np.random.default_rng(0).bytes(5000),
    "zip": b"PK\x03\x04" + b"\0" * 100,
    "hdf5": b"\x89HDF\r\n\x1a\n" + b"\0" * 100,
    "gzip": b"\x1f\x8b\x08" + b"\0" * 100,
    "pickle": b"\x80\x04\x95" + b"\0" * 100,
    "git lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n",
    "a field of 32 GB": b"\x08\x08\x3a\xff\xff\xff\xff\x7f",
    "no graph": onnx.ModelProto(ir_version=8).SerializeToString(),
    "an empty graph": helper.make_model(
        helper.make_graph([], "g", [], []), ir_version=8
    ).SerializeToString(),
}


@pytest.mark.parametrize("kind", NOT_ONNX)
def test_a_file_of_another_kind_is_refused(tmp_path, kind):
    assert the_rule(save(tmp_path, NOT_ONNX[kind])) == "DLA402"


def test_what_a_file_is_instead_is_said(tmp_path):
    for kind, word in (("zip", "zip"), ("hdf5", "from-keras"), ("git lfs", "git lfs pull")):
        assert word in str(refused(save(tmp_path, NOT_ONNX[kind])))


def test_a_real_zip_and_a_folder_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "net.onnx", "w") as archive:
        archive.writestr("data.pkl", "x")
    assert the_rule(tmp_path / "net.onnx") == "DLA402"
    assert the_rule(tmp_path) == "DLA401"
    assert the_rule(tmp_path / "missing.onnx") == "DLA401"


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.onnx")
    assert the_rule(tmp_path / "pipe.onnx") == "DLA401"
    assert not looks_like_qonnx(tmp_path / "pipe.onnx")


def test_a_file_that_may_not_be_read_is_refused(tmp_path, monkeypatch):
    path = save(tmp_path, relu())

    def denied(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "open", denied)
    assert the_rule(path) == "DLA401"


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_a_truncated_file_is_refused(tmp_path, share):
    data = conv().SerializeToString()
    found = refused(save(tmp_path, data[: int(len(data) * share)]))
    assert "cut off" in str(found)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: setattr(m, "ir_version", 99), "IR version 99"),
        (lambda m: setattr(m, "ir_version", 1), "IR version 1"),
        (lambda m: m.ClearField("ir_version"), "IR version 0"),
        (lambda m: setattr(m.opset_import[-1], "version", 999), "opset 999"),
        (lambda m: setattr(m.opset_import[-1], "version", -1), "opset -1"),
        (lambda m: m.ClearField("opset_import"), "no opset"),
        (lambda m: m.opset_import.add(domain="ai.onnx", version=9), "several opsets"),
    ],
)
def test_an_unknown_version_is_refused(tmp_path, change, said):
    model = relu()
    change(model)
    path = save(tmp_path, model)
    assert the_rule(path) == "DLA403"
    assert said in str(refused(path))


def test_weights_stay_in_the_file(tmp_path):
    size = 16 << 20
    weights = np.zeros((size // 4,), np.float32)
    path = save(tmp_path, network([("Add", ["x", "w"], ["y"])], {"w": weights}))
    tracemalloc.start()
    model = read_onnx(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < size / 4
    assert model.graph.initializers["w"].const_value.size == weights.size


def test_weights_of_odd_position_and_every_type_are_read(tmp_path):
    kinds = [np.float32, np.float64, np.float16, np.int8, np.uint8, np.int32, np.int64, np.bool_]
    arrays = {f"w{i}": np.arange(6000).astype(kind) for i, kind in enumerate(kinds)}
    arrays |= {"small": np.array([1, 2], np.int16), "empty": np.zeros((0, 3), np.float32)}
    model = read_onnx(save(tmp_path, network([("Relu", ["x"], ["y"])], {
        name: onnx_array for name, onnx_array in arrays.items() if onnx_array.dtype != np.float64
    })))  # fmt: skip
    for name, value in model.graph.initializers.items():
        got = dialect.array_of(value)
        assert got.dtype == arrays[name].dtype
        assert np.array_equal(got, arrays[name])


def test_a_file_without_names_and_order_is_read(tmp_path):
    nodes = [helper.make_node("Relu", ["a"], ["y"]), helper.make_node("Tanh", ["x"], ["a"])]
    assert len(read_onnx(save(tmp_path, network(nodes))).graph) == 2


@pytest.fixture(scope="module")
def sound_file():
    nodes = [
        quant("x", "q"),
        quant("w", "wq", narrow=1),
        ("Conv", ["q", "wq"], ["c"], {"pads": [1, 1, 1, 1]}),
        ("AveragePool", ["c"], ["p"], {"kernel_shape": [2, 2]}),
        quant("p", "y", rounding_mode="FLOOR"),
    ]
    weights = np.random.default_rng(0).normal(size=(2, 3, 3, 3)).astype(np.float32)
    return network(nodes, parameters() | {"w": weights}).SerializeToString()


@settings(
    max_examples=300, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(data=st.data())
def test_no_damage_ends_in_a_traceback(tmp_path, sound_file, data):
    content = bytearray(sound_file)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content))) if data.draw(st.booleans()) else len(content)
    path = save(tmp_path, bytes(content[:cut]))
    looks_like_qonnx(path)
    with contextlib.suppress(UnreadableError):
        load_qonnx(path)


def test_a_length_beyond_the_file_takes_no_memory(tmp_path):
    header = relu().SerializeToString()
    path = save(tmp_path, header + b"\x3a" + struct.pack("<B", 0xFF) * 4 + b"\x07")
    tracemalloc.start()
    refused(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 << 20


def test_a_stale_value_info_of_a_weight_is_ignored(tmp_path):
    model = read_onnx(save(tmp_path, conv(value_info=[("w", [2000, 5, 1, 1])])))
    assert tuple(model.graph.initializers["w"].shape) == (2000, 3, 1, 1)
