"""``dlaconv strip``: what is left is valid ONNX with the same weights."""

import json

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

import dlaconv
from dlaconv.backends.access.decoding import CONVENTIONS
from dlaconv.backends.access.standard_form import private_attributes
from dlaconv.errors import ConversionError, UnreadableError, UsageError
from dlaconv.ir.target import Target
from dlaconv.options import Options
from tests.core.test_schemas import validate
from tests.networks import Style, chain, convolve, varied

TARGET = Target.load()


@pytest.fixture
def file(tmp_path):
    """A converted chain of two convolutions."""
    return converted(tmp_path, chain(2, 0))


def converted(folder, built, **options):
    source, output = folder / "net.onnx", folder / "net.dla.onnx"
    onnx.save(built.model, source)
    chosen = Options(verify=False, allow_violations=True, **options)
    dlaconv.convert(source, output, options=chosen)
    return output


def attributes(path):
    return {item.name for node in onnx.load(path).graph.node for item in node.attribute}


def rewritten(path, change):
    """Saves a file with something changed."""
    model = onnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_it_runs_anywhere_and_computes_with_the_stored_weights(tmp_path, convention):
    file = converted(tmp_path, chain(2, 0, Style(power_of_two=True)), convention=convention)
    output = tmp_path / "net.plain.onnx"
    dlaconv.strip(file, output)
    onnx.checker.check_model(str(output), full_check=True)
    first, second = (node for node in onnx.load(file).graph.node if node.op_type == "Conv")
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(file).graph.initializer}
    x = np.random.default_rng(0).normal(size=(1, 3, 12, 12)).astype(np.float32)
    wanted = convolve(x, stored[first.input[1]], 1, 1, 1) + stored[first.input[2]][:, None, None]
    wanted = convolve(np.maximum(wanted, 0), stored[second.input[1]], 1, 1, 1)
    wanted = wanted + stored[second.input[2]][:, None, None]
    (got,) = onnxruntime.InferenceSession(output).run(None, {"input": x})
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)
    scales = {a.name: a for a in first.attribute}["weight_ch_scales"].floats
    column = np.array(scales, np.float64).reshape(-1, 1, 1, 1)
    units = stored[first.input[1]].astype(np.float64)
    units = units / column if convention == "guide" else units * column
    assert np.abs(units - np.rint(units)).max() < 1e-3


def test_nothing_but_the_attributes_and_the_convention_goes(file, tmp_path):
    output = tmp_path / "net.plain.onnx"
    stripped = dlaconv.strip(file, output)
    before, after = onnx.load(file), onnx.load(output)
    private = private_attributes(TARGET)
    assert attributes(file) & private == set(stripped.removed)
    assert not attributes(output) & private
    for node in before.graph.node:
        kept = [item for item in node.attribute if item.name not in private]
        del node.attribute[:]
        node.attribute.extend(kept)
    metadata = {entry.key: entry.value for entry in before.metadata_props}
    assert metadata.pop("dlaconv.scale_convention") == "guide"
    assert {entry.key: entry.value for entry in after.metadata_props} == metadata
    assert (before.ir_version, before.opset_import) == (after.ir_version, after.opset_import)
    assert list(before.graph.node) == list(after.graph.node)
    assert sorted(t.name for t in before.graph.initializer) == sorted(
        t.name for t in after.graph.initializer
    )


def test_every_operator_of_a_mixed_network_is_stripped(tmp_path):
    file = converted(tmp_path, varied(0))
    stripped = dlaconv.strip(file, tmp_path / "net.plain.onnx")
    layers = [node for node in onnx.load(file).graph.node if node.op_type in {"Conv", "Gemm"}]
    assert stripped.removed["weight_ch_scales"] == len(layers) > 5
    assert stripped.removed["output_scale"] == len(onnx.load(file).graph.node)
    onnx.checker.check_model(str(tmp_path / "net.plain.onnx"), full_check=True)
    onnxruntime.InferenceSession(tmp_path / "net.plain.onnx")


@pytest.mark.parametrize(
    "name", ["weight_bit", "activation_bit", "weight_scale", "left_scale", "input_scales",
             "B_quant_dim", "const_bitdepth", "slopes_scale"],
)  # fmt: skip
def test_names_of_other_hands_are_taken_away_too(file, tmp_path, name):
    def mark(model):
        model.graph.node[0].attribute.append(onnx.helper.make_attribute(name, [0.5, 0.25]))

    stripped = dlaconv.strip(rewritten(file, mark), tmp_path / "net.plain.onnx")
    assert stripped.removed[name] == 1
    assert name not in attributes(tmp_path / "net.plain.onnx")


