"""``--emit-prototxt``: what is written reads back as the network that was imported."""

import re

import numpy as np
import pytest
from google.protobuf import text_format

from dlaconv.errors import UserError
from dlaconv.frontends.caffe import load_caffe
from dlaconv.frontends.caffe.schema import caffe_schema
from dlaconv.frontends.caffe.text import parse_text
from dlaconv.ir.calibration.observe import model_digest
from dlaconv.ir.execution import Executor
from tests.frontends.caffe.files import INPUT, error, load, numbers
from tests.frontends.caffe.quantised import (
    convolution,
    fixed,
    in_place,
    named,
    rules,
    thresholds,
)
from tests.frontends.caffe.test_caffe_printing import GENERATED

SHAPE = "dim: 1 dim: 4 dim: 8 dim: 8"


def wide(**formats):
    """A network with every kind of layer that has formats, text of a precision by its place."""
    say = formats.get
    pad = "kernel_size: 3 pad: 1"
    return (
        INPUT.format(SHAPE)
        + convolution("c", "data", 4, say("first", ""), pad)
        + in_place("c/bn", "BatchNorm", "c")
        + in_place("c/scale", "Scale", "c", "scale_param { bias_term: true }")
        + in_place("c/relu", "ReLU", "c")
        + named("norm", "BatchNorm", say("norm", ""), ["c"])
        + named("scaled", "Scale", "scale_param { bias_term: true }" + say("scaled", ""), ["norm"])
        + convolution("d", "scaled", 4, say("filters", ""), pad)
        + named("e", "Eltwise", say("maps", ""), ["c", "d"])
        + named("lrn", "LRN", say("maps", ""), ["e"])
        + named("cat", "Concat", "", ["lrn", "c"])
        + named("max", "Pooling", "pooling_param { kernel_size: 2 stride: 2 }", ["cat"])
        + named(
            "up",
            "Deconvolution",
            "convolution_param { num_output: 2 kernel_size: 2 group: 2 bias_term: false }"
            + say("two", ""),
            ["max"],
        )
        + named(
            "ave",
            "Pooling",
            "pooling_param { pool: AVE global_pooling: true }" + say("maps", ""),
            ["up"],
        )
        + named(
            "f",
            "InnerProduct",
            f"inner_product_param {{ num_output: 3 transpose: true }} {say('product', '')}",
            ["ave"],
        )
    )  # fmt: skip


BLOBS = {
    "c": [numbers(4, 4, 3, 3), numbers(4, seed=1)],
    "c/bn": [numbers(4, seed=2), np.array([1, 2, 3, 4.0]), np.ones(1)],
    "c/scale": [np.array([0.5, 1, 1.5, -2.0]), numbers(4, seed=3)],
    "norm": [numbers(4, seed=4), np.array([4, 3, 2, 1.0]), np.full(1, 2.0)],
    "scaled": [np.array([0.5, 1, 1.5, 2.0]), numbers(4, seed=5)],
    "d": [numbers(4, 4, 3, 3, seed=6) / 4, numbers(4, seed=7)],
    "up": [numbers(8, 1, 2, 2, seed=8)],
    "f": [numbers(2, 3, seed=9), numbers(3, seed=10)],
}
DYNAMIC = wide(
    first=fixed(5, 2, 4),
    norm=fixed(2, 4, batchnorm_mean_fl=5, batchnorm_mean_bw=8, batchnorm_variance_fl=4),
    scaled=fixed(4, 3, scale_gamma_fl=5, scale_beta_fl=5, scale_gamma_by_std_fl=6),
    filters=fixed(3, 3, 7),
    maps=fixed(3, 3),
    two=fixed(3, 3, 6),
    product=fixed(3, 2, 5),
)
XILINX = wide(
    first=thresholds(4.1, 17.3, (2.5, 2.25, 3.1, 2.8)),
    norm=thresholds(17.3, 9.9, bw_params=None),
    scaled=thresholds(9.9, 11.7, bw_params=None),
    filters=thresholds(11.7, 11.7),
    maps=thresholds(11.7, 11.7),
    two=thresholds(11.7, 12.345678, (0.1, 0.7)),
    product=thresholds(12.345678, 30.1),
)


def ristretto(text):
    """A network with Ristretto's types and fields."""
    text = text.replace("'Convolution'", "'ConvolutionRistretto'")
    text = re.sub(r'quant_type: "\w+"', "precision: DYNAMIC_FIXED_POINT", text)
    return text.replace("precision_param", "quantization_param")


