"""``dlaconv sensitivity``: layers ranked by the error of the outputs that they cause."""

import json

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import dlaconv
from dlaconv.cli import run
from dlaconv.driver.sensitivity import Error
from dlaconv.errors import UnreadableError
from dlaconv.frontends.onnx.reader import read_onnx
from dlaconv.ir.execution import run as run_model
from dlaconv.ir.injection import Injector
from dlaconv.options import Options
from tests.core.test_partition import network
from tests.core.test_schemas import validate


def ranked(folder, model, count=4, **options):
    onnx.save(model, folder / "net.onnx")
    x = np.random.default_rng(0).uniform(-1, 1, (8, 3, 8, 8)).astype(np.float32)
    np.savez(folder / "data.npz", x=x)
    chosen = Options(calibrate=folder / "data.npz", samples=count, **options)
    found = dlaconv.sensitivity(folder / "net.onnx", options=chosen)
    validate("sensitivity", found.as_json())
    return found


def noise(row, which):
    return row[which]["noise"]


def test_errors_of_single_layers_add_up_to_that_of_all(tmp_path):
    found = ranked(tmp_path, network("conv", "conv", "conv", "fc"))
    assert found.samples == 4
    assert [row["op"] for row in found.layers].count("Conv") == 3
    total = sum(noise(row, "only") for row in found.layers)
    whole = found.everything.share
    assert 0.4 * whole < total < 1.6 * whole  # errors are nearly independent, inputs have theirs
    assert found.layers == sorted(found.layers, key=lambda row: -noise(row, "only"))
    for row in found.layers:
        assert noise(row, "all_but") < 1.4 * whole


def outlier(model, name):
    """Gives one channel of a convolution weights so large that others have few steps left."""
    [weights] = [t for t in model.graph.initializer if t.name == name]
    array = numpy_helper.to_array(weights).copy()
    array[0] *= 150
    weights.CopyFrom(numpy_helper.from_array(array, name))
    return model


def test_a_bad_layer_comes_first_and_is_what_all_others_gain_by(tmp_path):
    found = ranked(tmp_path, outlier(network("conv", "conv", "conv", "fc"), "w1"))
    first = found.layers[0]
    assert first["layer"] == "conv1"
    assert noise(first, "only") > 2 * noise(found.layers[1], "only")
    assert noise(first, "all_but") == min(noise(row, "all_but") for row in found.layers)
    assert noise(first, "all_but") < 0.8 * found.everything.share


def test_what_moves_the_values_of_a_layer_is_freed_with_it(tmp_path):
    """A MaxPool stores them again, so it would round what its layer does not."""
    model = outlier(network("conv", "MaxPool", "fc", size=9), "w0")
    [pool] = [node for node in model.graph.node if node.op_type == "MaxPool"]
    pool.attribute.append(onnx.helper.make_attribute("kernel_shape", [2, 2]))
    [weights] = [tensor for tensor in model.graph.initializer if tensor.name == "w2"]
    weights.CopyFrom(
        numpy_helper.from_array(numpy_helper.to_array(weights)[: 16 * 64].copy(), "w2")
    )
    onnx.save(model, tmp_path / "net.onnx")
    x = np.random.default_rng(0).uniform(-1, 1, (4, 3, 9, 9)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x)
    options = Options(calibrate=tmp_path / "data.npz")
    found = dlaconv.sensitivity(tmp_path / "net.onnx", options=options)
    [conv] = [row for row in found.layers if row["layer"] == "conv0"]
    assert noise(conv, "all_but") < 0.8 * found.everything.share


def test_layers_of_a_cut_network_are_tried_with_its_host_parts(tmp_path):
    found = ranked(tmp_path, network("conv", "Erf", "conv", "fc"), partition=True)
    assert {"conv0", "conv2", "fc3"} <= {row["layer"] for row in found.layers}
    assert all(noise(row, "only") > 0 for row in found.layers)


def test_the_command_ranks_and_needs_data(tmp_path, capsys):
    ranked(tmp_path, network("conv", "fc"))
    arguments = [
        "sensitivity", str(tmp_path / "net.onnx"), "--calibrate", str(tmp_path / "data.npz"),
        "--samples", "2",
    ]  # fmt: skip
    assert run(arguments) == 0
    shown = capsys.readouterr().out
    assert "conv0" in shown
    assert "2 samples" in shown
    assert run([*arguments, "--json"]) == 0
    validate("sensitivity", json.loads(capsys.readouterr().out))
    assert run(arguments[:2]) == 2
    with pytest.raises(UnreadableError):
        dlaconv.sensitivity(tmp_path / "net.onnx", options=Options(calibrate=tmp_path / "none.npz"))


def test_a_replaced_value_reaches_what_reads_it_and_nothing_else(tmp_path):
    onnx.save(network("conv", "conv", "fc"), tmp_path / "net.onnx")
    model = read_onnx(tmp_path / "net.onnx")
    x = {"x": np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)}
    injector = Injector(model, ["v0", "y", "nothing"])
    assert injector.names == ["v0", "y"]
    wanted = run_model(model, x, ["v0", "y"])
    outputs, found = injector.run(x, {})
    assert np.array_equal(outputs["y"], wanted["y"])
    assert np.array_equal(found["v0"], wanted["v0"])
    outputs, found = injector.run(x, {"v0": np.zeros_like(wanted["v0"])})
    assert np.array_equal(found["v0"], wanted["v0"])
    assert not outputs["y"].any()
    outputs, found = injector.run(x, {"y": np.ones((1, 10), np.float32)})
    assert np.array_equal(outputs["y"], np.ones((1, 10)))
    assert np.array_equal(found["y"], wanted["y"])


def test_the_error_is_the_mean_over_the_outputs():
    error = Error()
    error.add({"a": np.array([3.0, 4]), "b": np.array([10])}, {
        "a": np.array([3.0, 3]), "b": np.array([9.0])})  # fmt: skip
    assert error.share == pytest.approx((1 / 25 + 1 / 100) / 2)
    assert error.as_json() == {"noise": 0.025, "qsnr_db": 16.0}
    silent = Error()
    silent.add({"a": np.zeros(2)}, {"a": np.ones(2)})
    assert silent.as_json() == {"noise": None, "qsnr_db": None}