def test_a_file_of_others_is_stripped_whatever_its_scales_say(tmp_path):
    weights = onnx.numpy_helper.from_array(np.full((16, 3, 1, 1), 0.3, np.float32), "w")
    node = onnx.helper.make_node(
        "Conv", ["x", "w"], ["y"], weight_ch_scales=[814.1691] * 16, input_scale=16.0,
        output_scale=-1.0, output_bitdepth=16,
    )  # fmt: skip
    graph = onnx.helper.make_graph(
        [node], "field",
        [onnx.helper.make_tensor_value_info("x", 1, [1, 3, 4, 4])],
        [onnx.helper.make_tensor_value_info("y", 1, [1, 16, 4, 4])], [weights],
    )  # fmt: skip
    opset = [onnx.helper.make_opsetid("", 18)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=9)
    path = tmp_path / "field.onnx"
    path.write_bytes(model.SerializeToString())
    dlaconv.strip(path, tmp_path / "plain.onnx")
    after = onnx.load(tmp_path / "plain.onnx")
    assert (after.ir_version, after.opset_import[0].version) == (9, 18)
    onnx.checker.check_model(after, full_check=True)


def test_private_attributes_inside_a_subgraph_go_too(file, tmp_path):
    inner = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["input"], ["r"], output_scale=0.5)], "then", [],
        [onnx.helper.make_tensor_value_info("r", 1, None)],
    )  # fmt: skip

    def branch(model):
        condition = onnx.numpy_helper.from_array(np.array(True), "yes")
        model.graph.initializer.append(condition)
        node = onnx.helper.make_node("If", ["yes"], ["z"], then_branch=inner, else_branch=inner)
        model.graph.node.append(node)

    before = dlaconv.strip(file, tmp_path / "a.onnx").removed["output_scale"]
    after = dlaconv.strip(rewritten(file, branch), tmp_path / "b.onnx").removed["output_scale"]
    assert after == before + 2


def test_attributes_of_a_target_of_one_s_own(file, tmp_path):
    from importlib.resources import files

    data = json.loads(files("dlaconv.schemas").joinpath("access-1.2.0.json").read_text("utf-8"))
    data["deprecated_attributes"].append("my_shift")
    target = tmp_path / "mine.json"
    target.write_text(json.dumps(data))

    def mark(model):
        model.graph.node[0].attribute.append(onnx.helper.make_attribute("my_shift", 3))

    rewritten(file, mark)
    with pytest.raises(UnreadableError, match="my_shift"):
        dlaconv.strip(file, tmp_path / "plain.onnx")
    assert dlaconv.strip(file, tmp_path / "plain.onnx", target=target).removed["my_shift"] == 1


# Refusals; nothing is written then


def test_plain_onnx_has_nothing_to_strip(file, tmp_path):
    plain, again = tmp_path / "plain.onnx", tmp_path / "again.onnx"
    dlaconv.strip(file, plain)
    with pytest.raises(ConversionError, match=r"DLA415.*no operator of the file carries"):
        dlaconv.strip(plain, again)
    assert not again.exists()


def test_a_file_that_is_invalid_even_so_is_refused(file, tmp_path):
    def mistype(model):
        model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 17

    output = tmp_path / "plain.onnx"
    with pytest.raises(ConversionError, match="DLA416"):
        dlaconv.strip(rewritten(file, mistype), output)
    assert not output.exists()
    assert not list(tmp_path.glob(".dlaconv*"))


def test_input_and_target_are_never_overwritten(file, tmp_path):
    before = file.read_bytes()
    with pytest.raises(UsageError, match="DLA421"):
        dlaconv.strip(file, file)
    assert file.read_bytes() == before
    with pytest.raises(UsageError, match="does not exist"):
        dlaconv.strip(file, tmp_path / "missing" / "plain.onnx")


@pytest.mark.parametrize("content", [b"", b"not ONNX", b"\x08\x07"])
def test_what_is_no_model_is_unreadable(tmp_path, content):
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    with pytest.raises(UnreadableError):
        dlaconv.strip(path, tmp_path / "plain.onnx")


# The command


def test_the_command_says_what_it_took_away(dlaconv, file, tmp_path):
    output = tmp_path / "plain.onnx"
    shown = dlaconv("strip", file, "-o", output, "--json")
    assert shown.code == 0
    document = json.loads(shown.out)
    validate("strip", document)
    assert (document["file"], document["output"]) == (str(file), str(output))
    assert document["removed"]["weight_ch_scales"] == 2
    shown = dlaconv("strip", file, "-o", output)
    assert "weight_ch_scales (2x)" in shown.out
    assert ir.load(output).graph.name == ir.load(file).graph.name


def test_the_command_refuses_plain_onnx(dlaconv, file, tmp_path):
    plain = tmp_path / "plain.onnx"
    assert dlaconv("strip", file, "-o", plain).code == 0
    shown = dlaconv("strip", plain, "-o", tmp_path / "again.onnx", "--json")
    assert shown.code == 1
    assert json.loads(shown.out)["diagnostics"][0]["rule"] == "DLA415"
