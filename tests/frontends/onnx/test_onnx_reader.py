import contextlib
import os
import struct
import tracemalloc
import warnings
import zipfile

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from dlaconv.errors import UnreadableError
from dlaconv.frontends.onnx.reader import read_onnx
from dlaconv.frontends.qonnx import load_qonnx, looks_like_qonnx
from dlaconv.ir import dialect
from tests.frontends.builders import network, parameters, quant, save


def relu():
    return network([("Relu", ["x"], ["y"])])


def conv(**more):
    weights = np.arange(2000 * 3, dtype=np.float32).reshape(2000, 3, 1, 1)
    return network([("Conv", ["x", "w"], ["y"])], {"w": weights}, **more)


def refused(path):
    with pytest.raises(UnreadableError) as caught:
        read_onnx(path)
    assert caught.value.exit_code == 3
    for error in caught.value.diagnostics:
        assert error.location.file == str(path)
        assert error.help
        assert error.message
    return caught.value.diagnostics


def the_rule(path):
    rules = {error.rule for error in refused(path)}
    assert len(rules) == 1
    return rules.pop()


def model_file(folder, model):
    return save(folder, model)


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


def graph(*nodes, **more):
    return network(nodes, {"w": np.ones(3, np.float32)}, **more)


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs, outputs, name=f"the_{outputs[0]}", **attributes)


def empty_attribute():
    made = helper.make_node("My", ["x"], ["y"], domain="my")
    made.attribute.add(name="t", type=onnx.AttributeProto.TENSOR)
    return made


INVALID = {
    "a cycle": (
        graph(
            node("Add", ["x", "b"], ["a"]), node("Relu", ["a"], ["b"]), node("Relu", ["a"], ["y"])
        ),
        "cycle through 'the_b', 'the_a'",
    ),
    "a node that feeds itself": (graph(node("Relu", ["y"], ["y"])), "cycle through 'the_y'"),
    "an undefined value": (graph(node("Add", ["x", "ghost"], ["y"])), "'ghost'"),
    "an undefined output": (graph(node("Relu", ["x"], ["a"])), "'y' is made by no node"),
    "a value made twice": (
        graph(node("Relu", ["x"], ["y"]), node("Tanh", ["x"], ["y"])), "'y' is made twice"
    ),
    "an output over a weight": (graph(node("Relu", ["x"], ["w"]), outputs=["w"]), "made twice"),
    "two outputs of one name": (
        graph(node("Relu", ["x"], ["y"]), outputs=["y", "y"]), "two values are called 'y'"
    ),
    "an attribute of another type": (
        graph(node("Softmax", ["x"], ["y"], axis="last")), "axis"
    ),
    "an unknown attribute": (graph(node("Relu", ["x"], ["y"], colour=3)), "colour"),
    "no output": (graph(node("Relu", ["x"], ["y"]), outputs=[]), "no output"),
    "a node without results": (
        graph(node("Relu", ["x"], ["y"]), helper.make_node("My", ["x"], [], domain="my")),
        "the node has no result",
    ),
    "an attribute without its tensor": (graph(empty_attribute()), "'t' has no value"),
    "too many inputs": (graph(node("Relu", ["x", "w"], ["y"])), "input"),
    "an operator of a later opset": (graph(node("Gelu", ["x"], ["y"]), opset=13), "Gelu"),
    "a removed operator": (
        graph(node("Upsample", ["x", "w"], ["y"]), opset=13), "Upsample"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", INVALID)
def test_a_graph_that_contradicts_itself_is_refused(tmp_path, case):
    model, said = INVALID[case]
    path = save(tmp_path, model)
    assert the_rule(path) == "DLA404"
    assert said in str(refused(path))


def test_two_initializers_of_one_name_are_refused(tmp_path):
    model = graph(node("Add", ["x", "w"], ["y"]))
    model.graph.initializer.append(model.graph.initializer[0])
    assert the_rule(save(tmp_path, model)) == "DLA404"


def test_an_attribute_given_twice_is_refused(tmp_path):
    model = graph(node("Softmax", ["x"], ["y"], axis=1))
    model.graph.node[0].attribute.append(model.graph.node[0].attribute[0])
    assert the_rule(save(tmp_path, model)) == "DLA404"


def test_a_large_cycle_is_named_in_short(tmp_path):
    nodes = [node("Relu", [f"v{i}"], [f"v{(i + 1) % 3000}"]) for i in range(3000)]
    found = refused(save(tmp_path, graph(*nodes, outputs=["v0"])))
    assert "and 2995 more" in str(found)
    assert len(str(found)) < 2000


def test_many_problems_are_counted_not_listed(tmp_path):
    nodes = [node("Add", ["x", f"ghost{i}"], [f"v{i}"]) for i in range(500)]
    found = refused(save(tmp_path, graph(*nodes, outputs=["v0"])))
    assert len(found) == 21
    assert "480 more problems" in str(found)


def test_values_of_a_subgraph_are_checked_in_their_scope(tmp_path):
    def branch(source):
        inner = helper.make_node("Relu", [source], ["inner"], name="deep")
        value = helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)
        return helper.make_graph([inner], "branch", [], [value])

    def choice(source):
        flag = helper.make_node("Constant", [], ["flag"], value_int=1, name="flag")
        cast = helper.make_node("Cast", ["flag"], ["bool"], to=TensorProto.BOOL)
        when = {"then_branch": branch("x"), "else_branch": branch(source)}
        return graph(flag, cast, helper.make_node("If", ["bool"], ["y"], name="if", **when))

    read_onnx(save(tmp_path, choice("x")))
    found = refused(save(tmp_path, choice("ghost")))
    assert [error.location.layer for error in found] == ["deep"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.dims.__setitem__(0, 2**40), "needs"),
        (lambda t: t.dims.__setitem__(0, 1999), "needs"),
        (lambda t: t.dims.__setitem__(0, -1), "negative"),
        (lambda t: t.dims.extend([2**62] * 8), "needs"),
        (lambda t: t.dims.extend([1] * 40), "dimensions"),
        (lambda t: setattr(t, "data_type", 0), "no element type"),
        (lambda t: setattr(t, "data_type", 77), "unknown element type"),
        (lambda t: setattr(t, "data_type", TensorProto.DOUBLE), "needs"),
        (lambda t: setattr(t, "data_type", TensorProto.STRING), "are there"),
        (lambda t: t.ClearField("raw_data"), "0 are there"),
        (lambda t: setattr(t, "raw_data", t.raw_data[:-1]), "are there"),
        (lambda t: setattr(t, "raw_data", t.raw_data[:100]), "are there"),
    ],
)
def test_a_tensor_that_does_not_fit_its_data_is_refused(tmp_path, change, said):
    model = conv()
    change(model.graph.initializer[0])
    path = save(tmp_path, model)
    assert the_rule(path) == "DLA406"
    assert said in str(refused(path))
    assert "'w'" in str(refused(path))


