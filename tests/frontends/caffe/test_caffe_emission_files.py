"""``--emit-prototxt`` in whole conversions: one quantisation in two files, or no file."""

import json

import numpy as np
import onnx
import pytest

import dlaconv
from dlaconv.errors import UserError
from dlaconv.options import Options
from tests.frontends.caffe.files import numbers
from tests.frontends.caffe.quantised import fixed
from tests.frontends.caffe.test_caffe_conversion import code_of, files

__all__ = ["files"]
DATA = numbers(8, 8, 12, 12, seed=5)


def constants(path):
    """Weights and biases of an ACCESS file, with the attributes of its nodes."""
    model = onnx.load(path)
    arrays = {item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer}
    attributes = [
        (node.op_type, sorted(str(item) for item in node.attribute)) for node in model.graph.node
    ]
    return arrays, attributes


@pytest.mark.parametrize("quant_type", ["Xilinx", "DynamicFixed"])
@pytest.mark.parametrize("ranges", ["auto", "xilinx"])
def test_both_files_have_one_quantisation(files, tmp_path, quant_type, ranges, capsys):
    (tmp_path / "there").mkdir()
    out, first = tmp_path / "there" / "out.prototxt", tmp_path / "a.dla.onnx"
    shared = ["--calibrate", str(tmp_path / "x.npz"), "--ranges", ranges]
    given = [*map(str, files), "-o", str(first), "--quant-type", quant_type, *shared]
    assert code_of(["from-caffe", *given, "--emit-prototxt", str(out)]) == 0
    shown = "".join(capsys.readouterr().out.split())  # long paths are wrapped
    assert str(out) in shown
    report = json.loads((tmp_path / "a.dla.json").read_text())
    assert report["output"]["further"] == [str(out)]
    assert report["source"]["options"] == [f"quant-type={quant_type}"]
    assert [item.name for item in tmp_path.glob("there/*")] == ["out.prototxt"]
    second = tmp_path / "b.dla.onnx"
    assert code_of(["from-caffe", str(out), str(files[1]), "-o", str(second), *shared]) == 0
    (arrays, attributes), (others, other_attributes) = constants(first), constants(second)
    assert arrays.keys() == others.keys()
    assert all(np.array_equal(array, others[name]) for name, array in arrays.items())
    assert attributes == other_attributes
    sums = [str(out), str(files[1]), str(first), "--input", str(tmp_path / "x.npz")]
    assert code_of(["verify", *sums]) == 0


@pytest.mark.parametrize("quant_type", ["Xilinx", "DynamicFixed"])
def test_a_quantised_source_gives_the_same_file_as_its_prototxt(files, tmp_path, quant_type):
    text = files[0].read_text()
    text = text.replace("pad: 1 } }", "pad: 1 }" + fixed(5, 2, 5) + "}")
    text = text.replace("num_output: 10 } }", "num_output: 10 }" + fixed(2, 2, 9) + "}")
    files[0].write_text(text)
    out, first, second = (tmp_path / name for name in ("o.prototxt", "a.dla.onnx", "b.dla.onnx"))
    arguments = {"frontend": "caffe", "options": Options(verify=False)}
    dlaconv.convert(files, first, emit_prototxt=out, quant_type=quant_type, **arguments)
    dlaconv.convert([out, files[1]], second, **arguments)
    (arrays, attributes), (others, other_attributes) = constants(first), constants(second)
    assert arrays.keys() == others.keys()
    assert all(np.array_equal(array, others[name]) for name, array in arrays.items())
    assert attributes == other_attributes
    assert out.read_text().count(f'quant_type: "{quant_type}"') == 2 + (quant_type == "Xilinx")


def test_the_spellings_of_xportdnn_are_taken(files, tmp_path):
    out = tmp_path / "out.prototxt"
    given = [*map(str, files), "-o", str(tmp_path / "net.dla.onnx"), "--calibrate", "random"]
    given += ["--quant_type", "Xilinx", "--quantized_deploy_model", str(out)]
    given += ["--bitwidths", "8,8,8", "--fl_bitwidths", "4,5,2"]
    assert code_of(["from-caffe", *given]) == 0
    assert "th_layer_in: 7.9375" in out.read_text()


