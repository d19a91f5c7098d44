"""Every legalisation is documented, names rules that exist, and respects the mode."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from dlaconv.backends.access.rules import RULES
from dlaconv.ir.passes.legal import LEGALISATIONS
from dlaconv.ir.passes.legal.building import Builder, stored_quantisation
from dlaconv.ir.passes.legal.legalisation import Blocked, legalisation
from dlaconv.ir.passes.legal.page import page
from tests.ir.passes.harness import Net, context, ops, run_pass

ROOT = Path(__file__).resolve().parents[4]
every = pytest.mark.parametrize("item", LEGALISATIONS, ids=lambda item: item.name)


@every
def test_it_is_documented(item):
    documentation = item.documentation
    assert documentation.summary.endswith(".")
    assert all(text.endswith(".") for text in documentation.sections.values())
    assert re.fullmatch(r"[a-z0-9_]+", item.name)


@every
def test_it_keeps_rules_that_exist(item):
    assert item.rules
    assert set(item.rules) <= {rule.id for rule in RULES}


@every
def test_it_has_a_file_and_a_test_of_its_own(item):
    assert (ROOT / "ir/passes/legal" / f"{item.name}.py").is_file()
    assert (ROOT / "tests/ir/passes/legal" / f"test_{item.name}.py").is_file()


def test_names_are_unique():
    assert len({item.name for item in LEGALISATIONS}) == len(LEGALISATIONS)


def test_the_page_is_that_of_the_docstrings():
    written = (ROOT / "docs" / "legalisation.md").read_text("utf-8")
    assert written == page(), "run: python -m dlaconv.ir.passes.legal.page > docs/legalisation.md"


@legalisation("Relu", rules=("AC-1",), exact=False)
def leaky(node, context):
    """A ReLU as a leaky one.

    Identity: They are one and the same at a slope of zero.

    Conditions: None.

    Cost: None.
    """
    builder = Builder(node)
    builder.op("LeakyRelu", [node.inputs[0]], node.outputs[0].shape, alpha=0.0)
    return builder.plan("a leaky ReLU")


@legalisation("Relu", rules=("AC-1",))
def impossible(node, context):
    return Blocked("nobody can")


def relu():
    net = Net(x=[1, 2, 4, 4])
    return net.model(net.op("Relu", "x", out="y"))


@pytest.mark.parametrize(("mode", "changed"), [("off", False), ("exact", False), ("all", True)])
def test_an_approximate_rewrite_is_only_used_when_asked_for(mode, changed):
    noted = context(legalise=mode)
    after = run_pass(leaky.as_pass(), relu(), noted)
    assert ops(after) == (["LeakyRelu"] if changed else ["Relu"])
    assert [item.rule for item in noted.diagnostics] == (["DLA313"] if mode == "exact" else [])
    assert [item.exact for item in noted.rewrites] == ([False] if changed else [])


def test_what_nothing_can_be_done_about_is_noted_with_its_reason():
    noted = context()
    run_pass(impossible.as_pass(), relu(), noted)
    assert noted.blocked == {"y": ["impossible: nobody can"]}


def test_reports_of_rewrites_are_json():
    noted = context(legalise="all")
    run_pass(leaky.as_pass(), relu(), noted)
    assert json.dumps([rewrite.__dict__ for rewrite in noted.rewrites])


def quantised(*steps):
    net = Net(x=[1, 2, 4, 4])
    return net, [net.quantize("x", np.asarray(step, np.float32)) for step in steps]


def test_what_is_joined_from_one_grid_is_stored_on_it():
    net, parts = quantised(0.5, 0.5)
    joined = net.op("MaxPool", net.op("Concat", *parts, axis=1), kernel_shape=[2, 2])
    assert stored_quantisation(net.values[joined]).scalar_step == 0.5


def test_what_is_joined_from_two_grids_has_none():
    net, parts = quantised(0.5, 0.25)
    assert stored_quantisation(net.values[net.op("Concat", *parts, axis=1)]) is None


@pytest.mark.parametrize(("op_type", "found"), [("Relu", True), ("Transpose", False)])
def test_steps_per_channel_do_not_follow_their_channels(op_type, found):
    net, [x] = quantised(np.array([0.5, 0.25]).reshape(1, 2, 1, 1))
    assert (stored_quantisation(net.values[net.op(op_type, x)]) is not None) == found
