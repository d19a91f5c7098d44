import sys

import numpy as np
import onnx
import pytest
from onnx import helper

from dlaconv.frontends.qonnx import FRONTEND, looks_like_qonnx, register_frontends
from dlaconv.ir import dialect, provenance
from dlaconv.ir.graph import replace_node
from dlaconv.ir.stages import Stage, broken_invariants
from tests.frontends.builders import (
    QONNX,
    execute,
    load,
    network,
    parameters,
    quant,
    random,
    rules,
    save,
)
from tests.frontends.qonnx.reference import int_quant


def conv_net(**more):
    """Input, weight, bias and output quantised, as Brevitas writes a convolution."""
    weights, bias = random(4, 3, 3, 3, seed=1), random(4, seed=2)
    nodes = [
        quant("x", "xq"),
        quant("w", "wq", "ws", narrow=1),
        quant("bias", "bq", "bs", bits="b32"),
        ("Conv", ["xq", "wq", "bq"], ["c"]),
        ("Relu", ["c"], ["r"]),
        quant("r", "y", signed=0),
    ]
    constants = parameters() | {
        "w": weights,
        "bias": bias,
        "ws": np.float32(2.0**-5),
        "bs": np.float32(2.0**-7),
        "b32": np.float32(32),
    }
    return network(nodes, constants, **more)


def test_every_value_of_the_source_keeps_its_name(tmp_path):
    model = load(tmp_path, conv_net()).model
    names = {value.name for node in model.graph for value in node.outputs}
    assert names == {"xq", "wq", "bq", "c", "r", "y"}
    assert [value.name for value in model.graph.inputs] == ["x"]
    assert [node.name for node in model.graph][:2] == ["quant_xq", "quant_wq"]


def test_the_result_is_a_model_of_stage_imported(tmp_path):
    model = load(tmp_path, conv_net()).model
    assert list(broken_invariants(model, Stage.IMPORTED)) == []
    assert dict(model.graph.opset_imports) == {"": 18, dialect.DOMAIN: 1}
    assert model.ir_version == dialect.IR_VERSION
    for node in model.graph:
        assert provenance.location(node, model).layer
        assert provenance.location(node, model).file.endswith("net.onnx")


def test_provenance_says_the_source_operator(tmp_path):
    model = load(tmp_path, conv_net()).model
    assert [provenance.location(node).op for node in model.graph][:1] == ["Quant"]


@pytest.mark.parametrize("opset", [9, 11, 13, 17, 18, 20, 21])
@pytest.mark.parametrize("constants_as_inputs", [False, True])
def test_the_opset_and_repeated_inputs_change_nothing(tmp_path, opset, constants_as_inputs):
    source = conv_net(opset=opset, constants_as_inputs=constants_as_inputs)
    imported = load(tmp_path, source)
    x = random(1, 3, 4, 4)
    (y,) = execute(imported, x=x)
    (expected,) = execute(load(tmp_path, conv_net()), x=x)
    assert np.array_equal(y, expected)
    assert [value.name for value in imported.model.graph.inputs] == ["x"]


def test_shared_initializers_are_not_confused(tmp_path):
    """One constant 1.0 is a scale, a batch norm's gamma and a Clip bound; 0.0 is four things."""
    names = {"one": np.float32(1), "zero": np.float32(0), "b": np.float32(8)}
    names |= {"ones": np.ones(3, np.float32), "zeros": np.zeros(3, np.float32)}
    nodes = [
        quant("x", "q", "one", "zero"),
        ("BatchNormalization", ["q", "ones", "zeros", "zeros", "ones"], ["n"]),
        ("Clip", ["n", "zero", "one"], ["c"]),
        quant("c", "y", "one", "zero"),
    ]
    x = random(1, 3, 4, 4)
    (y,) = execute(load(tmp_path, network(nodes, names)), x=x)
    middle = np.clip(int_quant(x, 1, 0, 8) / np.sqrt(np.float32(1 + 1e-5)), 0, 1)
    assert np.array_equal(y, int_quant(middle, 1, 0, 8))


