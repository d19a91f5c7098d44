"""Sources of several files, and with options that change what the network is."""

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import dlaconv
from dlaconv import cli
from dlaconv.errors import UsageError
from dlaconv.options import Options
from tests.core.pairs import plugins, write_pair
from tests.core.test_schemas import validate


@pytest.fixture
def run(capsys):
    def call(*words):
        capsys.readouterr()
        code = cli.run([str(word) for word in words], plugins())
        shown = capsys.readouterr()
        return SimpleNamespace(code=code, out=shown.out, err=shown.err)

    return call


@pytest.fixture
def net(tmp_path):
    """The two files, in a folder with x.npz and y.npy."""
    return list(map(str, write_pair(tmp_path)))


def convert(run, net, folder, *more, command="convert"):
    shown = run(command, *net, "-o", folder / "net.dla.onnx", *more)
    assert shown.code == 0, shown.err
    return shown


def report(folder):
    return json.loads((folder / "net.dla.json").read_text())


COMMANDS = {
    "show": "show {net} {more}",
    "dump": "dump {net} --input {folder}/x.npz -o {folder}/maps.npz {more}",
    "sensitivity": "sensitivity {net} --calibrate {folder}/x.npz {more}",
    "verify": "verify {net} {folder}/net.dla.onnx {more}",
    "compare": "compare {net} {folder}/net.dla.onnx --input {folder}/x.npz {more}",
    "validate": "validate {folder}/net.dla.onnx --input {folder}/x.npz --labels {folder}/y.npy "
    "{sources} {more}",
}


def words(command, net, folder, more=""):
    sources = " ".join(f"--source {file}" for file in net)
    text = COMMANDS[command].format(net=" ".join(net), sources=sources, folder=folder, more=more)
    return text.split()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_all_files_of_a_source(run, net, tmp_path, command):
    convert(run, net, tmp_path)
    shown = run(*words(command, net, tmp_path))
    assert shown.code == 0, shown.err


@pytest.mark.parametrize("command", COMMANDS)
def test_a_missing_second_file_is_told_with_what_to_give(run, net, tmp_path, command):
    convert(run, net, tmp_path)
    shown = run(*words(command, net[:1], tmp_path))
    assert shown.code == 2
    assert "DLA414" in shown.err
    assert "2 files, NET.pair and WEIGHTS.npy, and 1 is given" in shown.err
    assert f"give {net[0]} WEIGHTS.npy" in shown.err


def test_weights_alone_lead_to_the_formats_of_several_files(run, net):
    shown = run("show", net[1])
    assert shown.code == 3
    assert "DLA413" in shown.err
    assert "pair (NET.pair and WEIGHTS.npy)" in shown.err


def test_a_file_too_many_is_told(run, net, tmp_path):
    shown = run("show", *net, tmp_path / "x.npz")
    assert shown.code == 2
    assert "2 files, NET.pair and WEIGHTS.npy, and 3 are given" in shown.err
    shown = run("show", "--from", "onnx", *net)
    assert "a network of format 'onnx' is one file, and 2 are given" in shown.err


def test_a_second_file_that_does_not_exist_is_told_first(run, net, tmp_path):
    for command in ("convert", "from-pair"):
        shown = run(command, net[0], tmp_path / "gone.npy", "-o", tmp_path / "net.dla.onnx")
        assert shown.code == 3
        assert "DLA401" in shown.err
        assert "gone.npy" in shown.err


@pytest.mark.parametrize("command", ["convert", "from-pair"])
def test_no_file_of_the_source_is_overwritten(run, net, tmp_path, command):
    before = (tmp_path / "weights.npy").read_bytes()
    shown = run(command, *net, "-o", net[1])
    assert shown.code == 2
    assert "the output would overwrite an input" in shown.err
    assert (tmp_path / "weights.npy").read_bytes() == before


@pytest.mark.parametrize("command", ["convert", "from-pair"])
def test_the_report_has_the_hash_of_every_file(run, net, tmp_path, command):
    steps = tmp_path / "steps.txt"
    steps.write_text("0.5")
    more = ["--source-option", f"steps={steps}"] if command == "convert" else ["--steps", steps]
    shown = convert(run, net, tmp_path, *more, command=command)
    found = report(tmp_path)
    validate("report", found)
    listed = [found["source"], *found["source"]["further"]]
    assert [item["file"] for item in listed] == [*net, str(steps)]
    for item in listed:
        content = Path(item["file"]).read_bytes()
        assert item["sha256"] == hashlib.sha256(content).hexdigest()
    assert found["source"]["options"] == [f"steps={steps}"]
    assert f"{net[1]}, {steps} (pair steps={steps})".replace(" ", "") in "".join(shown.out.split())


