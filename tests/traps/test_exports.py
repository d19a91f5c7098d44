"""Files that say something else than their network: what can be recognised is said by name."""

import json

import numpy as np
import pytest
from onnx import TensorProto, helper

import dlaconv
from tests.frontends.builders import QONNX, load, network, parameters, quant, random, rules, save
from tests.frontends.qonnx.reference import int_quant
from tests.traps.support import IMAGE, conv2d, grid, hardware, refusals

STEP, WEIGHT, RESULT = 2.0**-5, 2.0**-7, 2.0**-3
RAW = random(4, 3, 3, 3, seed=1, spread=0.2)
X = grid(4, 3, 8, 8, step=STEP, seed=9)


def exported(weights=RAW, *, mode="ROUND", producer="pytorch", bits=8, layers=1, **more):
    """What Brevitas exports: Conv layers with quantised weights and bias between quantisers."""
    nodes = [quant("x", "m0", rounding_mode=mode)]
    given = {
        "w0": np.asarray(weights, np.float32), "ws": np.float32(WEIGHT), "wb": np.float32(bits),
        "v": random(4, seed=3, spread=0.1), "vs": np.float32(STEP * WEIGHT),
        "rs": np.float32(RESULT), "b16": np.float32(16), **more,
    }  # fmt: skip
    for layer in range(layers):
        if layer:
            given[f"w{layer}"] = random(4, 4, 1, 1, seed=layer)
        nodes += [
            quant(f"w{layer}", f"wq{layer}", "ws", "wz" if "wz" in more else "z", "wb", narrow=1),
            quant("v", f"vq{layer}", "vs", bits="b16"),
            ("Conv", [f"m{layer}", f"wq{layer}", f"vq{layer}"], [f"c{layer}"]),
            quant(f"c{layer}", f"m{layer + 1}", "rs", rounding_mode=mode),
        ]
    model = network(nodes, parameters(scale=STEP) | given, IMAGE, outputs=[f"m{layers}"])
    model.producer_name, model.producer_version = producer, "2.13.0"
    return model


def said(folder, model):
    """Severity and rule of what is said about weights, with the message."""
    found = load(folder, model).diagnostics
    return [(str(item.severity), item.rule, item.message) for item in found]


def test_unrounded_weights_of_brevitas_are_noted_by_name(tmp_path):
    """Brevitas writes ROUND for floor and round_to_zero weights too; the file cannot tell.

    Byte for byte it is the file of a quantiser that rounds to nearest, so one note is all there is.
    """
    ((severity, rule, message),) = said(tmp_path, exported(layers=2))
    assert (severity, rule) == ("note", "DLA119")
    assert "'quant_wq0', 'quant_wq1'" in message
    (found,) = load(tmp_path, exported()).diagnostics
    assert "merge_quant_weights" in found.help
    assert "dlaconv run" in found.help


def test_the_note_reaches_the_report_and_changes_no_number(tmp_path):
    """What the file says is converted."""
    got = hardware(tmp_path, exported(), x=X)
    assert "DLA119" in got.warned
    kept, bias = (
        int_quant(RAW, WEIGHT, 0, 8, narrow=1),
        int_quant(random(4, seed=3, spread=0.1), STEP * WEIGHT, 0, 16),
    )
    expected = int_quant(conv2d(X, kept, bias).astype(np.float32), RESULT, 0, 8)
    assert np.array_equal(got.outputs["m1"], expected)


@pytest.mark.parametrize("mode", ["floor", "ceil", "round_to_zero", "dpu", "UP"])
def test_maps_that_round_otherwise_make_it_a_warning(tmp_path, mode):
    """Whoever sets the rounding of activations has set that of weights, likely enough."""
    ((severity, rule, message),) = said(tmp_path, exported(mode=mode))
    assert (severity, rule) == ("warning", "DLA119")
    names = {"round_to_zero": "down", "dpu": "half-dpu", "UP": "up"}
    assert f"round with {names.get(mode, mode)}" in message


def test_a_long_list_of_layers_is_cut(tmp_path):
    ((_, _, message),) = said(tmp_path, exported(layers=9))
    assert "'quant_wq5' and 3 more" in message