@pytest.mark.parametrize("order", ["bias first", "bias last"])
def test_transposed_weights_and_a_bias_on_either_side(tmp_path, order):
    weights, bias = random(4, 6, seed=1), random(4, seed=2)
    operands = ["bias", "m"] if order == "bias first" else ["m", "bias"]
    nodes = [
        quant("w", "q"),
        ("Transpose", ["q"], ["t"], {"perm": [1, 0]}),
        ("MatMul", ["x", "t"], ["m"]),
        ("Add", operands, ["y"]),
    ]
    constants = parameters() | {"w": weights, "bias": bias}
    x = random(1, 6, seed=3)
    (y,) = execute(load(tmp_path, network(nodes, constants, {"x": [1, 6]})), x=x)
    assert np.allclose(y, x @ int_quant(weights, 0.25, 0, 8).T + bias, rtol=1e-6)


def test_a_network_of_one_dimension(tmp_path):
    nodes = [
        quant("x", "q", domain=""),
        quant("w", "wq", domain=""),
        ("Conv", ["q", "wq"], ["c"]),
        ("MaxPool", ["c"], ["y"], {"kernel_shape": [2], "strides": [2]}),
    ]
    constants = parameters() | {"w": random(4, 2, 3, seed=1)}
    model = network(nodes, constants, {"x": [1, 2, 32]}, domains=())
    imported = load(tmp_path, model)
    assert execute(imported, x=random(1, 2, 32))[0].shape == (1, 4, 15)


def test_weights_of_an_unoptimised_export_are_folded(tmp_path):
    """dynamo=True, optimize=False: Constant, Cast, Slice in front of the weight's Quant."""
    weights = random(4, 3, 3, 3, seed=1)
    nodes = [
        helper.make_node("Constant", [], ["w0"], value=tensor_of(weights.astype(np.float64))),
        ("Cast", ["w0"], ["w1"], {"to": 1}),
        ("Slice", ["w1", "from", "to", "axis"], ["w"]),
        quant("w", "q"),
        ("Conv", ["x", "q"], ["y"]),
    ]
    constants = parameters() | {
        "from": np.array([0]), "to": np.array([2**63 - 1]), "axis": np.array([0])
    }  # fmt: skip
    imported = load(tmp_path, network(nodes, constants))
    assert not rules(imported.diagnostics)
    quantise = next(node for node in imported.model.graph if dialect.is_quantize(node))
    assert quantise.inputs[0].name == "w"
    assert np.array_equal(dialect.array_of(quantise.inputs[0]), weights)


def tensor_of(array):
    return onnx.numpy_helper.from_array(array)


def test_a_dynamic_batch_stays_open(tmp_path):
    nodes = [quant("x", "q"), ("Relu", ["q"], ["y"])]
    model = network(nodes, parameters(), {"x": ["N", 3]})
    imported = load(tmp_path, model)
    assert execute(imported, x=random(5, 3))[0].shape == (5, 3)
    assert not isinstance(imported.model.graph.inputs[0].shape[0], int)


@pytest.mark.parametrize("written", [0, -1])
def test_a_batch_written_as_no_number_is_open(tmp_path, written):
    imported = load(tmp_path, network([quant("x", "y")], parameters(), {"x": [written, 3]}))
    assert execute(imported, x=random(5, 3))[0].shape == (5, 3)


def test_functions_of_the_model_are_inlined(tmp_path):
    function = helper.make_function(
        "my",
        "Block",
        ["a", "s", "z", "b"],
        ["o"],
        [quant("a", "inner"), helper.make_node("Relu", ["inner"], ["o"])],
        [helper.make_opsetid("", 18), helper.make_opsetid(QONNX, 2)],
    )
    call = helper.make_node("Block", ["x", "s", "z", "b"], ["y"], name="block", domain="my")
    domains = [("my", 1), (QONNX, 2)]
    imported = load(tmp_path, network([call], parameters(), domains=domains, functions=[function]))
    x = random(1, 3, 4, 4)
    (y,) = execute(imported, x=x)
    assert np.array_equal(y, np.maximum(int_quant(x, 0.25, 0, 8), 0))


def test_unsorted_nodes_and_missing_names_are_put_right(tmp_path):
    nodes = [
        helper.make_node("Relu", ["q"], ["y"]),
        helper.make_node("Quant", ["x", "s", "z", "b"], ["q"], domain=QONNX, signed=1, narrow=0),
    ]
    model = load(tmp_path, network(nodes, parameters())).model
    assert [node.op_type for node in model.graph] == ["QuantizeHalfEven", "Relu"]
    assert [node.name for node in model.graph] == ["q", "y"]


def test_nodes_of_one_name_get_names_of_their_own(tmp_path):
    nodes = [quant("x", "a"), quant("a", "y")]
    for node in nodes:
        node.name = "same"
    model = load(tmp_path, network(nodes, parameters())).model
    assert [node.name for node in model.graph] == ["same", "same.1"]