def test_a_constant_node_is_checked_too(tmp_path):
    value = helper.make_tensor("value", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])
    value.dims[0] = 10**15
    model = graph(helper.make_node("Constant", [], ["y"], value=value))
    assert the_rule(save(tmp_path, model)) == "DLA406"


def test_text_that_is_no_utf8_is_refused(tmp_path):
    data = relu().SerializeToString().replace(b"relu_y", b"rel\xff_y")
    assert the_rule(save(tmp_path, data)) == "DLA402"
    attribute = network([quant("x", "y", rounding_mode="ROUND")], parameters())
    data = attribute.SerializeToString().replace(b"ROUND", b"\xff\xfe\xfdND")
    assert the_rule(save(tmp_path, data)) == "DLA404"


def test_graphs_nested_beyond_reason_are_refused(tmp_path):
    def field(number, payload):
        length, size = bytearray(), len(payload)
        while size > 0x7F:
            length.append(size & 0x7F | 0x80)
            size >>= 7
        return bytes([number << 3 | 2]) + bytes([*length, size]) + payload

    graph = b""
    for _ in range(2000):
        graph = field(1, field(5, field(6, graph)))  # graph: node: attribute: g
    path = save(tmp_path, relu().SerializeToString() + field(7, graph))
    assert the_rule(path) == "DLA402"
    assert "deeper" in str(refused(path))


def test_functions_that_call_themselves_or_explode_are_refused(tmp_path):
    def function(name, callee, count):
        calls = [
            helper.make_node(callee, [f"v{i}"], [f"v{i + 1}"], domain="my") for i in range(count)
        ]
        return helper.make_function(
            "my", name, ["v0"], [f"v{count}"], calls, [helper.make_opsetid("my", 1)]
        )

    call = helper.make_node("F0", ["x"], ["y"], domain="my")
    domains = [("my", 1)]
    itself = network([call], domains=domains, functions=[function("F0", "F0", 1)])
    assert the_rule(save(tmp_path, itself)) == "DLA404"
    bombs = [function(f"F{i}", f"F{i + 1}", 10) for i in range(9)]
    assert the_rule(save(tmp_path, network([call], domains=domains, functions=bombs))) == "DLA407"
    uncalled = network([("Relu", ["x"], ["y"])], domains=domains, functions=bombs)
    assert the_rule(save(tmp_path, uncalled)) == "DLA407"
    deep = [function(f"F{i}", f"F{i + 1}", 1) for i in range(101)]
    found = refused(save(tmp_path, network([call], domains=domains, functions=deep)))
    assert "101 deep" in str(found)


# ---- external data


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


# ---- memory and robustness


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
