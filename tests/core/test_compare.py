"""``dlaconv compare``: the error of every layer, alone and in the network."""

import json

import numpy as np
import onnx
import pytest

import dlaconv
from dlaconv.cli import run
from dlaconv.errors import UsageError
from dlaconv.ir.channel_errors import ChannelErrors, decibels
from tests.core.test_partition import Converted, network, qsnr
from tests.core.test_schemas import validate


def compared(made, converted="net.dla.onnx", **options):
    found = dlaconv.compare(
        made.source, made.folder / converted, made.folder / "data.npz", **options
    )
    validate("compare", found.as_json())
    return found


def test_a_float_network_is_measured_layer_by_layer(tmp_path):
    made = Converted(tmp_path, network("conv", "conv", "fc"), verify=False)
    found = compared(made)
    assert found.samples == 8
    [(name, output)] = found.outputs.items()
    assert name == "y"
    assert abs(output["qsnr_db"] - qsnr(made.expected(), made.got())) < 0.06
    assert output["max_error"] == pytest.approx(np.abs(made.expected() - made.got()).max(), 1e-3)
    for row in found.layers:
        assert row["isolated"]["qsnr_db"] > 20
        assert row["worst_channels"][0]["share"] >= row["worst_channels"][-1]["share"]
    last = found.layers[-1]
    assert last["accumulated"] == output
    assert last["isolated"]["qsnr_db"] > output["qsnr_db"]  # errors of other layers are left out


def test_the_numbers_are_those_of_the_dumped_maps(tmp_path):
    made = Converted(tmp_path, network("conv", "conv", "fc"), verify=False)
    found = compared(made)
    inputs = {"x": made.samples}
    dlaconv.dump(made.folder / "net.dla.onnx", inputs, tmp_path / "ours.npz", as_float=True)
    dlaconv.dump(made.source, inputs, tmp_path / "theirs.npz")
    ours, theirs = np.load(tmp_path / "ours.npz"), np.load(tmp_path / "theirs.npz")
    rows = {row["name"]: row["accumulated"] for row in found.layers}
    shared = rows.keys() & set(ours.files) & set(theirs.files)
    assert len(shared) >= 3
    for name in shared:
        assert rows[name]["qsnr_db"] == pytest.approx(qsnr(theirs[name], ours[name]), abs=0.06)


def test_errors_of_a_cut_network_accumulate_over_its_parts(tmp_path):
    made = Converted(tmp_path, network("conv", "Erf", "conv", "fc", "Softmax"), partition=True)
    found = compared(made, "net.dla.json")
    assert {row["file"] for row in found.layers} == {"net.dla.onnx", "net.dla2.onnx"}
    assert abs(found.outputs["y"]["qsnr_db"] - qsnr(made.expected(), made.got())) < 0.06
    part = compared(made, "net.dla2.onnx")
    rows = {row["name"]: row for row in found.layers}
    for row in part.layers:
        whole = rows[row["name"]]
        assert row["isolated"] == whole["isolated"]
    last = part.layers[-1]
    assert rows[last["name"]]["accumulated"] != last["accumulated"]  # the first part adds its own


def test_the_classes_of_a_cut_network_are_those_of_the_accelerators_output(tmp_path):
    made = Converted(tmp_path, network("conv", "conv", "fc", "Softmax", seed=10), partition=True)
    [(name, found)] = compared(made, "net.dla.json").argmax.items()
    assert name != "y"  # behind the Softmax the host's
    changed = made.expected().argmax(1) != made.got().argmax(1)
    assert found["samples"] == len(changed) == 8
    assert [row["sample"] for row in found["changed"]] == np.flatnonzero(changed).tolist()
    step = json.loads((tmp_path / "net.dla.json").read_text())["io"]["outputs"][0]["real_step"]
    ordered = np.sort(np.log(made.expected()), axis=1)
    near = ordered[:, -1] - ordered[:, -2] <= step
    assert found["near_ties"] == np.flatnonzero(near).tolist()
    assert found["near_ties"]
    report = json.loads((tmp_path / "net.dla.json").read_text())["verification"]
    assert report["argmax"].keys() == {name}


@pytest.mark.parametrize("last", ["Softmax", "Relu"])
def test_maps_that_parts_hand_to_each_other_are_no_classes(tmp_path, last):
    operators = ["conv", "Erf", "conv", "fc", last]
    made = Converted(tmp_path, network(*operators), partition=True)
    found = compared(made, "net.dla.json").argmax
    report = json.loads((tmp_path / "net.dla.json").read_text())["verification"]
    assert len(report["outputs"]) == 2
    assert report["argmax"].keys() == found.keys() == {"v3" if last == "Softmax" else "y"}


def test_what_the_host_goes_on_with_is_no_class(tmp_path):
    Converted(tmp_path, network("conv", "fc", "Sin"), partition=True)
    report = json.loads((tmp_path / "net.dla.json").read_text())["verification"]
    assert (report["argmax"], list(report["outputs"])) == ({}, ["v1"])


def test_few_samples_and_an_aim(tmp_path, capsys):
    made = Converted(tmp_path, network("conv", "fc"), verify=False)
    assert compared(made, limit=2).samples == 2
    assert compared(made, min_qsnr_db=1).passed
    assert not compared(made, min_qsnr_db=90).passed
    arguments = [
        "compare", str(made.source), str(tmp_path / "net.dla.onnx"),
        "--input", str(tmp_path / "data.npz"),
    ]  # fmt: skip
    assert run(arguments) == 0
    shown = capsys.readouterr().out
    assert "conv0" in shown
    assert "dB" in shown
    assert run([*arguments, "--min-qsnr", "90", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    validate("compare", document)
    assert not document["passed"]


def test_saturation_is_counted(tmp_path):
    made = Converted(tmp_path, network("conv", "fc"), verify=False)
    np.savez(tmp_path / "data.npz", x=made.samples * 8)
    first = compared(made).layers[0]
    assert first["name"] == "v0"
    assert first["saturated"] > 0.2
    assert first["isolated"]["max_error"] > 5


def test_other_networks_are_refused(tmp_path):
    made = Converted(tmp_path, network("conv", "fc"))
    onnx.save(network("conv", "fc", name="other"), tmp_path / "other.onnx")
    np.savez(tmp_path / "data.npz", other=made.samples)
    for converted in ("net.dla.onnx", "net.dla.json"):
        with pytest.raises(UsageError, match="DLA903"):
            dlaconv.compare(tmp_path / "other.onnx", tmp_path / converted, tmp_path / "data.npz")


def test_channels_are_told_apart():
    wanted = np.zeros((2, 3, 2))
    wanted[:, 1] = 10
    got = wanted.copy()
    got[0, 1, 0] = 11
    got[1, 2] = 3
    errors = ChannelErrors()
    errors.add(wanted[:1], got[:1])
    errors.add(wanted[1:], got[1:])
    assert errors.largest == 3
    assert errors.worst(5, 0.5) == [
        {"channel": 2, "qsnr_db": None, "max_error": 1.5, "share": round(18 / 19, 4)},
        {"channel": 1, "qsnr_db": 26.0, "max_error": 0.5, "share": round(1 / 19, 4)},
    ]
    assert decibels(400, 1) == 26.0
    assert (decibels(0, 1), decibels(1, 0)) == (None, None)