def test_metadata_of_the_exporter_is_dropped(tmp_path):
    source = network([quant("x", "y")], parameters())
    source.graph.node[0].metadata_props.add(key="pkg.torch.onnx.name", value="somewhere")
    source.metadata_props.add(key="exporter", value="x")
    model = load(tmp_path, source).model
    assert set(next(iter(model.graph)).metadata_props) == {"dlaconv.layer", "dlaconv.op"}
    assert set(model.metadata_props) == {"dlaconv.source_file"}


def test_a_plugin_adds_and_replaces_layers(tmp_path):
    from dlaconv.frontends.qonnx import load_qonnx

    def double(node, state):
        import onnx_ir as ir

        made = ir.node("Add", [node.inputs[0], node.inputs[0]], name=node.name)
        replace_node(node, made)

    nodes = [
        helper.make_node("Twice", ["x"], ["t"], name="twice", domain="my"),
        quant("t", "y"),
    ]
    path = save(tmp_path, network(nodes, parameters(), domains=[("my", 1)]))
    x = random(1, 3, 4, 4)
    for name in ("Twice", "my::Twice"):
        (y,) = execute(load_qonnx(path, layers={name: double}), x=x)
        assert np.array_equal(y, int_quant(x + x, 0.25, 0, 8))
    replaced = load_qonnx(path, layers={"Twice": double, "Quant": double})
    assert np.array_equal(execute(replaced, x=x)[0], 4 * x)
    assert rules(load_qonnx(path).diagnostics) == ["DLA102"]


def test_the_producer_is_noted(tmp_path):
    source = network([quant("x", "y")], parameters())
    source.producer_name, source.producer_version = "brevitas", "0.13.4"
    assert load(tmp_path, source).notes == {"producer": "brevitas 0.13.4"}


def test_the_frontend_is_registered():
    assert register_frontends() == [FRONTEND]
    assert FRONTEND.name == "qonnx"


@pytest.mark.parametrize(
    ("op", "domain", "expected"),
    [
        ("Quant", QONNX, True),
        ("Quant", "", True),
        ("IntQuant", "qonnx", True),
        ("Trunc", "onnx.brevitas", True),
        ("BipolarQuant", "finn.custom_op.general", True),
        ("FloatQuant", QONNX, True),
        ("Conv", "qonnx.custom_op.channels_last", True),
        ("Quant", "com.example", False),
        ("Relu", "", False),
        ("QuantizeLinear", "", False),
    ],
)
def test_a_file_is_recognised_by_its_operators(tmp_path, op, domain, expected):
    node = helper.make_node(op, ["x"], ["y"], domain=domain)
    path = save(tmp_path, network([("Relu", ["x"], ["a"]), node]))
    assert looks_like_qonnx(path) is expected


def test_files_of_other_kinds_are_not_recognised(tmp_path):
    for name, content in (("a", b""), ("b", b"PK\x03\x04Quant"), ("c", b"Quant"), ("d", b"\x3a")):
        (tmp_path / name).write_bytes(content)
        assert not looks_like_qonnx(tmp_path / name)
    assert not looks_like_qonnx(tmp_path)
    assert not looks_like_qonnx(tmp_path / "missing")


def chain(layers):
    nodes, x = [], "x"
    constants = parameters() | {"w": random(3, 3, 1, 1, seed=1)}
    for index in range(layers):
        nodes += [
            quant("w", f"w{index}"),
            ("Conv", [x, f"w{index}"], [f"c{index}"]),
            ("Relu", [f"c{index}"], [f"r{index}"]),
            quant(f"r{index}", f"q{index}"),
        ]
        x = f"q{index}"
    return network(nodes, constants, outputs=[x])


def test_time_grows_with_the_number_of_nodes(tmp_path):
    """Measured in calls, which do not depend on the machine."""
    calls = []
    for layers in (100, 400):
        path = save(tmp_path, chain(layers))
        count = 0

        def counted(frame, event, argument):
            nonlocal count
            count += event in {"call", "c_call"}

        sys.setprofile(counted)
        try:
            FRONTEND.load(path)
        finally:
            sys.setprofile(None)
        calls.append(count)
    assert calls[1] < 4.5 * calls[0]


def test_a_network_of_ten_thousand_nodes_is_read(tmp_path):
    imported = load(tmp_path, chain(2500))
    assert not rules(imported.diagnostics)
    assert len(imported.model.graph) == 10_000