class Samples:
    """Calibration data for frontends; covers all that is seen."""

    def __init__(self, data, ranges="minmax"):
        self.data, self.ranges, self.runs = data, ranges, 0

    def reaches(self, model, names, largest):
        assert largest == 127
        executor, found = Executor(model, list(dict.fromkeys(names))), {}
        self.runs += 1
        for sample in self.data:
            for name, array in executor.run({"data": sample[None]}).items():
                found[name] = max(found.get(name, 0.0), float(np.abs(array).max()))
        return found


SAMPLES = Samples(numbers(6, 4, 8, 8, seed=20))


def written(folder, text, blobs=BLOBS, **options):
    """What is imported where a prototxt is written, and what is imported from that one."""
    path = folder / "out.prototxt"
    imported = load(folder, text, blobs, emit_prototxt=path, **options)
    assert not imported.diagnostics.errors, imported.diagnostics
    assert list(imported.files) == [path]
    path.write_text(imported.files[path], "utf-8")
    text_format.Parse(imported.files[path], GENERATED["NetParameter"]())
    shapes = options.get("shapes")
    again = load_caffe(path, folder / "net.caffemodel", shapes=shapes)
    assert not again.diagnostics.errors, again.diagnostics
    return imported, again


def same(one, other):
    outputs = [[value.name for value in item.model.graph.outputs] for item in (one, other)]
    return model_digest(one.model) == model_digest(other.model) and outputs[0] == outputs[1]


def messages(text):
    """The precision of each layer, as a message."""
    net, found = parse_text(text, caffe_schema(), "NetParameter", "net.prototxt")
    assert not list(found)
    return {
        item.text("name"): item.message("precision_param")
        for item in net.messages("layer")
        if item.has("precision_param")
    }


@pytest.mark.parametrize("quant_type", [None, "Xilinx", "DynamicFixed"])
@pytest.mark.parametrize("text", [DYNAMIC, XILINX, ristretto(DYNAMIC)], ids=["fixed", "th", "ri"])
def test_what_is_written_reads_back_as_what_was_imported(tmp_path, text, quant_type):
    imported, again = written(tmp_path, text, quant_type=quant_type)
    assert same(imported, again)
    modes = {item.text("quant_type") for item in messages(imported.files.popitem()[1]).values()}
    assert modes == {quant_type or ("Xilinx" if text is XILINX else "DynamicFixed")}


@pytest.mark.parametrize("text", [DYNAMIC, XILINX], ids=["fixed", "th"])
def test_the_mode_of_the_source_keeps_its_network(tmp_path, text):
    imported, _ = written(tmp_path, text)
    assert same(imported, load(tmp_path, text, BLOBS))
    assert not rules(imported, "DLA153")


@pytest.mark.parametrize("text", [DYNAMIC, XILINX], ids=["fixed", "th"])
def test_another_mode_is_another_network_and_says_so(tmp_path, text):
    other = "Xilinx" if text is DYNAMIC else "DynamicFixed"
    imported, _ = written(tmp_path, text, quant_type=other)
    assert not same(imported, load(tmp_path, text, BLOBS))
    [warning] = rules(imported, "DLA153")
    assert f"to {other}" in warning.message
    if text is DYNAMIC:
        assert any("-128" in note for note in warning.notes)
        assert any("'norm', 'scaled'" in note for note in warning.notes)
    else:
        assert any(re.search(r"\d\.\d\d bits on average", note) for note in warning.notes)
    alone = load(tmp_path, text, BLOBS, quant_type=other)
    assert same(imported, alone)
    assert not alone.files


def test_defaults_are_written_out(tmp_path):
    text = INPUT.format(SHAPE) + convolution("c", "data", 4, "precision_param { fl_params: 4 }")
    imported, again = written(tmp_path, text, {"c": BLOBS["c"]})
    assert rules(imported, "DLA143")
    assert not rules(again, "DLA143")
    [message] = messages(imported.files.popitem()[1]).values()
    found = {name: message.values(name) for name in message.names()}
    sizes = {"bw_layer_in": [6], "bw_layer_out": [6], "bw_params": [6]}
    fractions = {"fl_layer_in": [3], "fl_layer_out": [3], "fl_params": [4]}
    assert found == {"quant_type": ["DynamicFixed"], **sizes, **fractions}