@pytest.mark.parametrize("step", [2.0**-7, 0.00371, 1 / 127, 0.3])
@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_rounded_weights_are_beyond_doubt(tmp_path, step, bits):
    """Weights on their grid round to themselves in every mode, up to float32's last bits."""
    integers = np.random.default_rng(bits).integers(1 - 2 ** (bits - 1), 2 ** (bits - 1), RAW.shape)
    weights = integers.astype(np.float32) * np.float32(step)
    assert said(tmp_path, exported(weights, bits=bits, ws=np.float32(step))) == []


def test_rounded_weights_with_scales_and_zero_points_per_channel_are_beyond_doubt(tmp_path):
    column = (4, 1, 1, 1)
    steps = np.array([0.1, 0.2, 0.03, 0.7], np.float32).reshape(column)
    zeros = np.array([0, 3, -5, 1], np.float32).reshape(column)
    integers = np.random.default_rng(1).integers(-100, 100, RAW.shape).astype(np.float32)
    model = exported((integers - zeros) * steps, ws=steps, wz=zeros)
    assert said(tmp_path, model) == []
    model = exported((integers - zeros + 0.3) * steps, ws=steps, wz=zeros)
    assert [rule for _, rule, _ in said(tmp_path, model)] == ["DLA119"]


def test_one_unrounded_weight_is_enough(tmp_path):
    weights = np.round(RAW / WEIGHT) * WEIGHT
    weights[2, 1, 0, 2] += WEIGHT / 4
    assert [rule for _, rule, _ in said(tmp_path, exported(weights))] == ["DLA119"]


@pytest.mark.parametrize("producer", ["tf2onnx", "keras2onnx", "", "qonnx"])
def test_exporters_that_mean_what_they_write_are_believed(tmp_path, producer):
    """QKeras weights come unrounded as well, and are rounded to nearest even there."""
    assert said(tmp_path, exported(producer=producer)) == []


def test_signs_have_no_rounding_to_doubt(tmp_path):
    """Binary weights are raw floats in every file."""
    assert said(tmp_path, exported(bits=1)) == []


def annotated(model, quantiser, scopes="['', 'block.conv', 'block.conv.weight_quant', 'x']"):
    """Metadata as torch's exporter writes them on the quantisers of weights."""
    for node in model.graph.node:
        if node.name.startswith("quant_wq"):
            classes = [
                "brevitas.nn.quant_conv.QuantConv2d",
                f"brevitas.proxy.{quantiser}FromInjector",
            ]
            node.metadata_props.add(key="pkg.torch.onnx.class_hierarchy", value=str(classes))
            node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=scopes)
    return model


@pytest.mark.parametrize(
    "kind", ["DecoupledWeightQuantProxy", "DecoupledWeightQuantWithInputProxy"]
)
def test_weights_that_the_export_forgot_to_normalise_are_warned_about(tmp_path, kind):
    """Weight normalisation and A2Q scale the weights first; their classes are in the metadata."""
    model = annotated(exported(), f"parameter_quant.{kind}")
    ((severity, rule, message),) = said(tmp_path, model)
    assert (severity, rule) == ("warning", "DLA120")
    assert "'block.conv'" in message


def test_weights_that_were_merged_before_the_export_are_beyond_doubt(tmp_path):
    """The class stays in the metadata; the weights are on their grid."""
    model = exported(np.round(RAW / WEIGHT) * WEIGHT)
    assert said(tmp_path, annotated(model, "parameter_quant.DecoupledWeightQuantProxy")) == []


def test_layers_are_named_as_in_the_model_that_was_exported(tmp_path):
    """Node names of the dynamo exporter (node__symbolic_3) mean nothing to anybody."""
    ((_, _, message),) = said(tmp_path, annotated(exported(), "parameter_quant.WeightQuantProxy"))
    assert "'block.conv'" in message
    broken = annotated(exported(), "parameter_quant.WeightQuantProxy", scopes="{\"'.weight_quant")
    ((_, _, message),) = said(tmp_path, broken)
    assert "'quant_wq0'" in message


# Other dialects and leftovers of other tools.