def test_weights_beside_an_onnx_file_are_hashed(tmp_path):
    import onnx

    from tests.networks import Style, chain

    model = chain(2, 0, Style(power_of_two=True)).model
    onnx.save(
        model, tmp_path / "net.onnx", save_as_external_data=True, location="w", size_threshold=0
    )
    found = dlaconv.convert(
        tmp_path / "net.onnx", options=Options(verify=False, allow_violations=True)
    ).report["source"]
    [item] = found["further"]
    assert item["file"].endswith("w")
    assert item["sha256"] == hashlib.sha256((tmp_path / "w").read_bytes()).hexdigest()


def document(run, command, net, folder, more=""):
    shown = run(*words(command, net, folder, f"{more} --json"))
    found = json.loads(shown.out)
    if shown.code == 0:
        validate(command, found)
    return found


@pytest.mark.parametrize("command", ["verify", "compare", "validate"])
def test_a_source_is_read_as_it_was_converted(run, net, tmp_path, command):
    convert(run, net, tmp_path, "--relu", "--step", "0.125", command="from-pair")
    found = document(run, command, net, tmp_path)
    assert found["source_options"] == ["step=0.125", "relu"]
    shown = run(*words(command, net, tmp_path))
    assert shown.code == 0
    assert "step=0.125 relu" in shown.out
    if command == "verify":
        assert all(row["accumulated"]["differing"] == 0 for row in found["maps"])
    if command == "compare":
        assert found["outputs"]["y/out"]["max_error"] == 0


def test_other_options_than_those_of_the_conversion_can_be_given(run, net, tmp_path):
    convert(run, net, tmp_path, "--relu", command="from-pair")
    assert document(run, "compare", net, tmp_path)["outputs"]["y/out"]["max_error"] == 0
    plain = document(run, "compare", net, tmp_path, "--source-option none")
    assert plain["source_options"] == []
    assert plain["outputs"]["y/out"]["max_error"] > 1  # what the ReLU cuts off
    other = document(run, "compare", net, tmp_path, "--source-option relu --source-option step=0.5")
    assert other["source_options"] == ["step=0.5", "relu"]
    assert other["outputs"]["y/out"]["max_error"] > 0


def test_shapes_of_the_conversion_count_as_well(run, net, tmp_path):
    convert(run, net, tmp_path, "--set-shape", "x=1,16", command="from-pair")
    np.savez(tmp_path / "x.npz", x=np.ones((4, 16), np.float32))
    for command in ("verify", "compare", "validate"):
        assert run(*words(command, net, tmp_path)).code == 0, command
    for command in ("show", "dump", "sensitivity"):
        shown = run(*words(command, net, tmp_path, "--set-shape x=1,16"))
        assert shown.code == 0, shown.err
    [part] = dlaconv.show(net, shapes={"x": (1, 16)}, plugins=plugins()).parts
    assert part["parameters"] == 256


def test_a_file_that_an_option_names_has_to_be_named_again(run, net, tmp_path):
    steps = tmp_path / "steps.txt"
    steps.write_text("0.5")
    convert(run, net, tmp_path, "--steps", steps, command="from-pair")
    shown = run(*words("verify", net, tmp_path))
    assert shown.code == 2
    assert "converted with steps=steps.txt, which names a file" in shown.err
    assert "--source-option steps=steps.txt" in shown.err
    assert str(tmp_path) not in (tmp_path / "net.dla.onnx").read_bytes().decode("latin-1")
    again = words("verify", net, tmp_path, f"--source-option step_file={steps}")
    assert run(*again).code == 0
    assert run(*words("verify", net, tmp_path, "--source-option none")).code in {0, 1}


def test_a_file_that_is_written_is_no_part_of_the_source(run, net, tmp_path):
    convert(run, net, tmp_path, "--notes", tmp_path / "notes.txt", command="from-pair")
    assert (tmp_path / "notes.txt").exists()
    found = report(tmp_path)["source"]
    assert [item["file"] for item in found["further"]] == net[1:]
    assert found["options"] == []
    assert b"dlaconv.source_options" not in (tmp_path / "net.dla.onnx").read_bytes()


