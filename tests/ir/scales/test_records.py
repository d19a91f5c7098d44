"""What the report's rows say of clips and roundings that the hardware does not share."""

import numpy as np
import pytest

from dlaconv.ir.quantisation import Quantisation
from dlaconv.ir.records import Fidelity
from dlaconv.ir.rounding import Rounding
from dlaconv.ir.scales.cost import is_exact
from tests.ir.scales.graphs import Net, outputs, real_outputs, records, scaled

STEP = 2.0**-4


def row_of(bits, zero, signed=False, relu=False, hardware=Rounding.HALF_EVEN, step=STEP, **how):
    """The row of a map between two convolutions."""
    net = Net(0)
    value = net.conv(net.quantise(net.x, 2.0**-5))
    value = net.relu(value) if relu else value
    value = net.quantise(value, step, bits, signed=signed, zero_point=float(zero), **how)
    net.output(net.quantise(net.conv(value)))
    _, context = scaled(net, rounding=hardware)
    return records(context, "map")[value.name]


@pytest.mark.parametrize(
    ("bits", "zero", "signed", "ends"),
    [
        (7, 64, False, "[-64, 63]"),
        (7, 2, False, "[-2, 125]"),
        (6, -2, False, "[2, 65]"),  # a ReLU clips at zero only
        (7, 0, False, None),  # which is all of it here
        (8, 0, True, None),
        (8, 128, False, None),
        (7, -64, True, None),
        (4, 2, True, "[-10, 5]"),
    ],
)
def test_a_clip_that_the_hardware_loses_is_noted_without_the_zero_point(bits, zero, signed, ends):
    row = row_of(bits, zero, signed)
    assert bits < 7 or row.fidelity is Fidelity.EXACT  # below, a finer step may be better
    note = row.note.removeprefix(f"finer step than the source's {STEP}; ")
    assert note == (f"the source clips at {ends} of its units, the hardware later" if ends else "")


def test_a_clip_is_noted_where_the_step_is_another_too():
    row = row_of(8, 2)  # up to 253 units, so steps are doubled; the hardware ends at -256
    assert row.fidelity is Fidelity.RESCALED
    assert "clips at [-2, 253]" in row.note


def test_what_the_host_clips_is_not_lost():
    net = Net(0)
    value = net.quantise(net.x, STEP, 7, signed=False, zero_point=64.0)
    net.output(net.quantise(net.conv(value)))
    _, context = scaled(net)
    row = records(context, "map")[value.name]
    assert (row.fidelity, row.note) == (Fidelity.EXACT, "")


@pytest.mark.parametrize(("bits", "fidelity"), [(8, Fidelity.CLIPPED), (6, Fidelity.REQUANTISED)])
def test_a_map_of_an_input_quantised_twice_is_not_called_exact(bits, fidelity):
    net = Net(0)
    fine, coarse = net.quantise(net.x, STEP / 4), net.quantise(net.x, STEP, bits)
    net.output(net.quantise(net.conv(fine)), net.quantise(net.conv(coarse)))
    _, context = scaled(net)
    rows = records(context, "map")
    assert rows[fine.name].fidelity is Fidelity.EXACT
    assert rows[coarse.name].fidelity is fidelity
    assert "the source quantises x" in rows[coarse.name].note
    widest = max(float(np.abs(array).max()) for array in context.inputs.arrays.values())
    assert (widest > 2.01) == (bits == 8)  # inputs go as far as the source sees them


@pytest.mark.parametrize(
    ("mode", "zero", "same"),
    [
        (Rounding.HALF_EVEN, 64, True),
        (Rounding.HALF_EVEN, 63, False),
        (Rounding.HALF_UP, 63, True),
        (Rounding.HALF_AWAY, 64, False),
        (Rounding.HALF_ZERO, 64, False),
        (Rounding.HALF_DPU, 63, False),
        (Rounding.FLOOR, 63, True),
        (Rounding.CEIL, 63, True),
    ],
)
def test_a_mode_that_the_zero_point_shifts_is_not_the_hardware_s(mode, zero, same):
    """The source rounds x/s + z: exact only if that is what rounding x/s does."""
    units = np.arange(-12, 13, dtype=np.float32) / 4
    source = Quantisation.of(1.0, 8, zero_point=zero, rounding=mode)
    plain = Quantisation.of(1.0, 8, rounding=mode)
    shifted = source.integers(units) - zero
    row = row_of(7, zero, rounding=mode, hardware=mode)
    if same:
        assert np.array_equal(shifted, plain.integers(units))
        assert row.fidelity is Fidelity.EXACT
        assert "rounds" not in row.note
    else:
        assert not np.array_equal(shifted, plain.integers(units))
        assert row.fidelity is Fidelity.RESCALED
        assert row.note.endswith(
            f"the source rounds with {mode} on a zero point of {zero}, the hardware with {mode}: "
            "ties may differ"
        )


def test_other_ties_are_noted():
    row = row_of(8, 0, signed=True, rounding=Rounding.HALF_UP)
    assert row.fidelity is Fidelity.EXACT
    wanted = "the source rounds with half-up, the hardware with half-even: ties may differ"
    assert row.note == wanted


def test_a_grid_beside_zero_is_none_of_the_hardware_s():
    whole, half = (Quantisation.of(STEP, 7, zero_point=zero) for zero in (2.0, 0.5))
    assert is_exact(whole, STEP, (-128, 127))
    assert not is_exact(half, STEP, (-128, 127))


@pytest.mark.parametrize("zero", [0, 3, -64])
def test_truncation_goes_into_the_bias_where_it_goes_one_way(zero):
    """The source truncates x/s + z: down above -z and up below, which with z = -64 is both."""
    net = Net(0)
    convolved = net.conv(net.quantise(net.x, 2.0**-5), steps=2.0**-9, bias=np.zeros(16))
    how = {"signed": zero < 0, "zero_point": float(zero), "rounding": Rounding.DOWN}
    net.output(net.quantise(net.relu(convolved), 2.0**-3, 7, **how))
    model, context = scaled(net, io="absorb")
    row = records(context, "map")[model.graph.outputs[0].name]
    off = real_outputs(model, context, net.data) - outputs(net.model, net.data)
    mean = float(np.mean(off)) / row.target["real_step"]
    assert mean == pytest.approx(0, abs=0.3 if zero < 0 else 0.02)  # the wrong way: half a unit
    assert (row.fidelity is Fidelity.EXACT) is (zero >= 0)
