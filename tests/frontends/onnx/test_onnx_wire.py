import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from dlaconv.errors import UnreadableError
from dlaconv.frontends.onnx.reader import read_onnx
from dlaconv.frontends.onnx.wire import (
    CrowdedError,
    WireError,
    fields,
    operators,
    without_weights,
)
from tests.frontends.builders import network


def model_with(*sizes):
    constants = {f"w{i}": np.arange(size, dtype=np.float32) for i, size in enumerate(sizes)}
    return network([("Relu", ["x"], ["y"])], constants)


def test_large_weights_are_cut_out_and_nothing_else():
    model = model_with(4, 5000, 3, 7000)
    data = model.SerializeToString()
    rest, spans = without_weights(memoryview(data))
    assert sorted(spans) == [1, 3]
    for index, span in spans.items():
        tensor = model.graph.initializer[index]
        assert data[span.begin : span.end] == tensor.raw_data
    small = onnx.ModelProto.FromString(rest)
    assert len(rest) < 1000
    for index in spans:
        assert not small.graph.initializer[index].HasField("raw_data")
        small.graph.initializer[index].raw_data = model.graph.initializer[index].raw_data
    assert small == model


def test_a_graph_in_two_pieces_is_merged_as_protobuf_does():
    model = model_with(5000)
    data = model.SerializeToString() + model_with(6000).SerializeToString()
    rest, spans = without_weights(memoryview(data))
    assert sorted(spans) == [0, 1]
    assert len(onnx.ModelProto.FromString(rest).graph.initializer) == 2


def test_operators_are_found_without_their_weights():
    nodes = [helper.make_node("A", [], ["a"], domain="d"), helper.make_node("B", [], ["y"])]
    data = network(nodes, {"w": np.zeros(5000, np.float32)}).SerializeToString()
    assert list(operators(memoryview(data))) == [("d", "A"), ("", "B")]


def crowd(times, number):
    """A graph with many empty fields of one kind, two bytes each."""
    graph = bytes([number << 3 | 2, 0]) * times
    return helper.make_model(onnx.GraphProto()).SerializeToString() + b"".join(
        [
            b"\x3a",
            bytes([len(graph) & 127 | 128, len(graph) >> 7 & 127 | 128, len(graph) >> 14]),
            graph,
        ]
    )


@pytest.mark.parametrize("number", [1, 5, 13], ids=["nodes", "initializers", "value_info"])
def test_a_model_of_very_many_parts_is_not_waited_for(tmp_path, number):
    path = tmp_path / "net.onnx"
    path.write_bytes(crowd(70_000, number) * 3)
    with pytest.raises(UnreadableError) as caught:
        read_onnx(path)
    [found] = caught.value.diagnostics
    assert found.rule == "DLA407"
    assert "131072" in found.message


def test_operators_of_very_many_nodes_are_not_waited_for():
    with pytest.raises(CrowdedError):
        list(operators(memoryview(crowd(140_000, 1))))


def test_every_cut_is_noticed_or_leaves_a_valid_message():
    data = model_with(2000).SerializeToString()
    whole = [field.end for field in fields(memoryview(data), 0, len(data))]
    for end in range(1, len(data), 7):
        if end in whole:
            continue
        with pytest.raises(WireError, match="byte"):
            without_weights(memoryview(data[:end]))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x08", "ends inside a number"),
        (b"\x08" + b"\xff" * 11, "longer than 10 bytes"),
        (b"\x3a\xff\xff\xff\xff\x7f", "claims 34359738367 bytes"),
        (b"\x0b", "wire type 3"),
        (b"\x00\x00", "without number"),
        (b"\x09\x00", "claims"),
        (b"\x0d\x00", "claims"),
    ],
)
def test_bytes_that_are_no_message_are_refused(data, said):
    with pytest.raises(WireError, match=said):
        list(fields(memoryview(data), 0, len(data)))


def test_numbers_of_fixed_width_are_skipped():
    data = b"\x09" + b"\x01" * 8 + b"\x15" + b"\x02" * 4 + b"\x18\x05"
    assert [field.number for field in fields(memoryview(data), 0, len(data))] == [1, 2, 3]


def test_weights_in_another_encoding_stay_where_they_are():
    tensor = numpy_helper.from_array(np.zeros(5000, np.float32), "w")
    values = helper.make_tensor("w", 1, [5000], np.zeros(5000))
    assert len(tensor.raw_data) > 4096
    model = network([("Relu", ["x"], ["y"])])
    model.graph.initializer.append(values)
    model.graph.initializer[0].ClearField("raw_data")
    model.graph.initializer[0].float_data.extend([0.0] * 5000)
    data = model.SerializeToString()
    assert without_weights(memoryview(data)) == (data, {})