@pytest.mark.parametrize(
    ("option", "why"),
    [
        ("stpe=1", "--stpe"),
        ("step=many", "many"),
        ("step", "step"),
        ("help", "--help"),
        ("weights=w.npy", "--weights"),
        ("", ""),
    ],
)
def test_an_option_that_the_format_does_not_have_is_refused(run, net, tmp_path, option, why):
    shown = run("show", *net, "--source-option", option)
    assert shown.code == 2
    assert "DLA414" in shown.err
    assert why in shown.err
    assert "dlaconv from-pair --help" in shown.err


@pytest.mark.parametrize("option", ["step=0.5", "--step=0.5"])
def test_options_change_what_is_shown(run, net, tmp_path, option):
    found = json.loads(run("show", *net, "--json", "--source-option", option).out)
    [row] = found["parts"][0]["inputs"][0]["maps"]
    assert row["real_step"] == 0.5


def test_options_without_a_source_do_not_go_together(run, net, tmp_path):
    convert(run, net, tmp_path)
    shown = run(*words("validate", [], tmp_path, "--source-option relu"))
    assert shown.code == 2
    assert "DLA423" in shown.err


def test_recorded_options_that_are_not_known_are_told(run, net, tmp_path):
    convert(run, net, tmp_path, "--relu", command="from-pair")
    rewrite_record(tmp_path / "net.dla.onnx", lambda text: text.replace("relu", "tanh"))
    shown = run(*words("compare", net, tmp_path))
    assert shown.code == 2
    assert "converted with tanh, which this version's 'pair' does not read" in shown.err
    assert run(*words("compare", net, tmp_path, "--source-option none")).code == 0


def rewrite_record(path, change):
    import onnx

    model = onnx.load(path)
    for item in model.metadata_props:
        if item.key == "dlaconv.source_options":
            item.value = change(item.value)
    onnx.save(model, path)


@pytest.mark.parametrize("record", ["", "{", "[]", '{"options": 3}', '{"options":[3],"shapes":{}}'])
def test_a_damaged_record_is_no_record(run, net, tmp_path, record):
    convert(run, net, tmp_path, "--relu", command="from-pair")
    rewrite_record(tmp_path / "net.dla.onnx", lambda _: record)
    assert document(run, "compare", net, tmp_path)["source_options"] == []


def test_a_network_that_was_cut_has_the_record_in_its_parts(run, net, tmp_path):
    convert(run, net, tmp_path, "--relu", command="from-pair")
    shown = run("compare", *net, tmp_path / "net.dla.json", "--input", tmp_path / "x.npz", "--json")
    assert json.loads(shown.out)["source_options"] == ["relu"]


def test_python_takes_the_same(net, tmp_path):
    known = plugins()
    made = dlaconv.convert(net, tmp_path / "net.dla.onnx", plugins=known, relu=True)
    assert made.report["source"]["options"] == ["relu"]
    (tmp_path / "steps").write_text("0.5")
    text = dlaconv.convert(net, plugins=known, steps=str(tmp_path / "steps"))
    assert [item["file"] for item in text.report["source"]["further"]][1:] == [
        str(tmp_path / "steps")
    ]
    assert str(tmp_path) not in str(dict(text.model.metadata_props))
    named = dlaconv.convert(net[0], plugins=known, weights=net[1], relu=True)
    assert named.report["source"] == made.report["source"]
    inputs, file = tmp_path / "x.npz", tmp_path / "net.dla.onnx"
    assert dlaconv.verify(net, file, plugins=known).passed
    found = dlaconv.compare(net, file, inputs, plugins=known)
    assert (found.source_options, found.outputs["y/out"]["max_error"]) == (["relu"], 0)
    other = dlaconv.compare(net, file, inputs, plugins=known, source_options={})
    assert other.outputs["y/out"]["max_error"] > 0
    with pytest.raises(UsageError, match="WEIGHTS"):
        dlaconv.show(net[0], plugins=known)
    rows = dlaconv.show(net, plugins=known, source_options={"relu": True}).parts[0]["layers"]
    assert [row["op"] for row in rows] == ["Gemm", "Relu"]
    dlaconv.dump(net, inputs, tmp_path / "maps.npz", plugins=known, source_options={"relu": True})
    assert all(
        array.min() >= 0 for name, array in np.load(tmp_path / "maps.npz").items() if "relu" in name
    )
