"""Channels-last networks: the host turns what they take and return, without any option."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

import dlaconv
from dlaconv.driver.reading import load_target
from dlaconv.driver.turning import turned
from dlaconv.errors import ConversionError, UsageError
from tests.core.test_partition import Converted, qsnr


def channels_last(*, size=8, channels=3, returned=3, quantised=False):
    """Two convolutions between Transposes; maps are [1, H, W, C] at both ends."""
    rng = np.random.default_rng(5)
    widths = [channels, 16, returned]
    constants = [
        numpy_helper.from_array(
            (rng.normal(size=(out, inputs, 3, 3)) / np.sqrt(9 * inputs)).astype(np.float32), name
        )
        for name, inputs, out in (("w1", *widths[:2]), ("w2", *widths[1:]))
    ]
    nodes = []
    fed = "image"
    if quantised:
        constants += [
            numpy_helper.from_array(np.float32(1 / 64), "step"),
            numpy_helper.from_array(np.int8(0), "zero"),
        ]
        nodes = [
            helper.make_node("QuantizeLinear", ["image", "step", "zero"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["dq"]),
        ]
        fed = "dq"
    nodes += [
        helper.make_node("Transpose", [fed], ["t"], name="in", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["t", "w1"], ["c1"], name="conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], name="conv2", pads=[1, 1, 1, 1]),
        helper.make_node("Transpose", ["c2"], ["y"], name="out", perm=[0, 2, 3, 1]),
    ]
    graph = helper.make_graph(
        nodes, "net",
        [helper.make_tensor_value_info("image", 1, [1, size, size + 2, channels])],
        [helper.make_tensor_value_info("y", 1, None)],
        constants,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=8)


@pytest.fixture(params=["float", "quantised"])
def made(request, tmp_path):
    return Converted(tmp_path, channels_last(quantised=request.param == "quantised"))


def test_the_accelerator_gets_maps_in_nchw_and_the_chain_those_of_the_source(made):
    assert made.files == ["net.dla.json", "net.dla.onnx", "net.head.onnx"]
    [fed] = made.report["io"]["inputs"]
    assert (fed["layout"], fed["shape"]) == ("NCHW", [1, 3, 8, 10])
    assert "round(image.transpose(0, 3, 1, 2) / " in fed["feed"]
    assert made.got().shape == (8, 8, 10, 3)
    assert qsnr(made.expected(), made.got()) > 25
    assert not dlaconv.check(made.folder / "net.dla.onnx").diagnostics.errors


def fed_by_the_words(port, image):
    """What the io contract says in numpy's terms, done."""
    words = port["feed"].removeprefix("int8 = ")
    return eval(words, {"round": np.round, "clip": np.clip, "image": image})


def test_the_words_of_the_contract_do_what_the_head_does(tmp_path):
    made = Converted(tmp_path, channels_last(quantised=True))
    [port] = made.report["io"]["inputs"]
    head = ort.InferenceSession(str(tmp_path / "net.head.onnx"))
    for sample in made.samples:
        [values] = head.run(None, {"image": sample[None]})
        assert np.array_equal(fed_by_the_words(port, sample[None]), values * 64)


def test_words_leave_out_no_rounding_of_the_source(tmp_path):
    model = channels_last(quantised=True)
    [step] = [item for item in model.graph.initializer if item.name == "step"]
    step.CopyFrom(numpy_helper.from_array(np.float32(0.01), "step"))
    [port] = Converted(tmp_path, model).report["io"]["inputs"]
    assert port["real_step"] != 0.01
    assert "round(x / " in port["feed"]


def test_the_file_for_the_accelerator_takes_arrays_of_the_source(tmp_path):
    made = Converted(tmp_path, channels_last(quantised=True))
    file = tmp_path / "net.dla.onnx"
    [fed] = made.report["io"]["inputs"]
    [wanted] = dlaconv.run(file, {fed["name"]: made.samples.transpose(0, 3, 1, 2)}).values()
    for name in ("q", "image", "x"):
        [got] = dlaconv.run(file, {name: made.samples}).values()
        assert np.array_equal(got, wanted)
    labels = {"x": made.samples, "labels": np.zeros(8)}
    assert np.array_equal(next(iter(dlaconv.run(file, labels).values())), wanted)


def test_an_array_that_fits_both_layouts_is_taken_as_the_files(tmp_path):
    model = channels_last(size=3, quantised=True)
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 3
    made = Converted(tmp_path, model)
    [fed] = made.report["io"]["inputs"]
    [wanted] = dlaconv.run(tmp_path / "net.dla.onnx", {fed["name"]: made.samples}).values()
    [got] = dlaconv.run(tmp_path / "net.dla.onnx", {"x": made.samples}).values()
    assert np.array_equal(got, wanted)
    [named] = dlaconv.run(tmp_path / "net.dla.onnx", {"q": made.samples}).values()
    assert not np.array_equal(named, wanted)


def test_an_array_that_fits_no_layout_is_refused(made):
    with pytest.raises(UsageError, match="shape"):
        dlaconv.run(made.folder / "net.dla.onnx", {"x": made.samples.transpose(0, 2, 3, 1)})


