"""Folders of pictures wherever samples are: validate, compare, sensitivity, run, dump, verify."""

import json
import zlib

import numpy as np
import onnx
import pytest
from PIL import Image

import dlaconv
from dlaconv.cli import run
from dlaconv.errors import UnreadableError, UsageError
from dlaconv.options import Options
from dlaconv.preprocessing import Preprocessing
from tests.core.test_partition import Converted, network
from tests.core.test_schemas import validate

HOW = Preprocessing(preset="tf")
WORDS = ["--preset", "tf"]
COUNT = 12


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A network of ten classes, pictures in ``photos``, and the same as arrays."""
    folder = tmp_path_factory.mktemp("pictures")
    found = Converted(folder, network("conv", "fc", "Softmax"), verify=False)
    pixels = np.random.default_rng(7).integers(0, 256, (COUNT, 8, 8, 3), np.uint8)
    for index, picture in enumerate(pixels):
        place = folder / "photos" / ("a" if index % 2 else "b")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(place / f"{index:02}.png")
    found.order = [*range(1, COUNT, 2), *range(0, COUNT, 2)]
    ordered = pixels[found.order].transpose(0, 3, 1, 2).astype(np.float32)
    found.samples = ordered * np.float32(2 / 255) - np.float32(1)
    np.savez(folder / "x.npz", x=found.samples)
    found.answers = found.expected().argmax(1)
    return found


def validated(made, labels, inputs="photos", **options):
    converted, photos = made.folder / "net.dla.json", made.folder / inputs
    options.setdefault("images", HOW)
    found = dlaconv.validate(converted, photos, labels, source=made.source, **options)
    validate("validate", found.as_json())
    return found


def listed(made, path, line="{place} {label}"):
    """A file of labels, in another order than the samples."""
    pairs = sorted(zip(made.order, made.answers.tolist(), strict=True), reverse=True)
    lines = [
        line.format(place=f"{'a' if i % 2 else 'b'}/{i:02}.png", name=f"{i:02}.png", label=label)
        for i, label in pairs
    ]
    path.write_text("\n".join([*lines, ""]), "utf-8")
    return path


@pytest.mark.parametrize("line", [
    "{place} {label}", "{name}\t{label}", "./{place},{label}", "{name} , {label} ",
])  # fmt: skip
def test_labels_are_found_by_the_names_of_pictures(made, tmp_path, line):
    found = validated(made, listed(made, tmp_path / "y.txt", line))
    assert (found.theirs.samples, found.theirs.top1) == (COUNT, COUNT)


def test_pictures_are_worth_what_their_arrays_are(made, tmp_path):
    (tmp_path / "y.txt").write_text("".join(f"{label}\n" for label in made.answers))
    photos = validated(made, tmp_path / "y.txt").as_json()
    arrays = validated(made, tmp_path / "y.txt", "x.npz", images=Preprocessing()).as_json()
    for key in ("accuracy", "source_accuracy", "paired"):
        assert photos[key] == arrays[key]
    assert photos["source_accuracy"]["right"] == COUNT


def test_subfolders_are_classes_by_number_or_in_order(made, tmp_path):
    for index, label in zip(made.order, made.answers, strict=True):
        place = tmp_path / "numbers" / str(label)
        place.mkdir(parents=True, exist_ok=True)
        source = made.folder / "photos" / ("a" if index % 2 else "b") / f"{index:02}.png"
        place.joinpath(source.name).write_bytes(source.read_bytes())
    found = validated(made, None, tmp_path / "numbers")
    assert (found.theirs.samples, found.theirs.top1) == (COUNT, COUNT)
    assert found.as_json()["labels"] is None
    for label in range(10):
        (tmp_path / "numbers" / str(label)).mkdir(exist_ok=True)
        (tmp_path / "numbers" / str(label)).rename(tmp_path / "numbers" / f"class {9 - label}")
    turned = validated(made, None, tmp_path / "numbers")
    wanted = sum(label == 9 - label for label in made.answers)
    assert (turned.theirs.samples, turned.theirs.top1) == (COUNT, wanted)


@pytest.mark.parametrize(("text", "words"), [
    ("a/01.png 3\n", "without a label: a/03.png, a/05.png, a/07.png and 8 more"),
    ("3\n4\n", "2 labels for 12 samples"),
    ("name,label\na/01.png,3\n", "line 1: 'name,label'"),
    ("a/01.png 3\n4\n", "lines without"),
    ("a/01.png 3\n./a/01.png 4\n", "two labels for 'a/01.png'"),
    ("\n", "holds no label"),
])  # fmt: skip
def test_lists_that_do_not_fit_are_refused(made, tmp_path, text, words):
    (tmp_path / "y.txt").write_text(text)
    with pytest.raises(UsageError, match=words):
        validated(made, tmp_path / "y.txt")


def test_what_has_no_labels_is_refused(made, tmp_path):
    with pytest.raises(UsageError, match="2 subfolders for 10 classes"):
        validated(made, None)
    with pytest.raises(UsageError, match="samples in arrays need --labels"):
        validated(made, None, "x.npz", images=Preprocessing())
    with pytest.raises(UsageError, match="the samples are arrays"):
        validated(made, listed(made, tmp_path / "y.txt"), "x.npz", images=Preprocessing())
    with pytest.raises(UsageError, match=r"in no subfolder: 01.png, 03.png, 05.png and 3 more"):
        validated(made, None, made.folder / "photos" / "a")
    with pytest.raises(UnreadableError, match="DLA401"):
        validated(made, None, tmp_path / "nothing")


def test_the_same_name_in_two_folders_needs_its_path(made, tmp_path):
    for place in ("a", "b"):
        (tmp_path / "p" / place).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "p" / place / "x.png")
    (tmp_path / "y.txt").write_text("x.png 1\na/x.png 2")
    with pytest.raises(UsageError, match=r"without a label: b/x\.png"):
        validated(made, tmp_path / "y.txt", tmp_path / "p")


def test_options_for_pictures_are_for_pictures(made):
    for call in (
        lambda: validated(made, None, "x.npz"),
        lambda: dlaconv.compare(
            made.source, made.folder / "net.dla.json", made.folder / "x.npz", images=HOW
        ),
        lambda: dlaconv.run_chain(made.folder / "net.dla.json", made.folder / "x.npz", images=HOW),
    ):
        with pytest.raises(UsageError, match="--preset are for a folder"):
            call()
    with pytest.raises(UsageError, match="DLA332"):
        dlaconv.run_chain(made.folder / "net.dla.json", made.folder / "photos")


def test_every_command_that_runs_takes_pictures(made, tmp_path, capsys):
    photos, arrays = (["--input", str(made.folder / name)] for name in ("photos", "x.npz"))
    file, report = str(made.folder / "net.dla.onnx"), str(made.folder / "net.dla.json")
    calls = {
        "compare": ["compare", str(made.source), report],
        "verify": ["verify", str(made.source), file],
    }
    for words in calls.values():
        found = []
        for given in ([*photos, *WORDS], arrays):
            assert run([*words, *given, "--json"]) == 0
            found.append(json.loads(capsys.readouterr().out) | {"inputs": None})
        assert found[0] == found[1]
    for words in (["run", file], ["run", report], ["dump", file], ["dump", str(made.source)]):
        found = []
        for given in ([*photos, *WORDS], arrays):
            assert run([*words, *given, "-o", str(tmp_path / "y.npz")]) == 0
            found.append(dict(np.load(tmp_path / "y.npz")))
        assert found[0].keys() == found[1].keys()
        for name, array in found[0].items():
            np.testing.assert_allclose(array, found[1][name], atol=1e-6)


def test_layers_are_ranked_on_pictures(made, capsys):
    call = ["sensitivity", str(made.source), "--calibrate", str(made.folder / "photos"), *WORDS]
    assert run([*call, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    options = Options(calibrate=made.folder / "photos", images=HOW)
    assert found["layers"] == dlaconv.sensitivity(made.source, options=options).layers


def test_files_that_are_no_pictures_are_left_out_or_refused(made, tmp_path, capsys):
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    (tmp_path / "notes.txt").write_text("no picture")
    given = ["--input", str(tmp_path), *WORDS]
    assert run(["compare", str(made.source), str(made.folder / "net.dla.json"), *given]) == 0
    shown = capsys.readouterr().err
    assert "DLA331" in shown
    assert "notes.txt: no picture" in shown
    for words in (
        ["run", str(made.folder / "net.dla.json"), "-o", str(made.folder / "y.npz")],
        ["verify", str(made.source), str(made.folder / "net.dla.onnx")],
    ):
        assert run([*words, *given]) == 3
        assert "notes.txt: no picture" in capsys.readouterr().err
    assert not (made.folder / "y.npz").exists()


def test_pictures_that_would_fill_the_memory_are_left_out(made, tmp_path, capsys):
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    large = bytearray((tmp_path / "x.png").read_bytes())
    large[16:24] = (60_000).to_bytes(4, "big") * 2  # width and height
    large[29:33] = zlib.crc32(large[12:29]).to_bytes(4, "big")
    (tmp_path / "large.png").write_bytes(large)
    given = ["--input", str(tmp_path), *WORDS]
    assert run(["compare", str(made.source), str(made.folder / "net.dla.json"), *given]) == 0
    assert "large.png: Image size (3600000000 pixels)" in capsys.readouterr().err


def test_a_file_that_is_no_archive_of_arrays_is_refused(made, tmp_path, capsys):
    (tmp_path / "x.npz").write_text("neither")
    given = ["--input", str(tmp_path / "x.npz"), "-o", str(tmp_path / "y.npz")]
    for words in (["run", str(made.folder / "net.dla.onnx")], ["dump", str(made.source)]):
        assert run([*words, *given]) == 3
        assert "it is no .npz file" in capsys.readouterr().err
    assert not (tmp_path / "y.npz").exists()


def test_networks_that_take_pixels_get_them_as_they_are(tmp_path, made):
    source, target = tmp_path / "net.onnx", tmp_path / "net.dla.onnx"
    onnx.save(network("conv", "fc"), source)
    options = Options(
        calibrate=made.folder / "photos", images=HOW, fold_preprocess=True, border_channel=True
    )
    dlaconv.convert(source, target, options=options)
    for images in (Preprocessing(), HOW):
        found = dlaconv.run(target, made.folder / "photos", images=images, as_float=True)["y"]
        pixels = ((made.samples + 1) * 127.5).round().astype(np.uint8)
        np.testing.assert_array_equal(found, dlaconv.run(target, {"x": pixels}, as_float=True)["y"])
    compared = dlaconv.compare(source, target, made.folder / "photos")
    assert compared.outputs["y"]["qsnr_db"] > 20
