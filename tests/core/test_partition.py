"""Networks that the hardware cannot run whole: what is written, said and computed."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import dlaconv
from dlaconv.errors import ConversionError, UnreadableError, UsageError
from dlaconv.options import Options

C = 16


def network(*operators, inputs=3, size=8, seed=0, name="x"):
    """A float network: ``conv`` is a 3x3 convolution with ReLU, others are operators by name."""
    rng = np.random.default_rng(seed)
    nodes, constants = [], []
    value, channels = name, inputs
    for index, operator in enumerate(operators):
        result = "y" if index == len(operators) - 1 else f"v{index}"
        if operator == "conv":
            weights = rng.normal(size=(C, channels, 3, 3)) / np.sqrt(9 * channels)
            constants.append(numpy_helper.from_array(weights.astype(np.float32), f"w{index}"))
            nodes.append(
                helper.make_node(
                    "Conv", [value, f"w{index}"], [f"c{index}"], name=f"conv{index}",
                    pads=[1, 1, 1, 1],
                )
            )  # fmt: skip
            nodes.append(helper.make_node("Relu", [f"c{index}"], [result], name=f"relu{index}"))
            channels = C
        elif operator == "fc":
            weights = rng.normal(size=(channels * size * size, 10)).astype(np.float32) / 32
            constants.append(numpy_helper.from_array(weights, f"w{index}"))
            nodes.append(helper.make_node("Flatten", [value], [f"f{index}"], name=f"flat{index}"))
            nodes.append(
                helper.make_node("Gemm", [f"f{index}", f"w{index}"], [result], name=f"fc{index}")
            )
        else:
            nodes.append(helper.make_node(operator, [value], [result], name=f"n{index}"))
        value = result
    graph = helper.make_graph(
        nodes, "net",
        [helper.make_tensor_value_info(name, 1, [1, inputs, size, size])],
        [helper.make_tensor_value_info("y", 1, None)],
        constants,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


class Converted:
    """A network converted in a folder, with calibration data."""

    def __init__(self, folder, model, **options):
        self.folder, self.source = folder, folder / "net.onnx"
        onnx.save(model, self.source)
        shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
        self.name = model.graph.input[0].name
        rng = np.random.default_rng(1)
        self.samples = rng.uniform(-1, 1, (8, *shape[1:])).astype(np.float32)
        np.savez(folder / "data.npz", **{self.name: self.samples})
        self.conversion = dlaconv.convert(
            self.source,
            folder / "net.dla.onnx",
            options=Options(calibrate=folder / "data.npz", **options),
        )
        self.report = json.loads((folder / "net.dla.json").read_text())

    @property
    def files(self):
        kept = {"net.onnx", "data.npz"}
        return sorted(path.name for path in self.folder.iterdir() if path.name not in kept)

    def expected(self):
        session = ReferenceEvaluator(onnx.load(self.source))
        rows = [session.run(None, {self.name: x[None]})[0] for x in self.samples]
        return np.concatenate(rows)

    def got(self):
        return dlaconv.run_chain(self.folder / "net.dla.json", {self.name: self.samples})["y"]


def qsnr(expected, got):
    return 10 * np.log10((expected**2).sum() / ((expected - got) ** 2).sum())


def test_an_operator_in_the_middle_goes_to_the_host_when_asked(tmp_path):
    made = Converted(tmp_path, network("conv", "Erf", "conv", "Sin", "fc"), partition=True)
    assert made.files == [
        "net.dla.json", "net.dla.onnx", "net.dla2.onnx", "net.dla3.onnx", "net.host1.onnx",
        "net.host2.onnx",
    ]  # fmt: skip
    assert [part["side"] for part in made.report["parts"]] == ["accelerator", "host"] * 2 + [
        "accelerator"
    ]
    assert [(row["layer"], row["op"]) for row in made.report["host"]] == [
        ("n1", "Erf"), ("n3", "Sin"),
    ]  # fmt: skip
    assert made.report["verification"]["passed"]
    assert qsnr(made.expected(), made.got()) > 25
    macs = [part["macs"] for part in made.report["parts"]]
    assert macs == [64 * C * 27, 0, 64 * C * 9 * C, 0, 64 * C * 10]
    shown = dlaconv.show(tmp_path / "net.dla.json").as_json()
    assert [sum(row["macs"] for row in part["layers"]) for part in shown["parts"]] == macs


def test_every_part_keeps_the_rules_and_belongs_to_the_source(tmp_path):
    made = Converted(tmp_path, network("Sin", "conv", "Erf", "conv", "Softmax"), partition=True)
    assert made.files == [
        "net.dla.json", "net.dla.onnx", "net.dla2.onnx", "net.head.onnx", "net.host1.onnx",
        "net.tail.onnx",
    ]  # fmt: skip
    for part in made.report["parts"]:
        file = tmp_path / part["file"]
        if part["side"] == "host":
            onnx.checker.check_model(onnx.load(file), full_check=True)
            continue
        assert dlaconv.check(file).ok
        found = dlaconv.verify(made.source, file, inputs=tmp_path / "data.npz")
        assert found.passed
        assert found.rows
    alone = [part["file"] for part in made.report["parts"] if part["side"] == "accelerator"]
    found = dlaconv.verify(made.source, tmp_path / "net.dla.json", inputs=tmp_path / "data.npz")
    assert found.passed
    assert {row.about.layer for row in found.rows} >= {"conv1", "conv3"}
    assert len(alone) == 2
    other = tmp_path / "other.onnx"
    onnx.save(network("conv", name="z"), other)
    with pytest.raises(UsageError, match="no graph input 'x'"):
        dlaconv.verify(other, tmp_path / "net.dla.json")


def test_host_parts_are_plain_onnx_in_real_values(tmp_path):
    made = Converted(tmp_path, network("conv", "Erf", "conv"), partition=True)
    host = onnx.load(tmp_path / "net.host1.onnx")
    assert {node.op_type for node in host.graph.node} == {"Erf"}
    assert not host.functions
    assert [entry.domain for entry in host.opset_import] == [""]
    assert {value.type.tensor_type.elem_type for value in host.graph.input} == {1}
    assert made.report["io"]["inputs"][1]["real_step"] > 0


@pytest.mark.parametrize("ending", ["Softmax", "Sigmoid", "LogSoftmax"])
def test_what_ends_a_network_becomes_a_tail_by_default(tmp_path, ending):
    made = Converted(tmp_path, network("conv", "fc", ending))
    assert made.files == ["net.dla.json", "net.dla.onnx", "net.tail.onnx"]
    assert made.report["graph"] == {"inputs": ["x"], "outputs": ["y"]}
    assert qsnr(made.expected(), made.got()) > 15


def test_without_partition_every_node_is_named_in_one_finding(tmp_path):
    with pytest.raises(ConversionError) as caught:
        Converted(tmp_path, network("conv", "Erf", "conv", "Sin", "conv", "Erf"))
    [error] = caught.value.diagnostics.errors
    assert (error.rule, error.location.layer) == ("DLA301", "n1")
    assert "Erf (2 nodes), Sin" in error.message
    assert "--partition" in error.help
    assert len(error.notes) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.npz", "net.onnx"]


def test_no_partition_keeps_even_the_ending(tmp_path):
    with pytest.raises(ConversionError, match=r"DLA301.*Softmax"):
        Converted(tmp_path, network("conv", "fc", "Softmax"), partition=False)
    made = Converted(tmp_path, network("conv", "fc", "Sigmoid"), partition=False)
    assert made.files == ["net.dla.json", "net.dla.onnx"]


def test_a_network_without_a_layer_that_fits_is_refused(tmp_path):
    with pytest.raises(ConversionError) as caught:
        Converted(tmp_path, network("Sin", "Erf"), partition=True)
    assert [item.rule for item in caught.value.diagnostics.errors] == ["DLA320"]


def test_further_models_of_every_part_are_written(tmp_path):
    made = Converted(tmp_path, network("conv", "Erf", "conv"), partition=True, emit=("sim",))
    assert {"net.dla.sim.onnx", "net.dla2.sim.onnx"} <= set(made.files)


def test_no_part_overwrites_an_input(tmp_path):
    model = network("conv", "fc", "Softmax")
    source = tmp_path / "net.tail.onnx"
    onnx.save(model, source)
    np.savez(tmp_path / "data.npz", x=np.zeros((2, 3, 8, 8), np.float32))
    before = source.read_bytes()
    with pytest.raises(UsageError, match="overwrite an input"):
        dlaconv.convert(
            source, tmp_path / "net.dla.onnx", options=Options(calibrate=tmp_path / "data.npz")
        )
    assert source.read_bytes() == before


def detection_head(size=8):
    """Layers of six channels, their maps turned to NHWC, flattened and joined: a detector."""
    model = network("conv", "conv", size=size)
    rng = np.random.default_rng(5)
    model.graph.node[-1].output[0] = "features"
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, -1, 2]), "flat"))
    for index in range(2):
        weights = rng.normal(size=(6, C, 1, 1)).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(weights, f"w_head{index}"))
        head = [
            ("Conv", ["features", f"w_head{index}"], f"head{index}", {}),
            ("Transpose", [f"head{index}"], f"turned{index}", {"perm": [0, 2, 3, 1]}),
            ("Reshape", [f"turned{index}", "flat"], f"flat{index}", {}),
        ]
        model.graph.node.extend(
            helper.make_node(op, inputs, [result], name=result, **attributes)
            for op, inputs, result, attributes in head
        )
    joined = helper.make_node("Concat", ["flat0", "flat1"], ["y"], name="join", axis=1)
    model.graph.node.append(joined)
    return model


def test_what_mixes_unaligned_channels_is_the_hosts_and_not_the_layer_before(tmp_path):
    made = Converted(tmp_path, detection_head(), partition=True)
    assert [row["layer"] for row in made.report["host"]] == [
        "turned0", "flat0", "turned1", "flat1", "join",
    ]  # fmt: skip
    assert made.report["host"][0]["reason"].startswith("IO-3")
    assert made.report["summary"]["macs"]["host"] == 0
    assert qsnr(made.expected(), made.got()) > 20


def test_layers_on_a_map_that_is_too_large_are_the_hosts_until_it_fits(tmp_path):
    model = network("conv", "MaxPool", "conv", "MaxPool", "conv", inputs=1, size=520)
    for node in model.graph.node:
        if node.op_type == "MaxPool":
            node.attribute.extend(
                helper.make_attribute(name, [2, 2]) for name in ("kernel_shape", "strides")
            )
    made = Converted(tmp_path, model, partition=True, verify=False)
    assert [row["layer"] for row in made.report["host"]] == [
        "conv0", "relu0", "n1", "conv2", "relu2",
    ]  # fmt: skip
    assert [part["side"] for part in made.report["parts"]] == ["host", "accelerator"]
    assert {row["reason"][:4] for row in made.report["host"]} <= {"IO-2", "IO-4", "noth"}


def inner_output():
    """A network whose first convolution is an output, too, before its activation."""
    model = network("conv", "conv")
    model.graph.output.insert(0, helper.make_tensor_value_info("c0", 1, None))
    return model


def test_a_layer_that_is_an_output_and_feeds_an_activation_has_a_twin_that_loads(tmp_path):
    """The layer is computed twice; the copies' values need names of their own."""
    made = Converted(tmp_path, inner_output(), emit=("qdq", "sim"))
    for kind in ("qdq", "sim"):
        session = onnxruntime.InferenceSession(str(tmp_path / f"net.dla.{kind}.onnx"))
        assert [item.name for item in session.get_outputs()] == ["c0", "y"]
    assert made.report["verification"]["passed"]


