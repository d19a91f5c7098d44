"""Weights beside an ONNX file: where they may be, and what does not fit."""

import warnings

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from dlaconv.frontends.onnx.reader import read_onnx
from dlaconv.ir import dialect
from tests.frontends.builders import network, save
from tests.frontends.onnx.reading import conv, refused, relu, the_rule


def with_external(folder, location="net.data", **changes):
    """A model whose weight is told to lie in ``location``; the data itself is in net.data."""
    model = conv()
    weight = model.graph.initializer[0]
    (folder / "net.data").write_bytes(b"\0" * 16 + weight.raw_data)
    entries = {"location": location, "offset": "16", "length": str(len(weight.raw_data))} | changes
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        if value is not None:
            weight.external_data.add(key=key, value=value)
    return save(folder, model)


@pytest.mark.parametrize("length", ["24000", None])
def test_external_data_is_mapped(tmp_path, length):
    model = read_onnx(with_external(tmp_path, length=length))
    array = dialect.array_of(model.graph.initializers["w"])
    assert np.array_equal(array.reshape(-1), np.arange(6000))


def test_what_we_do_not_follow_is_not_warned_of(tmp_path, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_onnx(with_external(tmp_path, pointer="12345", basepath="/etc"))
    model = relu()
    model.configuration.add(name="two devices", num_devices=2)
    model.graph.node[0].device_configurations.add(configuration_id="two devices")
    ir.to_proto(read_onnx(save(tmp_path, model)))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("location", ["sub/net.data", "./net.data"])
def test_external_data_below_the_folder_is_read(tmp_path, location):
    path = with_external(tmp_path, location)
    if location.startswith("sub"):
        (tmp_path / "sub").mkdir()
        (tmp_path / "net.data").rename(tmp_path / "sub" / "net.data")
    assert read_onnx(path).graph.initializers["w"].const_value.size == 6000


@pytest.mark.parametrize(
    "location",
    ["../net.data", "sub/../../net.data", "/etc/passwd", "C:\\data", "..\\net.data", "link", ""],
)
def test_external_data_outside_the_folder_is_never_opened(tmp_path, location):
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "net.data").write_bytes(b"\0" * 50_000)
    (folder / "link").symlink_to(tmp_path / "net.data")
    path = with_external(folder, location)
    assert the_rule(path) == "DLA405"
    assert "'w'" in str(refused(path))


def test_a_link_within_the_folder_is_followed(tmp_path):
    path = with_external(tmp_path, "link")
    (tmp_path / "link").symlink_to(tmp_path / "net.data")
    assert read_onnx(path).graph.initializers["w"].const_value.size == 6000


def test_a_folder_reached_through_a_link_is_a_folder(tmp_path):
    folder = tmp_path / "real"
    folder.mkdir()
    with_external(folder)
    (tmp_path / "alias").symlink_to(folder)
    model = read_onnx(tmp_path / "alias" / "net.onnx")
    assert model.graph.initializers["w"].const_value.size == 6000


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"location": "missing.data"}, "DLA405"),
        ({"location": "."}, "DLA405"),
        ({"offset": "17"}, "DLA405"),
        ({"offset": "99999999999"}, "DLA405"),
        ({"offset": "-4"}, "DLA406"),
        ({"offset": "four"}, "DLA406"),
        ({"length": "23999"}, "DLA406"),
        ({"length": "1e9"}, "DLA406"),
        ({"length": "9" * 40}, "DLA406"),
        ({"location": None}, "DLA405"),
    ],
)
def test_external_data_that_does_not_fit_is_refused(tmp_path, changes, rule):
    location = changes.pop("location", "net.data") if "location" in changes else "net.data"
    assert the_rule(with_external(tmp_path, location, **changes)) == rule


def test_the_same_bytes_claimed_over_and_over_are_refused(tmp_path):
    path = with_external(tmp_path)
    model = onnx.load(path, load_external_data=False)
    for index in range(10):
        model.graph.initializer.append(model.graph.initializer[0])
        model.graph.initializer[-1].name = f"copy{index}"
    assert the_rule(save(tmp_path, model)) == "DLA407"


def test_external_data_of_packed_types_is_unpacked(tmp_path):
    weight = helper.make_tensor("w", TensorProto.INT4, [3, 3], list(range(-4, 5)))
    raw = numpy_helper.from_array(numpy_helper.to_array(weight), "w").raw_data
    (tmp_path / "net.data").write_bytes(raw)
    model = network([("Cast", ["w"], ["c"], {"to": 1}), ("Add", ["x", "c"], ["y"])], opset=21)
    tensor = model.graph.initializer.add(
        name="w", data_type=TensorProto.INT4, data_location=TensorProto.EXTERNAL, dims=[3, 3]
    )
    tensor.external_data.add(key="location", value="net.data")
    array = dialect.array_of(read_onnx(save(tmp_path, model)).graph.initializers["w"])
    assert array.astype(np.int8).reshape(-1).tolist() == list(range(-4, 5))
