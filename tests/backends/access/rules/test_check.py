"""Running all rules: results, plugins, effort."""

from __future__ import annotations

import numpy as np
import pytest

from dlaconv.backends.access import model as view_module
from dlaconv.backends.access.rules import RULES, Rule, check_model
from dlaconv.errors import InternalError
from tests.backends.access.rules.rule_nets import TARGET, Net, one_conv


class ColdColour(Rule):
    """A network was trained on a Monday.

    What it does: Always finds something.

    Why it matters on the hardware: It does not.

    What to do: Nothing.
    """

    id = "XX-1"
    name = "cold-colour"
    clause = "None."

    def check(self, model):
        yield self.finding(model.location(None), "cold")


class Broken(ColdColour):
    __doc__ = ColdColour.__doc__
    id = "XX-2"

    def check(self, model):
        yield self.finding(model.location(None), "first")
        raise RuntimeError("oops")


def residual(blocks: int):
    net = Net()
    y = net.conv(net.input(1, 16, 8, 8))
    for _ in range(blocks):
        z = net.op("Relu", net.conv(y, kernel=(3, 3), pads=[1] * 4, bias=np.arange(16)))
        y = net.op("Add", net.conv(z), y)
    return net.model(y)


def test_a_legal_network_passes_every_rule():
    result = check_model(residual(2), TARGET)
    assert list(result.diagnostics) == []
    assert result.passed == tuple(rule.id for rule in RULES)
    assert result.ok
    assert not result.violated


@pytest.mark.parametrize("convention", ["guide", "int-per-real"])
def test_legal_files_of_both_conventions_pass(convention):
    result = check_model(one_conv(convention=convention, bias=np.arange(16)), TARGET)
    assert list(result.diagnostics) == []
    assert result.convention == convention


def test_the_wrong_convention_is_found_out_and_suggested():
    result = check_model(one_conv(), TARGET, convention="int-per-real")
    (found,) = [item for item in result.diagnostics if item.rule == "SC-4"]
    assert "--scale-convention guide" in found.help
    assert not result.ok


def test_every_rule_is_passed_violated_or_undecided():
    result = check_model(one_conv(1, 16, "H", 8, kernel=(9, 9)), TARGET)
    ids = [*result.passed, *result.violated, *result.undecided]
    assert sorted(ids) == sorted(rule.id for rule in RULES)
    assert result.violated["CV-1"] == 1


def test_offences_are_counted():
    net = Net()
    y = net.input(1, 16, 8, 8)
    for _ in range(3):
        y = net.conv(y, strides=[3, 3], kernel=(3, 3), pads=[3] * 4)
    assert check_model(net.model(y), TARGET).violated == {"CV-4": 3}


def test_warnings_alone_leave_a_file_usable():
    result = check_model(one_conv(channels=10), TARGET)
    assert result.violated == {"IO-3": 1}
    assert result.ok


def test_rules_of_plugins_run_after_ours():
    result = check_model(one_conv(), TARGET, extra=[ColdColour()])
    assert result.violated == {"XX-1": 1}
    assert [item.message for item in result.diagnostics] == ["cold"]


def test_a_broken_rule_of_a_plugin_is_a_finding_and_stops_nothing():
    result = check_model(one_conv(channels=10), TARGET, extra=[Broken(), ColdColour()])
    assert result.violated == {"IO-3": 1, "XX-2": 2, "XX-1": 1}
    messages = [item.message for item in result.diagnostics if item.rule == "XX-2"]
    assert messages == [
        "first",
        "the plugin's rule failed, so nothing is known: RuntimeError: oops",
    ]


def test_a_broken_rule_of_ours_is_a_bug(monkeypatch):
    monkeypatch.setattr(type(RULES[3]), "check", lambda self, model: 1 / 0)
    with pytest.raises(InternalError, match="GR-4"):
        check_model(one_conv(), TARGET)


def test_effort_grows_linearly_with_the_network(monkeypatch):
    calls = 0

    def counted(function):
        def wrapper(*args, **kwargs):
            nonlocal calls
            calls += 1
            return function(*args, **kwargs)

        return wrapper

    for name in ("attribute", "shape", "is_map", "is_constant", "array", "map_scale", "location"):
        method = getattr(view_module.AccessModel, name)
        monkeypatch.setattr(view_module.AccessModel, name, counted(method))
    effort = []
    for blocks in (20, 40, 80):
        calls = 0
        check_model(residual(blocks), TARGET)
        effort.append(calls)
    assert effort[2] - effort[1] <= 2.02 * (effort[1] - effort[0])