def changed(report, path, value):
    *steps, last = path
    inner = report
    for step in steps:
        inner = inner[step]
    inner[last] = value
    return report


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("parts", 0, "file"), "../net.dla.onnx", "no file beside the report"),
        (("parts", 0, "file"), "/etc/passwd", "no file beside the report"),
        (("parts", 0, "side"), "nobody", "nobody"),
        (("parts", 0, "inputs"), "x", "a list of strings"),
        (("parts", 0, "inputs"), ["z"], "nothing makes z"),
        (("graph", "outputs"), ["z"], "nothing makes z"),
        (("parts",), 3, "TypeError"),
        (("graph",), {}, "KeyError"),
    ],
)
def test_a_report_that_makes_no_sense_is_refused(tmp_path, path, value, words):
    made = Converted(tmp_path, network("conv", "fc", "Softmax"))
    file = tmp_path / "net.dla.json"
    file.write_text(json.dumps(changed(made.report, path, value)))
    with pytest.raises(UnreadableError, match=rf"DLA417(.|\n)*{words}"):
        made.got()


def test_a_missing_part_is_named(tmp_path):
    made = Converted(tmp_path, network("conv", "fc", "Softmax"))
    (tmp_path / "net.tail.onnx").unlink()
    with pytest.raises(UnreadableError, match=r"net\.tail\.onnx"):
        made.got()