def refused(files, output, **arguments):
    with pytest.raises(UserError) as caught:
        dlaconv.convert(files, output, frontend="caffe", **arguments)
    return [item.rule for item in caught.value.diagnostics if str(item.severity) == "error"]


def test_no_file_of_the_conversion_is_overwritten(files, tmp_path):
    output, before = tmp_path / "net.dla.onnx", [item.read_bytes() for item in files]
    options = Options(calibrate=tmp_path / "x.npz", html=tmp_path / "net.html")
    taken = [*files, tmp_path / "x.npz", output, tmp_path / "net.dla.json", tmp_path / "net.html"]
    for path in [*taken, tmp_path, tmp_path / "nowhere" / "out.prototxt"]:
        assert refused(files, output, options=options, emit_prototxt=path) == ["DLA421"]
    assert [item.read_bytes() for item in files] == before
    assert not output.exists()


def test_nothing_is_written_if_the_conversion_fails(files, tmp_path, monkeypatch):
    import dlaconv.driver.conversion as conversion

    out, output = tmp_path / "out.prototxt", tmp_path / "net.dla.onnx"
    out.write_text("before")
    seen = []

    def fail(before):
        seen.extend(item.name for item in tmp_path.iterdir() if item.name.endswith(".tmp"))
        raise OSError("the disk is full")

    monkeypatch.setattr(conversion, "require_unchanged", fail)
    options = Options(calibrate=[DATA])
    with pytest.raises(OSError, match="full"):
        dlaconv.convert(files, output, frontend="caffe", options=options, emit_prototxt=out)
    assert any("out.prototxt" in name for name in seen)
    assert out.read_text() == "before"
    assert {item.name for item in tmp_path.iterdir()} == {
        "deploy.prototxt", "net.caffemodel", "x.npz", "out.prototxt",
    }  # fmt: skip


def test_data_that_can_be_read_once_serve_both(files, tmp_path):
    out = tmp_path / "out.prototxt"
    options = Options(calibrate=(item[None] for item in DATA))
    found = dlaconv.convert(
        files, tmp_path / "net.dla.onnx", frontend="caffe", options=options, emit_prototxt=out
    )
    assert out.exists()
    assert found.report["calibration"]["samples"] == len(DATA)


def test_what_was_seen_is_kept_for_the_next_conversion(files, tmp_path, monkeypatch):
    cache = tmp_path / "seen.npz"
    options = Options(calibrate=tmp_path / "x.npz", calibration_cache=cache)
    texts = []
    for turn in range(2):
        out = tmp_path / f"out{turn}.prototxt"
        dlaconv.convert(
            files, tmp_path / "net.onnx", frontend="caffe", options=options, emit_prototxt=out
        )
        texts.append(out.read_text())
        monkeypatch.setattr("dlaconv.ir.calibration.observe._seen", None)
    assert texts[0] == texts[1]


def test_folded_pixels_are_no_inputs_to_choose_thresholds_by(files, tmp_path):
    options = Options(calibrate=tmp_path / "x.npz", fold_preprocess=True)
    output = tmp_path / "net.onnx"
    found = refused(files, output, options=options, emit_prototxt=tmp_path / "out.prototxt")
    assert found == ["DLA423"]


def test_without_an_output_nothing_is_written_at_all(files, tmp_path):
    out = tmp_path / "out.prototxt"
    options = Options(calibrate=[DATA])
    found = dlaconv.convert(files, frontend="caffe", options=options, emit_prototxt=out)
    assert found.report["output"] == {"file": None, "emitted": {}, "further": []}
    assert not out.exists()


def test_a_path_may_be_text(files, tmp_path):
    out = str(tmp_path / "out.prototxt")
    options = Options(calibrate=[DATA])
    output = tmp_path / "net.onnx"
    dlaconv.convert(files, output, frontend="caffe", options=options, emit_prototxt=out)
    imported = dlaconv.load([out, files[1]], "caffe")
    assert not imported.diagnostics.errors
