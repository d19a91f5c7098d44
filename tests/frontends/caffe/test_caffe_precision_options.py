"""Formats that options give a network in floating point, through whole conversions."""

import json

import numpy as np
import pytest

import dlaconv
from dlaconv.cli import main
from dlaconv.ir.execution import Executor
from tests.frontends.caffe.files import INPUT, caffemodel, numbers
from tests.frontends.caffe.precisions import conv, layer, product

TEXT = (
    INPUT.format("dim: 1 dim: 3 dim: 8 dim: 8")
    + conv("c", outputs=8)
    + layer("r", "ReLU", "c", top="c")
    + product("f", bottom="c")
)
KERNEL, BIAS = numbers(8, 3, 1, 1) / 4, numbers(8, seed=2) / 8
PRODUCT, OFFSET = numbers(2, 512, seed=3) / 32, numbers(2, seed=4) / 4
FIXED = ("--precision", "8,8,8", "--fl-bitwidths", "4,7,4")


@pytest.fixture
def files(tmp_path):
    found = [tmp_path / "deploy.prototxt", tmp_path / "net.caffemodel"]
    found[0].write_text(TEXT)
    found[1].write_bytes(caffemodel({"c": [KERNEL, BIAS], "f": [PRODUCT, OFFSET]}))
    return found


@pytest.fixture
def thresholds(tmp_path):
    maps = {"c": (7.9375, 7.9375), "f": (7.9375, 15.875)}
    entries = [
        {
            "name": name,
            **dict.fromkeys(("bw_layer_in", "bw_layer_out", "bw_params"), 8),
            "th_layer_in": maps[name][0],
            "th_layer_out": maps[name][1],
            "th_params": [float(np.abs(weights).max()) for weights in kernel],
        }
        for name, kernel in (("c", KERNEL), ("f", PRODUCT))
    ]
    path = tmp_path / "quant.json"
    path.write_text(json.dumps({"network": entries}))
    return path


def code_of(arguments):
    with pytest.raises(SystemExit) as caught:
        main([*map(str, arguments)])
    return caught.value.code


def steps_of_maps(report):
    return {row["target"]["step"] for row in report["tensors"] if row["kind"] == "map"}


def nearest(values):
    return np.copysign(np.floor(np.abs(values) + 0.5), values)


def fixed(values, fraction):
    return np.clip(nearest(values * 2.0**fraction), -128, 127) / 2.0**fraction


def test_one_format_for_all_layers_is_what_is_computed(files):
    imported = dlaconv.load(files, "caffe", precision="8,8,8", fl_bitwidths="4,7,4")
    assert not imported.diagnostics.errors
    x = numbers(1, 3, 8, 8, seed=7) * 3
    [found] = Executor(imported.model).run({"data": x}).values()
    kernel, product_ = fixed(KERNEL[:, :, 0, 0], 7), fixed(PRODUCT, 7)
    first = np.einsum("oc,nchw->nohw", kernel, fixed(x, 4)) + fixed(BIAS, 4)[:, None, None]
    maps = np.maximum(fixed(first, 4), 0)
    np.testing.assert_array_equal(
        found, fixed(maps.reshape(1, -1) @ product_.T + fixed(OFFSET, 4), 4)
    )


@pytest.mark.parametrize("options", [FIXED, ("--bitwidths", "8,8,8", "--fl_bitwidths", "4,7,4")])
def test_a_network_converts_without_samples_and_keeps_every_step(files, tmp_path, options):
    output = tmp_path / "net.dla.onnx"
    assert code_of(["from-caffe", *files, "-o", output, *options]) == 0
    report = json.loads((tmp_path / "net.dla.json").read_text())
    assert report["verification"]["passed"]
    assert steps_of_maps(report) == {2.0**-4}
    assert not dlaconv.check(output).diagnostics.errors


def test_thresholds_come_from_a_file(files, thresholds, tmp_path):
    output = tmp_path / "net.dla.onnx"
    assert code_of(["from-caffe", *files, "-o", output, "--thresholds", thresholds]) == 0
    report = json.loads((tmp_path / "net.dla.json").read_text())
    assert report["verification"]["passed"]
    assert steps_of_maps(report) == {1 / 16, 1 / 8}


def test_the_thresholds_are_not_overwritten(files, thresholds, tmp_path):
    before = thresholds.read_bytes()
    given = [*files, "--thresholds", thresholds, "-o", thresholds]
    assert code_of(["from-caffe", *given]) == 2
    assert thresholds.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--precision", "8,8,8"), 2, "--precision needs --fl-bitwidths"),
        (("--precision", "8,8", "--fl-bitwidths", "4,7,4"), 2, "not three whole numbers"),
        (("--precision", "8,8,8", "--fl-bitwidths", "1,1,7"), 2, "DLA142"),
        ((*FIXED, "--thresholds", "quant.json"), 2, "DLA146"),
        (("--thresholds", "none.json"), 3, "DLA401"),
    ],
)
def test_options_that_cannot_be_meant_are_told_and_nothing_is_written(
    files, tmp_path, capsys, options, code, words
):
    output = tmp_path / "net.dla.onnx"
    assert code_of(["from-caffe", *files, "-o", output, *options]) == code
    assert words in capsys.readouterr().err
    assert not output.exists()


def test_a_prototxt_with_formats_of_its_own_takes_none_from_options(files, tmp_path, capsys):
    message = "precision_param { bw_layer_in: 8 fl_layer_in: 4 }"
    files[0].write_text(TEXT.replace("bottom: 'c' top: 'f'", f"bottom: 'c' top: 'f' {message}"))
    output = tmp_path / "net.dla.onnx"
    assert code_of(["from-caffe", *files, "-o", output, *FIXED]) == 1
    shown = capsys.readouterr().err
    assert "DLA146" in shown
    assert "deploy.prototxt:8" in shown
    assert not output.exists()