FOREIGN = {
    "FloatQuant": (QONNX, ["q", "s", "s", "s", "s", "s"]),
    "MultiThreshold": ("finn.custom_op.general", ["q", "s"]),
    "QuantAvgPool2d": (QONNX, ["q"]),
    "XnorPopcountMatMul": (QONNX, ["q", "q"]),
    "Im2Col": ("finn.custom_op.general", ["q"]),
    "MaxPoolNHWC": (QONNX, ["q"]),
    "QuantLSTMCell": ("onnx.brevitas", ["q"]),
    "GenericPartition": ("finn.custom_op.general", ["q"]),
    "StreamingFCLayer_Batch": ("finn.custom_op.fpgadataflow", ["q"]),
    "DebugMarker": (QONNX, ["q"]),
}


def test_every_foreign_operator_of_a_file_is_named_in_one_run(tmp_path):
    """Float quantisers, FINN's thresholds and hardware blocks: each with what to do instead."""
    nodes = [quant("x", "q")]
    for op, (domain, inputs) in FOREIGN.items():
        nodes.append(helper.make_node(op, inputs, [f"{op}_out"], name=f"the_{op}", domain=domain))
    model = network(nodes, parameters(), outputs=[f"{op}_out" for op in FOREIGN], domains=())
    found = refusals(tmp_path, model)
    assert {error.location.layer for error in found} == {f"the_{op}" for op in FOREIGN}
    assert {error.rule for error in found} == {"DLA102"}
    assert all(error.help for error in found)


def test_two_styles_of_quantisation_in_one_file_are_refused(tmp_path):
    """qonnx-convert leaves 16-bit biases and Trunc behind when it writes QDQ."""
    nodes = [
        quant("x", "a"),
        ("QuantizeLinear", ["a", "s"], ["q"]),
        ("DequantizeLinear", ["q", "s"], ["y"]),
    ]
    found = refusals(tmp_path, network(nodes, parameters()))
    assert [error.rule for error in found] == ["DLA115", "DLA115"]
    assert "qonnx-convert" in found[0].help


def test_a_qdq_file_is_no_qonnx_file(tmp_path):
    """export_onnx_qcdq: Clip bounds and integer weights are another format's business."""
    nodes = [("QuantizeLinear", ["x", "s"], ["q"]), ("DequantizeLinear", ["q", "s"], ["y"])]
    path = save(tmp_path, network(nodes, {"s": np.float32(0.5)}, domains=()))
    imported = dlaconv.load(path, "qonnx")
    assert rules(imported.diagnostics) == ["DLA101"]
    assert "from-onnx" in imported.diagnostics.errors[0].help


def test_data_that_an_exporter_left_beside_the_file_are_not_read(tmp_path):
    """The dynamo exporter leaves X.onnx.data behind though X.onnx holds all weights."""
    (tmp_path / "net.onnx.data").write_bytes(b"\xff" * 4096)
    (tmp_path / "net.dla.onnx.data").write_bytes(b"\xff" * 4096)
    got = hardware(tmp_path, exported(np.round(RAW / WEIGHT) * WEIGHT), x=X)
    assert np.isfinite(got.outputs["m1"]).all()
    assert (tmp_path / "net.onnx.data").read_bytes() == b"\xff" * 4096


def test_datatype_annotations_are_no_quantisers(tmp_path):
    """InferDataTypes notes FLOAT32 or BIPOLAR beside tensors; neither changes a number."""
    model = exported(np.round(RAW / WEIGHT) * WEIGHT)
    for name, kind in (("x", "BIPOLAR"), ("m1", "UINT8"), ("w0", "SCALEDINT<8>")):
        note = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        entry = model.graph.quantization_annotation.add()
        entry.tensor_name = note.name
        entry.quant_parameter_tensor_names.add(key="finn_datatype", value=kind)
    plain = exported(np.round(RAW / WEIGHT) * WEIGHT)
    first = hardware(tmp_path, model, x=X)
    second = hardware(tmp_path, plain, x=X)
    assert np.array_equal(first.outputs["m1"], second.outputs["m1"])
    assert json.dumps(first.classes()) == json.dumps(second.classes())