def test_the_file_for_the_accelerator_belongs_to_the_source(made):
    file = made.folder / "net.dla.onnx"
    for inputs in (None, made.folder / "data.npz"):
        found = dlaconv.verify(made.source, file, inputs=inputs)
        assert found.passed
        assert [row.about.layer for row in found.rows][-1] == "conv2"
    rows = {
        row["layer"]: row
        for row in dlaconv.compare(made.source, file, made.folder / "data.npz").layers
    }
    assert rows["conv1"]["isolated"]["qsnr_db"] > 25


def test_all_parts_of_a_network_are_verified_with_one_call(made):
    report = made.folder / "net.dla.json"
    for inputs in (None, made.folder / "data.npz"):
        found = dlaconv.verify(made.source, report, inputs=inputs)
        assert found.passed
        assert {"conv1", "conv2"} <= {row.about.layer for row in found.rows}
    assert found.samples == 8


def test_parts_of_a_source_with_a_fixed_batch_are_verified_on_single_samples(tmp_path):
    model = channels_last()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    made = Converted(tmp_path, model, shapes={"image": (1, 8, 10, 3)})
    for file in ("net.dla.onnx", "net.dla.json"):
        assert dlaconv.verify(made.source, tmp_path / file).passed


def test_the_comparison_of_a_conversion_is_with_the_source_itself(made):
    assert made.report["verification"]["passed"]
    layers = {row["layer"] for row in made.report["verification"]["maps"]}
    assert {"conv1", "conv2"} <= layers


def test_layers_in_another_layout_are_ranked(tmp_path):
    made = Converted(tmp_path, channels_last())
    options = dlaconv.Options(calibrate=tmp_path / "data.npz")
    found = dlaconv.sensitivity(made.source, options=options)
    noise = {row["layer"]: row["only"]["noise"] for row in found.layers}
    assert set(noise) == {"conv1", "conv2"}
    assert all(0 < value < 0.01 for value in noise.values())


def test_no_partition_refuses_what_the_accelerator_cannot_turn(tmp_path):
    with pytest.raises(ConversionError, match="IO-3"):
        Converted(tmp_path, channels_last(), partition=False)
    assert not (tmp_path / "net.dla.onnx").exists()


def test_aligned_channels_stay_with_the_accelerator(tmp_path):
    made = Converted(tmp_path, channels_last(channels=16, returned=16))
    assert made.files == ["net.dla.json", "net.dla.onnx"]
    assert made.report["io"]["inputs"][0]["layout"] == "NHWC"


def test_what_the_host_does_inside_a_network_is_still_asked_for(tmp_path):
    model = channels_last()
    at = [node.name for node in model.graph.node].index("conv2")
    model.graph.node.insert(at, helper.make_node("Erf", ["r1"], ["e"], name="erf"))
    model.graph.node[at + 1].input[0] = "e"
    with pytest.raises(ConversionError, match="Erf"):
        Converted(tmp_path, model)


def test_a_network_that_may_break_rules_keeps_its_layout(tmp_path):
    made = Converted(tmp_path, channels_last(), allow_violations=True)
    assert made.files == ["net.dla.json", "net.dla.onnx"]
    assert made.report["io"]["inputs"][0]["layout"] == "NHWC"


@pytest.mark.parametrize("channels", [1, 3])
def test_the_host_turns_images_for_a_reason_that_names_layouts(tmp_path, channels):
    made = Converted(tmp_path, channels_last(channels=channels, quantised=channels == 1))
    [row] = made.report["host"]
    assert row["reason"] == (
        "the input is turned from NHWC to NCHW, which the accelerator only does for multiples of "
        "16 channels (IO-3)"
    )


def test_a_result_that_the_host_turns_is_called_an_output():
    model = ir.from_proto(onnx.shape_inference.infer_shapes(channels_last()))
    reasons = {"t": "IO-3: too few", "y": "IO-3: too few", "c2": "IO-3: too few", "r1": "CV-1: big"}
    found = turned(model, reasons, load_target(None))
    assert {name: reason.split(", ")[0] for name, reason in found.items()} == {
        "t": "the input is turned from NHWC to NCHW",
        "y": "the output is turned from NCHW to NHWC",
    }


def test_findings_name_the_network_s_own_input(tmp_path):
    """Values that a power of two does not hold, and no data at all."""
    network = channels_last()
    network.graph.node[0].output[0] = network.graph.node[1].input[0] = "image/layout_0_3_1_2"
    images = Converted(tmp_path, network).samples
    images[:, 0, 0] = 1.0
    model, target = tmp_path / "net.onnx", tmp_path / "again.dla.onnx"
    options = dlaconv.Options(calibrate=list(images[:, None]))
    [found] = [
        item
        for item in dlaconv.convert(model, target, options=options).diagnostics
        if item.rule == "DLA211"
    ]
    assert "graph input 'image' lie beyond" in found.message
    assert (found.location.layer, found.location.op) == ("image", "")
    assert "--scale-policy ceil" in found.help
    ceiled = dlaconv.Options(calibrate=list(images[:, None]), policy="ceil")
    again = dlaconv.convert(model, target, options=ceiled)
    assert "DLA211" not in {item.rule for item in again.diagnostics}
    with pytest.raises(ConversionError) as caught:
        dlaconv.convert(model, target)
    [lacking] = [item for item in caught.value.diagnostics if item.rule == "DLA205"]
    assert "'image'" in lacking.message
    assert "layout" not in lacking.message
