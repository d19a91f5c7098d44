"""Files of the accelerator as sources: what is converted again has the same integers."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import dlaconv
from dlaconv.errors import UserError
from dlaconv.options import Options
from tests import networks
from tests.frontends.builders import save
from tests.frontends.onnx.plain import plain
from tests.fuzz.plain import models as plain_models

Style = networks.Style
QUANTISED = {
    "chain": networks.chain(2, 0, size=8).model,
    "chain, powers of two": networks.chain(2, 1, Style(power_of_two=True), size=8).model,
    "4 bits": networks.chain(2, 2, Style(bits=4, weight_bits=4, unsigned=True), size=8).model,
    "residual": networks.residual(1, 4, Style(shared=False, bias="8"), size=8).model,
    "varied": networks.varied(5, size=8).model,
    "varied, unsigned": networks.varied(6, Style(unsigned=True, per_channel=False), size=8).model,
}
LENIENT = {"allow_violations": True, "samples": 2}


def content(path):
    """Nodes with their attributes, constants, and the ends of the graph."""
    model = renamed(onnx.load(path))
    nodes = [
        (
            node.name, node.op_type, tuple(node.input), tuple(node.output),
            {item.name: helper.get_attribute_value(item) for item in node.attribute},
        )
        for node in model.graph.node
    ]  # fmt: skip
    constants = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    ends = [value.name for value in (*model.graph.input, *model.graph.output)]
    return nodes, constants, ends


def renamed(model):
    """Layers and values by their places: what only moves a map may get another name."""
    ends = {value.name for value in (*model.graph.input, *model.graph.output)}
    names = {name: name for name in ends} | {"": ""}
    for index, node in enumerate(model.graph.node):
        node.name = str(index)
        for values in (node.input, node.output):
            values[:] = [names.setdefault(name, f"value {len(names)}") for name in values]
    for item in model.graph.initializer:
        item.name = names[item.name]
    return model


def assert_same(one, other):
    (nodes, constants, ends), (nodes_too, constants_too, ends_too) = content(one), content(other)
    assert nodes == nodes_too
    assert ends == ends_too
    assert constants.keys() == constants_too.keys()
    for name, array in constants.items():
        assert np.array_equal(array, constants_too[name]), name


def twice(folder, model, **options):
    """A network converted, and what was written converted again."""
    source = save(folder, model)
    once, again = folder / "once.onnx", folder / "again.onnx"
    dlaconv.convert(source, once, options=Options(**LENIENT, **options))
    options.pop("calibrate", None)
    return once, again, dlaconv.convert(
        once, again, frontend="onnx", options=Options(**LENIENT, **options)
    )  # fmt: skip


@pytest.mark.parametrize("name", QUANTISED)
@pytest.mark.parametrize(
    "options",
    [{}, {"convention": "int-per-real"}, {"unsigned_maps": True}, {"policy": "mse"}],
    ids=["absorb", "int-per-real", "unsigned", "mse"],
)
def test_what_is_converted_again_has_the_same_integers(tmp_path, name, options):
    once, again, found = twice(tmp_path, QUANTISED[name], **options)
    if "policy" in options:  # the one that keeps integers
        found = dlaconv.convert(once, again, frontend="onnx", options=Options(**LENIENT))
    assert_same(once, again)
    assert found.report["verification"]["passed"]
    assert not found.report["rewrites"]
    for row in found.report["verification"]["maps"]:
        # the source is computed in float32, which may put a sum beside a tie
        assert row["local"]["differing"] <= row["local"]["count"] / 100, row


@pytest.mark.parametrize("name", plain_models())
def test_every_kind_of_plain_source_too(tmp_path, name):
    try:
        once, again, _ = twice(tmp_path, plain_models()[name], calibrate="random")
    except UserError:
        pytest.skip("the hardware cannot run it whole")
    assert_same(once, again)


def annotated(folder, **attributes):
    """A float network all of whose nodes carry attributes, and the network itself."""
    random = np.random.default_rng(0)
    nodes = [
        ("Conv", ["x", "w", "b"], ["a"], {"pads": [1] * 4, "kernel_shape": [3, 3]}),
        ("Relu", ["a"], ["y"]),
    ]
    constants = {"w": random.normal(size=(16, 16, 3, 3)), "b": random.normal(size=16)}
    model = plain(nodes, {n: a.astype(np.float32) for n, a in constants.items()},
                  {"x": [1, 16, 8, 8]})  # fmt: skip
    bare = save(folder, model)
    for node in model.graph.node:
        node.attribute.extend(helper.make_attribute(*item) for item in attributes.items())
    path = folder / "annotated.onnx"
    onnx.save(model, path)
    return bare, path


def test_bit_depths_without_scales_are_noted_and_the_network_is_quantised_here(tmp_path):
    """The guide's demo gives every node weight_bit and activation_bit."""
    bare, path = annotated(tmp_path, weight_bit=8, activation_bit=8)
    options = Options(calibrate="random", **LENIENT)
    plainly = dlaconv.convert(bare, tmp_path / "bare.dla.onnx", options=options)
    found = dlaconv.convert(path, tmp_path / "demo.dla.onnx", options=options)
    assert_same(tmp_path / "bare.dla.onnx", tmp_path / "demo.dla.onnx")
    [note] = [item for item in found.diagnostics if item.rule == "DLA125"]
    assert "activation_bit=8, weight_bit=8" in note.message
    assert note.severity == "note"
    assert not [item for item in plainly.diagnostics if item.rule == "DLA125"]