def test_the_command_line_runs_a_network_that_was_cut(tmp_path, dlaconv):
    made = Converted(tmp_path, network("conv", "fc", "Softmax"))
    shown = dlaconv(
        "run", tmp_path / "net.dla.json", "--input", tmp_path / "data.npz",
        "-o", tmp_path / "y.npz",
    )  # fmt: skip
    assert shown.code == 0
    assert np.array_equal(np.load(tmp_path / "y.npz")["y"], made.got())


def test_what_padding_makes_of_an_operator_brings_it_to_the_host(tmp_path):
    """A Clip becomes a layer once its part is padded, whose channels are no whole groups."""
    rng = np.random.default_rng(4)
    arrays = {
        "v": rng.normal(size=(C, C, 3, 3)) / 12, "w": rng.normal(size=(8, C, 1, 1)),
        "d": np.ones((8, 1, 1, 1)), "low": 0.0, "high": 6.0,
    }  # fmt: skip
    constants = [
        numpy_helper.from_array(np.asarray(array, np.float32), name)
        for name, array in arrays.items()
    ]
    nodes = [
        helper.make_node("Conv", ["x", "v"], ["c"], name="first", pads=[1] * 4),
        helper.make_node("Conv", ["c", "w"], ["n"], name="narrow"),
        helper.make_node("Clip", ["n", "low", "high"], ["k"], name="clip"),
        helper.make_node("Conv", ["k", "d"], ["e"], name="scale", group=8),
        helper.make_node("Tanh", ["e"], ["t"], name="tanh"),
        helper.make_node("Concat", ["e", "t"], ["y"], name="rows", axis=2),
    ]
    graph = helper.make_graph(
        nodes, "net",
        [helper.make_tensor_value_info("x", 1, [1, C, 6, 6])],
        [helper.make_tensor_value_info("y", 1, None)],
        constants,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    made = Converted(tmp_path, model, partition=True)
    reasons = {row["layer"]: row["reason"] for row in made.report["host"]}
    assert reasons["clip"].startswith("IO-3: map 'clip/conv' has 8 channels")
    assert made.report["verification"]["passed"]
    assert qsnr(made.expected(), made.got()) > 25


def test_the_share_of_the_host_is_that_of_the_rewritten_network(tmp_path):
    """Rewrites add multiplications by zero, on both sides."""
    rng = np.random.default_rng(3)
    weights = {"v": rng.normal(size=(C, C, 3, 3)) / 12, "w": rng.normal(size=(C, C // 4, 3, 3)) / 6}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["g"], name="grouped", strides=[3, 3], group=4),
        helper.make_node("Conv", ["g", "v"], ["y"], name="last", pads=[1] * 4),
    ]
    graph = helper.make_graph(
        nodes, "net",
        [helper.make_tensor_value_info("x", 1, [1, C, 10, 10])],
        [helper.make_tensor_value_info("y", 1, None)],
        [numpy_helper.from_array(a.astype(np.float32), name) for name, a in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    made = Converted(tmp_path, model, partition=True)
    assert [row["layer"] for row in made.report["host"]] == ["grouped"]
    macs = made.report["summary"]["macs"]
    assert macs["source"] == 9 * C * (C + C // 4) * 9
    assert macs["host"] == macs["source"] // 2
