"""Whole conversions of Caffe networks, from the command line and from Python."""

import json

import numpy as np
import pytest

import dlaconv
from dlaconv.cli import main
from dlaconv.errors import UserError
from dlaconv.options import Options
from tests.frontends.caffe.files import INPUT, caffemodel, numbers

TEXT = (
    INPUT.format("dim: 1 dim: 8 dim: 12 dim: 12")
    + """
    layer { name: 'c' type: 'Convolution' bottom: 'data' top: 'c'
      convolution_param { num_output: 16 kernel_size: 3 pad: 1 } }
    layer { name: 'r' type: 'ReLU' bottom: 'c' top: 'c' }
    layer { name: 'p' type: 'Pooling' bottom: 'c' top: 'p'
      pooling_param { pool: MAX kernel_size: 3 stride: 2 } }
    layer { name: 'f' type: 'InnerProduct' bottom: 'p' top: 'f'
      inner_product_param { num_output: 10 } }
    layer { name: 'prob' type: 'Softmax' bottom: 'f' top: 'prob' }
    """
)
WEIGHTS = caffemodel(
    {"c": [numbers(16, 8, 3, 3), numbers(16)], "f": [numbers(10, 576) / 20, numbers(10)]}
)


def code_of(arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    return caught.value.code


@pytest.fixture
def files(tmp_path):
    found = [tmp_path / "deploy.prototxt", tmp_path / "net.caffemodel"]
    found[0].write_text(TEXT)
    found[1].write_bytes(WEIGHTS)
    np.savez(tmp_path / "x.npz", data=numbers(8, 8, 12, 12, seed=5))
    return found


@pytest.mark.parametrize("command", ["from-caffe", "convert"])
def test_a_network_is_calibrated_converted_and_compared(files, tmp_path, command, capsys):
    output = tmp_path / "net.dla.onnx"
    given = [*map(str, files), "-o", str(output), "--calibrate", str(tmp_path / "x.npz")]
    assert code_of([command, *given]) == 0
    report = json.loads((tmp_path / "net.dla.json").read_text())
    assert report["verification"]["passed"]
    assert {row["layer"] for row in report["tensors"]} >= {"c", "f"}
    assert not dlaconv.check(output).diagnostics.errors
    assert "deploy.prototxt" in capsys.readouterr().out


def test_an_error_names_the_line_and_nothing_is_written(files, tmp_path, capsys):
    files[0].write_text(TEXT.replace("pool: MAX", "pool: MAX kernelsize: 2"))
    output = tmp_path / "net.dla.onnx"
    assert code_of(["from-caffe", *map(str, files), "-o", str(output)]) == 1
    assert not output.exists()
    shown = capsys.readouterr().err
    line = TEXT[: TEXT.index("pool: MAX")].count("\n") + 1
    assert f"deploy.prototxt:{line}" in shown
    assert "did you mean 'kernel_size'" in shown


def test_unknown_fields_are_ignored_if_that_is_asked_for(files, tmp_path, capsys):
    files[0].write_text(TEXT.replace("pool: MAX", "pool: MAX colour: 2"))
    given = [*map(str, files), "-o", str(tmp_path / "net.dla.onnx"), "--calibrate", "random"]
    assert code_of(["from-caffe", *given, "--ignore-unknown-fields"]) == 0
    assert "DLA130" in capsys.readouterr().err


def test_files_in_the_wrong_order_are_told(files, tmp_path, capsys):
    given = [str(files[1]), str(files[0]), "-o", str(tmp_path / "net.dla.onnx")]
    assert code_of(["from-caffe", *given]) == 3
    assert "the prototxt comes first" in capsys.readouterr().err


def test_the_weights_are_not_overwritten(files, capsys):
    before = files[1].read_bytes()
    given = [*map(str, files), "-o", str(files[1]), "--calibrate", "random"]
    assert code_of(["from-caffe", *given]) == 2
    assert files[1].read_bytes() == before
    assert capsys.readouterr().err


def test_a_given_shape_reaches_the_windows(files):
    options = Options(shapes={"data": (1, 8, 16, 12)}, calibrate="random", verify=False)
    with pytest.raises(UserError) as caught:
        dlaconv.convert(files, frontend="caffe", options=options)
    assert [item.rule for item in caught.value.diagnostics] == ["DLA133"]


def test_a_network_of_several_samples_says_how_it_becomes_one_of_one(files, tmp_path, capsys):
    files[0].write_text(TEXT.replace("dim: 1 ", "dim: 10 "))  # BVLC's GoogLeNet has ten
    output = tmp_path / "net.dla.onnx"
    given = ["from-caffe", *map(str, files), "-o", str(output), "--calibrate", "random"]
    assert code_of(given) == 1
    assert not output.exists()
    assert "--set-shape data=1,8,12,12" in capsys.readouterr().err
    assert code_of([*given, "--set-shape", "data=1,8,12,12"]) == 0


@pytest.mark.parametrize("pad", [0, 1])
def test_averages_that_hang_over_stay_on_the_accelerator(files, pad):
    widths = " ".join(f"bw_{name}: 8" for name in ("layer_in", "layer_out", "params"))
    fixed = f"precision_param {{ {widths} fl_layer_in: 4 fl_layer_out: 4 fl_params: 7 }}"
    files[0].write_text(
        INPUT.format("dim: 1 dim: 8 dim: 12 dim: 12")
        + f"""
        layer {{ name: 'c' type: 'Convolution' bottom: 'data' top: 'c' {fixed}
          convolution_param {{ num_output: 16 kernel_size: 3 pad: 1 }} }}
        layer {{ name: 'p' type: 'Pooling' bottom: 'c' top: 'p' {fixed}
          pooling_param {{ pool: AVE kernel_size: 3 stride: 2 pad: {pad} }} }}
        """
    )
    report = dlaconv.convert(files, None, options=Options(samples=2)).report
    assert "uncounted_average" in {row["name"] for row in report["rewrites"]}
    assert {row["class"] for row in report["tensors"]} == {"exact"}
    assert report["verification"]["passed"]


def test_a_plugin_reads_layers_of_its_own(files, monkeypatch):
    from dlaconv.plugins import Plugins

    def twice(layer):
        return [layer.op("Add", [layer.x, layer.x], layer.shape())]

    files[0].write_text(TEXT.replace("'ReLU'", "'Twice'"))
    plugins = Plugins(third_parties=False)
    monkeypatch.setattr(plugins, "layers", lambda name: {"Twice": twice} if name == "caffe" else {})
    imported = dlaconv.load(files, "caffe", plugins=plugins)
    assert "Add" in {node.op_type for node in imported.model.graph}
