import pytest

from dlaconv.commands.choices import HardwareRounding
from dlaconv.errors import UsageError
from dlaconv.ir.rounding import Rounding
from dlaconv.options import ACCESS, ROUNDINGS, Hardware, Options


@pytest.mark.parametrize("name", ["policy", "io", "convention", "rounding", "activation_order"])
def test_an_option_cannot_have_any_value(name):
    with pytest.raises(UsageError, match=f"{name} cannot be 'exact'"):
        Options(**{name: "exact"})


@pytest.mark.parametrize("name", ["rounding", "activation_order"])
def test_neither_can_hardware(name):
    with pytest.raises(UsageError, match=f"{name} cannot be 'exact'"):
        Hardware(**{name: "exact"})


def test_a_conversion_is_for_the_hardware_that_its_options_name():
    assert Options(rounding="floor", target="own.json").hardware == Hardware(
        "floor", "mac", "own.json"
    )
    assert Options().hardware == ACCESS == Hardware()


def test_the_roundings_are_those_that_are_defined():
    assert tuple(map(str, Rounding)) == ROUNDINGS
    assert set(HardwareRounding) <= set(ROUNDINGS)
