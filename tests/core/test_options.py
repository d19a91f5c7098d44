import pytest

from dlaconv import api
from dlaconv.commands.options import HardwareRounding
from dlaconv.errors import UsageError
from dlaconv.ir.rounding import Rounding
from dlaconv.options import ROUNDINGS, Options


@pytest.mark.parametrize("name", ["policy", "io", "convention", "rounding", "activation_order"])
def test_an_option_cannot_have_any_value(name):
    with pytest.raises(UsageError, match=f"{name} cannot be 'exact'"):
        Options(**{name: "exact"})


@pytest.mark.parametrize("name", ["rounding", "activation_order"])
def test_neither_can_a_simulation_or_comparison(name, tmp_path):
    file = tmp_path / "net.onnx"
    file.touch()
    for call in (lambda **o: api.run(file, {}, **o), lambda **o: api.verify(file, file, **o)):
        with pytest.raises(UsageError, match=f"{name} cannot be 'exact'"):
            call(**{name: "exact"})


def test_the_roundings_are_those_that_are_defined():
    assert tuple(map(str, Rounding)) == ROUNDINGS
    assert set(HardwareRounding) <= set(ROUNDINGS)
