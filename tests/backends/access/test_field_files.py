"""Files of other toolchains: how field files and the guide's demo write, checked and run."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

import dlaconv
from dlaconv.backends.access.readable import obstacles
from dlaconv.errors import ConversionError
from tests.backends.access.rules.case_nets import gemm_integers, integers, weights_off_by
from tests.backends.access.rules.rule_nets import TARGET, Net, one_conv, one_gemm

INTEGERS = np.random.default_rng(3).integers(-127, 128, (16, 16, 1, 1))
BIAS = np.arange(16) * 100 - 800
ON_GRID = 2.0**17 / np.arange(130, 146)
OFF_GRID = np.array([814.1691, 157.8766, *[256.0] * 14])
"""Scales of a field file: 7e-5 and 2e-3 from the nearest 2^n/a."""


def field_file(scales: np.ndarray) -> ir.Model:
    """Scales are integers per real, nothing but the attributes says so, and the demo's names."""
    net = Net(convention="int-per-real")
    x = net.input(1, 16, 4, 4, scale=16.0)
    y = net.conv(x, scales=scales, integers=INTEGERS, bias=BIAS, scale=128.0)
    return net.model(net.op("Relu", y))


@pytest.fixture
def saved(tmp_path):
    def save(model: ir.Model):
        path = tmp_path / "field.onnx"
        ir.save(model, path)
        return path

    return save


def rules(error: ConversionError) -> set[str]:
    return {item.rule for item in error.diagnostics.errors}


def test_a_field_file_with_scales_on_the_grid_is_legal_and_its_convention_found(saved):
    result = dlaconv.check(saved(field_file(ON_GRID)))
    assert not result.violated
    assert result.convention == "int-per-real"
    assert "detected" in result.convention_source


def test_a_field_file_runs_as_its_integers_say(saved):
    x = np.random.default_rng(0).normal(size=(3, 16, 4, 4)).astype(np.float32)
    (got,) = dlaconv.run(saved(field_file(ON_GRID)), {"x": x}).values()
    q = np.clip(np.rint(x.astype(np.float64) * 16), -128, 127)
    total = np.einsum("oi,nihw->nohw", INTEGERS[:, :, 0, 0], q) + BIAS[None, :, None, None]
    wanted = np.clip(np.rint(total / ON_GRID.reshape(1, -1, 1, 1) / 16 * 128), 0, 127)
    assert 0.2 < (wanted > 0).mean() < 0.8
    assert len(np.unique(wanted)) > 20
    assert np.array_equal(got, wanted)


def test_scales_off_the_grid_are_an_error_of_the_file(saved):
    result = dlaconv.check(saved(field_file(OFF_GRID)))
    assert result.violated == {"SC-2": 1}
    (found,) = result.diagnostics.errors
    assert "channel 0, 1 is no 2^n/a" in found.message
    assert result.convention == "int-per-real"


def test_scales_off_the_grid_are_not_run_as_if_the_compiler_kept_them(saved):
    with pytest.raises(ConversionError) as caught:
        dlaconv.run(saved(field_file(OFF_GRID)), {"x": np.zeros((1, 16, 4, 4), np.float32)})
    assert rules(caught.value) == {"SC-2"}


def test_a_file_in_the_names_of_the_guide_s_demo_runs(saved):
    model = field_file(ON_GRID)
    for node in model.graph:
        for name in ("input_bitdepth", "weight_bitdepth", "output_bitdepth"):
            node.attributes.pop(name, None)
        node.attributes["weight_bit"] = ir.AttrInt64("weight_bit", 8)
        node.attributes["activation_bit"] = ir.AttrInt64("activation_bit", 8)
    path = saved(model)
    assert dlaconv.check(path).violated == {"AT-8": 2}
    x = np.ones((1, 16, 4, 4), np.float32)
    (got,) = dlaconv.run(path, {"x": x}).values()
    (wanted,) = dlaconv.run(saved(field_file(ON_GRID)), {"x": x}).values()
    assert np.array_equal(got, wanted)


OBSTACLES = {
    "weights between integers": (lambda: weights_off_by(0.25), {"SC-4"}),
    "weights of 9 bits": (lambda: integers(128), {"CV-8"}),
    "weights of 9 bits in a Gemm": (lambda: gemm_integers(128), {"SC-4"}),
    "bias between integers": (lambda: one_conv(bias=np.full(16, 9.5)), {"SC-5"}),
    "bias of 17 bits": (lambda: one_gemm(bias=np.full(16, 32768)), {"SC-5"}),
    "too few scales": (lambda: one_conv(weight_ch_scales=[0.5]), {"SC-3", "AT-1"}),
    "an old opset": (lambda: one_conv(opset=8), {"GR-1"}),
    "a new opset": (lambda: one_conv(opset=22), {"GR-1"}),
    "several": (
        lambda: one_conv(opset=22, bias=np.full(16, 9.5), output_scale=0.3),
        {"GR-1", "SC-1", "SC-5"},
    ),
}


@pytest.mark.parametrize("name", OBSTACLES)
def test_what_would_be_a_guess_is_refused_with_every_reason(saved, name):
    make, expected = OBSTACLES[name]
    path = saved(make())
    shape = tuple(make().graph.inputs[0].shape.numpy())
    with pytest.raises(ConversionError) as caught:
        dlaconv.run(path, {"x": np.zeros(shape, np.float32)})
    assert rules(caught.value) == expected


@pytest.mark.parametrize("opset", [9, 12, 13, 14, 17, 18, 19, 21])
def test_files_of_the_opsets_in_between_are_run(saved, opset):
    x = np.random.default_rng(0).normal(size=(1, 16, 8, 8)).astype(np.float32)
    assert obstacles(one_conv(opset=opset), TARGET) == []
    (got,) = dlaconv.run(saved(one_conv(opset=opset)), {"x": x}).values()
    (wanted,) = dlaconv.run(saved(one_conv()), {"x": x}).values()
    assert np.array_equal(got, wanted)