def test_missing_thresholds_of_filters_are_their_largest_magnitudes(tmp_path):
    imported, _ = written(tmp_path, XILINX)
    message = messages(imported.files.popitem()[1])
    wanted = np.abs(BLOBS["d"][0]).max(axis=(1, 2, 3))
    assert message["d"].numbers("th_params") == pytest.approx(wanted, rel=1e-7)
    wanted = np.abs(BLOBS["f"][0]).max(axis=0)
    assert message["f"].numbers("th_params") == pytest.approx(wanted, rel=1e-7)


def test_max_pooling_has_thresholds_since_chaidnn_reads_them(tmp_path):
    text = (
        INPUT.format(SHAPE)
        + convolution("c", "data", 4, thresholds(4, 7.5), top="x")
        + named("r", "ReLU", "", ["x"])
        + named("p", "Pooling", "pooling_param { kernel_size: 2 }", ["r"])
    )
    imported, _ = written(tmp_path, text, {"c": BLOBS["c"]})
    found = messages(imported.files.popitem()[1])["p"]
    assert (found.number("th_layer_in"), found.number("th_layer_out")) == (7.5, 7.5)
    fixed_one, _ = written(tmp_path, text, {"c": BLOBS["c"]}, quant_type="DynamicFixed")
    assert "p" not in messages(fixed_one.files.popitem()[1])


@pytest.mark.parametrize("quant_type", ["Xilinx", "DynamicFixed"])
def test_one_format_for_all_layers_is_written_into_each(tmp_path, quant_type):
    options = {"precision": "8,8,8", "fl_bitwidths": "4,6,3", "quant_type": quant_type}
    imported, again = written(tmp_path, wide(), **options)
    assert same(imported, again)
    found = messages(imported.files.popitem()[1])
    assert found.keys() >= {"c", "d", "e", "lrn", "up", "ave", "f", "norm", "scaled"}
    if quant_type == "Xilinx":
        assert found["d"].number("th_layer_in") == 127 / 16
        assert found["d"].numbers("th_params") == [127 / 64] * 4


def test_thresholds_of_a_file_are_written_as_float32(tmp_path):
    file = tmp_path / "quant.json"
    entry = '"bw_layer_in": 8, "bw_layer_out": 8, "bw_params": 8, "th_params": [1.1, 2, 3, 4]'
    entry += ', "th_layer_in": 837.9146104006423, "th_layer_out": 0.1'
    file.write_text(f'{{"network": [{{"name": "c", {entry}}}]}}')
    text = INPUT.format(SHAPE) + convolution("c", "data", 4)
    imported, again = written(tmp_path, text, {"c": BLOBS["c"]}, thresholds=file)
    assert same(imported, again)
    assert "th_layer_in: 837.9146\n" in imported.files.popitem()[1]


@pytest.mark.parametrize("quant_type", [None, "Xilinx", "DynamicFixed"])
@pytest.mark.parametrize("ranges", ["minmax", "xilinx"])
def test_a_calibrated_network_reads_back_as_what_was_imported(tmp_path, quant_type, ranges):
    samples = Samples(SAMPLES.data, ranges)
    imported, again = written(tmp_path, wide(), quant_type=quant_type, calibration=samples)
    assert samples.runs == 1
    assert same(imported, again)
    assert not rules(imported, "DLA147")  # no map is rounded twice
    found = messages(imported.files.popitem()[1])
    assert {item.text("quant_type") for item in found.values()} == {quant_type or "Xilinx"}
    assert {item.integer("bw_layer_out") for item in found.values()} == {8}


def test_a_quantised_network_is_not_measured(tmp_path):
    samples = Samples(SAMPLES.data)
    imported, _ = written(tmp_path, DYNAMIC, calibration=samples)
    assert samples.runs == 0
    assert same(imported, load(tmp_path, DYNAMIC, BLOBS))


def test_a_network_in_floating_point_stays_so_unless_a_file_is_asked_for(tmp_path):
    samples = Samples(SAMPLES.data)
    imported = load(tmp_path, wide(), BLOBS, calibration=samples, quant_type="Xilinx")
    assert samples.runs == 0
    assert same(imported, load(tmp_path, wide(), BLOBS))


def test_without_formats_or_data_there_is_nothing_to_write(tmp_path):
    imported = load(tmp_path, wide(), BLOBS, emit_prototxt=tmp_path / "out.prototxt")
    found = error(imported)
    assert found.rule == "DLA154"
    assert "--calibrate" in found.help


def test_values_that_are_no_numbers_choose_nothing(tmp_path):
    data = SAMPLES.data.copy()
    data[0] = np.inf
    path = tmp_path / "out.prototxt"
    imported = load(tmp_path, wide(), BLOBS, emit_prototxt=path, calibration=Samples(data))
    assert error(imported).rule == "DLA154"


