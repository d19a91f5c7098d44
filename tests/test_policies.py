"""Every scale policy end to end: the file converts, and the report says what became of it."""

import numpy as np
import onnx
import pytest

from dlaconv.options import POLICIES
from tests.networks import Style, chain, residual, varied
from tests.test_acceptance import (
    UNSIGNED,
    Run,
    access_convolutions,
    convert_built,
    source_convolutions,
)

NETS = {
    "chain": lambda: chain(4, 60),
    "unsigned": lambda: chain(4, 61, UNSIGNED),
    "residual": lambda: residual(2, 62),
    "varied": lambda: varied(63),
    "6 bits": lambda: chain(4, 64, Style(bits=6, weight_bits=6)),
    "powers": lambda: chain(4, 65, Style(power_of_two=True, bias="16")),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Converted networks by name and policy, each converted once."""
    found: dict[tuple[str, str], Run] = {}

    def get(name: str, policy: str) -> Run:
        if (name, policy) not in found:
            folder = tmp_path_factory.mktemp("policy")
            found[name, policy] = convert_built(NETS[name](), folder, policy=policy)
        return found[name, policy]

    return get


every_net = pytest.mark.parametrize("name", NETS)
every_policy = pytest.mark.parametrize("policy", POLICIES)


@every_policy
@every_net
def test_layers_fed_with_the_source_are_off_by_what_the_report_explains(runs, name, policy):
    run = runs(name, policy)
    assert len(run.rows) > 4
    assert run.verification.passed
    assert run.output_qsnr > 8


@every_policy
@every_net
def test_weights_are_called_requantised_where_their_integers_changed(runs, name, policy):
    run = runs(name, policy)
    if policy == "absorb" and name == "residual":
        assert "requantised" not in {row["class"] for row in run.report["tensors"]}
    classes = {row["layer"]: row for row in run.report["tensors"] if row["kind"] == "weight"}
    written = access_convolutions(run.target)
    checked = 0
    for node, wanted in source_convolutions(run.source).items():
        hardware, *_ = written[node]
        got = np.rint(hardware.integers)
        changed = np.flatnonzero(np.abs(got - wanted.integers).max((1, 2, 3)) > 0)
        row = classes[node]
        assert row.get("channels", []) == changed.tolist(), node
        same_steps = np.allclose(hardware.steps, wanted.steps, rtol=1e-6)
        if changed.size:
            assert row["class"] == "requantised"
        elif policy != "absorb":  # which moves ratios into the steps
            assert row["class"] == ("exact" if same_steps else "rescaled")
        checked += 1
    assert checked > 3


@every_policy
@every_net
def test_maps_are_called_exact_only_where_the_source_s_step_is_kept(runs, name, policy):
    for row in runs(name, policy).report["tensors"]:
        if row["kind"] == "map" and row["source"] is not None:
            same = abs(row["target"]["real_step"] / row["source"]["step"] - 1) < 1e-6
            assert (row["class"] == "exact") <= same, row["name"]
            if row["target"]["real_step"] < 0.999 * row["source"]["step"]:
                assert row["class"] == "clipped", row["name"]


@every_net
def test_ceil_saturates_nothing_that_the_source_does_not(runs, name):
    run = runs(name, "ceil")
    assert sum(row.local.clipped for row in run.rows.values()) == 0
    assert sum(row.accumulated.clipped for row in run.rows.values()) == 0
    assert "DLA902" not in {item["rule"] for item in run.report["diagnostics"]}


@every_policy
def test_power_of_two_networks_are_exact_under_every_policy(runs, policy):
    run = runs("powers", policy)
    assert sum(row.accumulated.differing for row in run.rows.values()) == 0
    assert {row["class"] for row in run.report["tensors"]} == {"exact"}


@pytest.mark.parametrize("build", [lambda s: chain(4, s), lambda s: residual(2, s), varied])
@pytest.mark.parametrize("seed", [60, 61])
def test_with_data_absorb_is_better_than_mse_and_mse_than_nearest(build, seed, tmp_path):
    calibrate = tmp_path / "inputs.npz"
    quality = {
        policy: convert_built(build(seed), tmp_path, policy=policy, calibrate=calibrate).output_qsnr
        for policy in ("absorb", "mse", "nearest")
    }
    assert quality["absorb"] > quality["mse"] > quality["nearest"] + 1


@pytest.mark.parametrize("name", ["chain", "unsigned", "residual", "varied"])
def test_without_data_mse_is_better_than_nearest_and_absorb_not_far_behind(runs, name):
    """`absorb` lets no pinned input or output saturate for what random inputs say."""
    quality = {policy: runs(name, policy).output_qsnr for policy in POLICIES}
    assert quality["absorb"] > quality["mse"] - 2
    assert quality["mse"] > quality["nearest"] + 1


@every_policy
def test_the_written_file_is_legal_in_its_numbers(runs, policy):
    import dlaconv

    violated = dlaconv.check(runs("chain", policy).target).violated
    assert not {rule for rule in violated if rule.startswith(("SC-", "AT-", "CV-8"))}
    steps = [
        item.floats
        for node in onnx.load(runs("chain", policy).target).graph.node
        for item in node.attribute
        if item.name == "weight_ch_scales"
    ]
    powers = all(np.frexp(step)[0] == 0.5 for floats in steps for step in floats)
    assert powers == (policy in {"nearest", "ceil"})