def test_without_calibration_such_a_network_is_asked_for_it(tmp_path):
    _, path = annotated(tmp_path, weight_bit=8, activation_bit=8)
    with pytest.raises(UserError) as caught:
        dlaconv.convert(path, tmp_path / "net.dla.onnx")
    assert "--calibrate" in str(caught.value)
    assert not (tmp_path / "net.dla.onnx").exists()


@pytest.mark.parametrize("convention", ["guide", "int-per-real"])
def test_a_file_that_says_nothing_of_who_made_it_is_read_by_its_attributes(tmp_path, convention):
    source = save(tmp_path, QUANTISED["chain"])
    once = tmp_path / "once.onnx"
    options = Options(convention=convention, **LENIENT)
    dlaconv.convert(source, once, options=options)
    model = onnx.load(once)
    del model.metadata_props[:]
    for node in model.graph.node:  # and with the demo's name of a bit depth
        for item in node.attribute:
            if item.name == "weight_bitdepth":
                item.name = "weight_bit"
    onnx.save(model, tmp_path / "foreign.onnx")
    dlaconv.convert(tmp_path / "foreign.onnx", tmp_path / "again.onnx", options=options)
    assert_same(once, tmp_path / "again.onnx")


def test_a_file_can_be_converted_to_the_other_convention(tmp_path):
    source = save(tmp_path, QUANTISED["chain, powers of two"])
    options = Options(convention="int-per-real", **LENIENT)
    once, other, direct = (tmp_path / name for name in ("once.onnx", "other.onnx", "direct.onnx"))
    dlaconv.convert(source, once, options=Options(**LENIENT))
    dlaconv.convert(once, other, options=options)
    dlaconv.convert(source, direct, options=options)
    assert_same(other, direct)


def test_scales_that_contradict_the_format_are_refused_by_the_file_s_own_rules(tmp_path):
    source = save(tmp_path, QUANTISED["chain"])
    once = tmp_path / "once.onnx"
    dlaconv.convert(source, once, options=Options(**LENIENT))
    model = onnx.load(once)
    for node in model.graph.node:
        for item in node.attribute:
            if item.name == "output_scale":
                item.f = 0.3
    onnx.save(model, once)
    with pytest.raises(UserError) as caught:
        dlaconv.convert(once, tmp_path / "again.onnx")
    assert "SC-1" in {item.rule for item in caught.value.diagnostics.errors}
    assert not (tmp_path / "again.onnx").exists()


def test_what_the_host_had_to_convert_is_warned_of(tmp_path):
    _, _, found = twice(tmp_path, QUANTISED["chain"], io="absorb")
    [warning] = [item for item in found.diagnostics if item.rule == "DLA210"]
    assert "'input'" in warning.message
    once, again, found = twice(tmp_path, QUANTISED["chain"])
    assert not [item for item in found.diagnostics if item.rule == "DLA210"]
    assert_same(once, again)
    assert dlaconv.verify(once, again, samples=2).passed