def test_layers_that_the_source_leaves_out_are_refused(tmp_path):
    text = INPUT.format(SHAPE) + convolution("c", "data", 4, fixed(5, 2, 4))
    text = ristretto(text) + convolution("d", "c", 4)
    path = tmp_path / "out.prototxt"
    assert not load(tmp_path, text, BLOBS).diagnostics.errors
    found = error(load(tmp_path, text, BLOBS, emit_prototxt=path))
    assert (found.rule, found.location.layer) == ("DLA155", "d")


def test_a_broken_network_has_the_errors_of_its_import_and_no_others(tmp_path):
    text = wide().replace("kernel_size: 3", "kernel_size: 0")
    path = tmp_path / "out.prototxt"
    imported = load(tmp_path, text, BLOBS, emit_prototxt=path, calibration=SAMPLES)
    wanted = load(tmp_path, text, BLOBS)
    assert list(imported.diagnostics.errors) == list(wanted.diagnostics.errors)


def test_unknown_modes_are_refused(tmp_path):
    with pytest.raises(UserError) as caught:
        load(tmp_path, XILINX, BLOBS, quant_type="Zilinx")
    assert [item.rule for item in caught.value.diagnostics] == ["DLA426"]


OLD = """
input: "data" input_dim: 1 input_dim: 4 input_dim: 8 input_dim: 8
layers { name: "c" type: CONVOLUTION bottom: "data" top: "c" param: "w" blobs_lr: 1
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { std: 0.25 } } }
layers { name: "d" type: CONVOLUTION bottom: "c" top: "d" param: "w"
  convolution_param { num_output: 4 kernel_size: 3 }
  include { phase: TEST } }
layers { name: "loss" type: SOFTMAX_LOSS bottom: "d" bottom: "data" top: "loss"
  include { phase: TRAIN } }
layers { name: "p" type: SOFTMAX bottom: "d" top: "p" }
"""
OLDEST = """
input: "data" input_dim: 1 input_dim: 4 input_dim: 8 input_dim: 8
layers { layer { name: "pad" type: "padding" pad: 1 } bottom: "data" top: "pad" }
layers { layer { name: "c" type: "conv" num_output: 4 kernelsize: 3 biasterm: false }
  bottom: "pad" top: "c" }
"""


@pytest.mark.parametrize("text", [OLD, OLDEST])
def test_old_versions_are_written_as_version_2(tmp_path, text):
    blobs = {"c": BLOBS["c"][: 1 + (text is OLD)], "d": BLOBS["d"]}
    imported, again = written(tmp_path, text, blobs, calibration=SAMPLES)
    assert same(imported, again)
    out = imported.files.popitem()[1]
    net, _ = parse_text(out, caffe_schema(), "NetParameter", "net.prototxt")
    assert net.names() == ("layer",)
    assert net.messages("layer")[0].text("type") == "Input"
    names = [item.text("name") for item in net.messages("layer")]
    assert names == (["input", "c", "d", "p"] if text is OLD else ["input", "c"])
    assert "phase" not in out
    if text is OLD:
        assert out.count('name: "w"') == 2


def test_everything_that_was_read_is_written(tmp_path):
    text = """
    name: "net \\"1\\""
    layer { name: "data" type: "Input" top: "data"
      input_param { shape { dim: 1 dim: 4 dim: 8 dim: 8 } } }
    layer { name: "c" type: "Convolution" bottom: "data" top: "c"
      param { lr_mult: 0.1 decay_mult: 1 } loss_weight: 0 propagate_down: true
      convolution_param { num_output: 4 kernel_h: 3 kernel_w: 3 engine: CAFFE
        weight_filler { type: "gaussian" std: 0.01 } } precision_param { bw_params: 8 } }
    """
    imported, _ = written(tmp_path, text)
    out = imported.files.popitem()[1]
    assert out.startswith('name: "net \\"1\\""\n')
    for words in ("lr_mult: 0.1", "loss_weight: 0.0", "propagate_down: true", "engine: CAFFE"):
        assert words in out
    assert 'type: "gaussian"' in out
    assert out.count("precision_param") == 1


def test_given_shapes_are_not_written(tmp_path):
    shapes = {"data": (1, 4, 16, 16)}
    text = DYNAMIC
    imported, again = written(tmp_path, text, shapes=shapes)
    assert same(imported, again)
    assert imported.files.popitem()[1].count("dim: 8") == 2
