"""``dlaconv dump``: every map of converted files, cut networks and sources."""

import json

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

import dlaconv
from dlaconv.cli import run
from dlaconv.errors import UnreadableError, UsageError, UserError
from dlaconv.npz_writer import npz_writer
from dlaconv.options import Options
from tests.core.test_borders import channels_last
from tests.core.test_partition import Converted, network
from tests.core.test_schemas import validate
from tests.networks import Style, chain


@pytest.fixture
def quantised(tmp_path):
    """A chain of two convolutions at power-of-two scales, converted, with samples."""
    built = chain(2, 0, Style(power_of_two=True))
    onnx.save(built.model, tmp_path / "net.onnx")
    np.savez(tmp_path / "x.npz", input=built.samples["input"][:3])
    options = Options(verify=False, allow_violations=True)
    dlaconv.convert(tmp_path / "net.onnx", tmp_path / "net.dla.onnx", options=options)
    return tmp_path


def dumped(folder, name, **options):
    inputs = dict(np.load(folder / "x.npz"))
    found = dlaconv.dump(folder / name, inputs, folder / "maps.npz", **options)
    validate("dump", found.as_json())
    return dict(np.load(folder / "maps.npz")), found


def test_the_integers_are_those_of_a_run(quantised):
    maps, found = dumped(quantised, "net.dla.onnx")
    wanted = dlaconv.run(
        quantised / "net.dla.onnx", dict(np.load(quantised / "x.npz")), fetch_all=True
    )
    assert found.kind == "converted"
    assert maps.keys() == wanted.keys()
    for name, array in wanted.items():
        assert maps[name].dtype == array.dtype
        assert np.array_equal(maps[name], array)
        described = found.maps[name]
        assert (described["shape"], described["dtype"]) == (list(array.shape), str(array.dtype))
        assert (described["min"], described["max"]) == (array.min(), array.max())


def test_real_values_lie_beside_those_of_the_source(quantised):
    ours, _ = dumped(quantised, "net.dla.onnx", as_float=True)
    theirs, found = dumped(quantised, "net.onnx")
    assert found.kind == "source"
    shared = ours.keys() & theirs.keys()
    assert len(shared) == len(ours) - ("input" in ours)
    for name in shared - {"input"}:
        assert ours[name].dtype == np.float32
        assert (ours[name] == theirs[name]).mean() > 0.99, name  # biases have 16 bits
        assert np.allclose(ours[name], theirs[name], atol=0.07), name


def test_a_source_has_every_value_that_it_computes(tmp_path):
    model = network("conv", "fc")
    onnx.save(model, tmp_path / "net.onnx")
    x = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x)
    maps, _ = dumped(tmp_path, "net.onnx")
    names = [node.output[0] for node in model.graph.node]
    assert list(maps) == names
    for name in names:
        model.graph.output[0].name = name
        rows = [ReferenceEvaluator(model).run([name], {"x": one[None]})[0] for one in x]
        assert np.allclose(maps[name], np.concatenate(rows), atol=1e-4), name


def test_all_parts_of_a_cut_network_are_dumped(tmp_path):
    made = Converted(tmp_path, network("conv", "Erf", "conv", "Softmax"), partition=True)
    np.savez(tmp_path / "x.npz", x=made.samples[:2])
    reals, found = dumped(tmp_path, "net.dla.json", as_float=True)
    assert found.kind == "chain"
    assert np.array_equal(reals["y"], made.got()[:2])
    integers, _ = dumped(tmp_path, "net.dla.json")
    assert integers.keys() == reals.keys()
    seam = made.report["parts"][0]["outputs"][0]
    assert integers[seam].dtype == np.int8
    steps = {port["name"]: port["real_step"] for port in made.report["io"]["outputs"]}
    assert np.allclose(integers[seam] * steps[seam], reals[seam])


def test_the_command_writes_and_lists_them(quantised, capsys):
    arguments = [
        "dump", str(quantised / "net.dla.onnx"), "--input", str(quantised / "x.npz"),
        "-o", str(quantised / "maps.npz"),
    ]  # fmt: skip
    assert run(arguments) == 0
    shown = capsys.readouterr().out
    names = np.load(quantised / "maps.npz").files
    assert all(name in shown for name in names)
    assert run([*arguments, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    validate("dump", document)
    assert sorted(document["maps"]) == sorted(names)


def test_nothing_is_left_of_a_dump_that_fails(quantised):
    before = sorted(path.name for path in quantised.iterdir())
    with pytest.raises(UsageError, match="shape"):
        dlaconv.dump(
            quantised / "net.dla.onnx", {"input": np.zeros((2, 3))}, quantised / "maps.npz"
        )
    with pytest.raises(UsageError, match="overwrite"):
        dlaconv.dump(quantised / "net.dla.onnx", {}, quantised / "net.dla.onnx")
    with pytest.raises(UnreadableError):
        dlaconv.dump(quantised / "none.onnx", {}, quantised / "maps.npz")
    assert sorted(path.name for path in quantised.iterdir()) == before


def test_a_source_for_a_larger_batch_is_refused_with_the_reason(tmp_path):
    model = network("conv", "fc")
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(UserError, match="DLA310"):
        dlaconv.dump(
            tmp_path / "net.onnx",
            {"x": np.zeros((2, 3, 8, 8), np.float32)},
            tmp_path / "maps.npz",
        )
    assert not (tmp_path / "maps.npz").exists()


def test_rows_are_added_one_after_the_other(tmp_path):
    rows = np.arange(24, dtype=np.int16).reshape(4, 3, 2)
    with npz_writer(tmp_path / "a.npz") as writer:
        for index in range(4):
            writer.add({"/a b": rows[index : index + 1], "c": rows[index : index + 1, ..., 0]})
        writer.add({"c": np.zeros((0, 3), np.int16)})
    found = np.load(tmp_path / "a.npz")
    assert np.array_equal(found["/a b"], rows)
    assert np.array_equal(found["c"], rows[..., 0])
    assert writer.arrays["c"] == {"shape": [4, 3], "dtype": "int16", "min": 0, "max": 22}
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_real_values_of_an_input_in_floating_point_have_its_name(tmp_path):
    made = Converted(tmp_path, channels_last())
    [fed] = made.report["io"]["inputs"]
    inputs = {fed["name"]: made.samples.transpose(0, 3, 1, 2)}
    dlaconv.dump(tmp_path / "net.dla.onnx", inputs, tmp_path / "maps.npz", as_float=True)
    maps = np.load(tmp_path / "maps.npz")
    assert fed["name"] in maps
    assert not [name for name in maps if "derived" in name]
