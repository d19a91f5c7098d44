"""Preprocessing folded into networks whose source quantises inputs or weights."""

import numpy as np
import pytest

from dlaconv.errors import ConversionError
from dlaconv.preprocessing import Preprocessing
from tests.ir.passes.folding import (
    folded,
    quantised,
    reasons,
    require_same,
)


@pytest.mark.parametrize(
    ("how", "step", "zero", "kind"),
    [
        (Preprocessing(preset="unit"), 1 / 255, 0, np.uint8),
        (Preprocessing(preset="unit", mean=(128 / 255,)), 1 / 255, 0, np.int8),
        (Preprocessing(preset="raw", mean=(128,), std=(128,)), 1 / 128, 128, np.uint8),
        (Preprocessing(preset="raw", bgr=True), 1, 0, np.uint8),
    ],
)
def test_quantisers_that_keep_every_pixel_go_and_weights_keep_their_integers(
    tmp_path, how, step, zero, kind
):
    net, integers = quantised(np.random.default_rng(9), step=step, zero=zero, kind=kind)
    model = require_same(net, tmp_path, how)
    quantisers = [item for item in model.graph if item.op_type.startswith("Quantize")]
    assert len(quantisers) == 1
    kept = [v.const_value.numpy() for v in model.graph.initializers.values() if v.dtype == 3]
    wanted = integers[:, ::-1] if how.bgr else integers
    assert any(np.array_equal(array, wanted) for array in kept)


@pytest.mark.parametrize("mean", [127, 130])
@pytest.mark.parametrize("bgr", [False, True])
def test_quantised_weights_are_those_of_further_channels_where_zeros_are_whole_pixels(
    tmp_path, mean, bgr
):
    net, integers = quantised(np.random.default_rng(10), step=1 / 128, zero=mean)
    net.nodes[-1].attribute[1].ints[:] = [1] * 4
    how = Preprocessing(mean=(float(mean),), std=(128.0,), bgr=bgr)
    model = require_same(net, tmp_path, how, border=True)
    assert list(model.graph.inputs[0].shape) == [1, 6, 7, 6]
    kept = [v.const_value.numpy() for v in model.graph.initializers.values() if v.dtype == 3]
    assert any(
        array.shape[1] == 6 and np.array_equal(array[:, :3], array[:, 3:])
        and np.array_equal(array[:, :3], integers[:, ::-1] if bgr else integers)
        for array in kept
    )  # fmt: skip


def test_quantisers_that_move_pixels_are_refused(tmp_path):
    net, _ = quantised(np.random.default_rng(9), step=0.02, zero=114)
    with pytest.raises(ConversionError) as error:
        folded(net, tmp_path, Preprocessing(preset="torchvision"))
    assert "of a pixel" in reasons(error)


def test_quantised_weights_take_one_factor_only(tmp_path):
    net, _ = quantised(np.random.default_rng(9), step=1, zero=0)
    del net.nodes[:2]
    net.nodes[-1].input[0] = "x"
    require_same(net, tmp_path, Preprocessing(preset="unit", mean=(0.4, 0.5, 0.6), std=(0.3,)))
    with pytest.raises(ConversionError) as error:
        folded(net, tmp_path, Preprocessing(preset="torchvision"))
    assert "another factor in each channel" in reasons(error)
