"""Files of Keras in all their forms, and files that nobody should trust."""

import io
import json
import pickle
import struct
import subprocess
import sys
import zipfile

import h5py
import numpy as np
import pytest

from dlaconv.frontends.keras import looks_like_keras
from tests.frontends.keras.files import (
    L,
    counted,
    findings,
    functional,
    given,
    named,
    outputs_of,
    save_h5,
    save_keras,
)

KERNEL = np.random.default_rng(1).standard_normal((3, 2)).astype(np.float32)
X = np.random.default_rng(2).standard_normal((4, 3)).astype(np.float32)
LAYERS = [
    given("x", (3,)),
    L("Dense", "d", ["x"], {"units": 2, "use_bias": False}, {"kernel": KERNEL}),
]
CONFIG = functional(LAYERS, ["d"])


@pytest.fixture
def archive(tmp_path):
    return save_keras(tmp_path / "m.keras", LAYERS, CONFIG)


@pytest.fixture
def hdf5(tmp_path):
    return save_h5(tmp_path / "m.h5", LAYERS, CONFIG)


def right(path, weights=None):
    np.testing.assert_allclose(outputs_of(path, weights, x=X)[0], X @ KERNEL, rtol=1e-5)


def rebuilt(path, change=None, names=None, compression=zipfile.ZIP_STORED):
    """An archive with other members: ``change`` gives new content by name."""
    with zipfile.ZipFile(path) as source:
        held = {name: source.read(name) for name in source.namelist()}
    held |= change or {}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name in names or held:
            archive.writestr(name, held[name])
    return path


def with_weights(path, fill):
    """An archive whose weights a function writes."""
    held = io.BytesIO()
    with h5py.File(held, "w") as file:
        fill(file)
    return rebuilt(path, {"model.weights.h5": held.getvalue()})


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_archive_may_be_compressed(archive, compression):
    right(rebuilt(archive, compression=compression))


def test_an_unzipped_archive_is_read_by_its_description(archive, tmp_path):
    with zipfile.ZipFile(archive) as source:
        source.extractall(tmp_path / "folder")
    right(tmp_path / "folder" / "config.json")
    right(tmp_path / "folder")


@pytest.mark.parametrize("style", ["named", "named at the root", "counted"])
def test_a_description_takes_weights_of_any_form(tmp_path, style):
    description = tmp_path / "model.json"
    description.write_text(json.dumps(CONFIG | {"keras_version": "2.9.0"}))
    weights = tmp_path / "w.h5"
    with h5py.File(weights, "w") as file:
        if style == "counted":
            counted(file, LAYERS)
        else:
            root = file if style == "named at the root" else file.create_group("model_weights")
            named(root, LAYERS, 2)
    right(description, weights)
    [(rule, message)] = findings(description)
    assert (rule, "has no weights" in message) == ("DLA170", True)


def test_long_lists_of_names_are_split_as_keras_splits_them(hdf5):
    with h5py.File(hdf5, "a") as file:
        held = file["model_weights"]
        names = list(held.attrs["layer_names"])
        del held.attrs["layer_names"]
        for index, name in enumerate(names):
            held.attrs[f"layer_names{index}"] = [name]
    right(hdf5)


@pytest.mark.parametrize("kind", [">f4", "<f8", "<f2"])
def test_weights_of_other_formats_are_converted(archive, kind):
    def fill(file):
        file.create_dataset("layers/dense/vars/0", data=KERNEL.astype(kind))

    found = outputs_of(with_weights(archive, fill), x=X)[0]
    np.testing.assert_allclose(found, X @ KERNEL.astype(kind).astype(np.float32), rtol=1e-5)


def test_compressed_weights_are_read(archive):
    def fill(file):
        file.create_dataset("layers/dense/vars/0", data=KERNEL, compression="gzip", shuffle=True)

    right(with_weights(archive, fill))


def test_weights_of_the_file_are_not_copied(hdf5):
    from dlaconv.frontends.keras import load_keras

    model = load_keras(hdf5).model
    [array] = [value.const_value.numpy() for value in model.graph.initializers.values()]
    assert not array.flags.owndata
    assert not array.flags.writeable


def test_files_are_recognised(archive, hdf5, tmp_path):
    description = tmp_path / "model.json"
    description.write_text(json.dumps(CONFIG))
    assert all(looks_like_keras(path) for path in (archive, hdf5, description))
    other = tmp_path / "other.json"
    other.write_text('{"summary": {}}')
    plain = tmp_path / "other.zip"
    with zipfile.ZipFile(plain, "w") as file:
        file.writestr("a.txt", "a")
    renamed = archive.rename(tmp_path / "m.zip")
    assert looks_like_keras(renamed)
    assert not looks_like_keras(other)
    assert not looks_like_keras(plain)


@pytest.mark.parametrize(
    ("content", "rule", "why"),
    [
        (b"", "DLA170", "empty"),
        (b"hello", "DLA170", "neither a zip, nor HDF5, nor JSON"),
        (b"{", "DLA170", "no JSON"),
        (b'{"a": 1}', "DLA170", "no class_name"),
        (b'{"class_name": "Functional"}', "DLA170", "no config"),
        (b"\x89HDF\r\n\x1a\n", "DLA170", "cannot be read"),
        (b"PK\x03\x04", "DLA170", "cut off"),
        (pickle.dumps({"a": 1}), "DLA172", "pickle"),
        (b'{"class_name":' * 100_000, "DLA407", "too deep"),
        (b'{"class_name": "F", "config": ' + b'{"a": ' * 300 + b"1" + b"}" * 301, "DLA407", "deep"),
        (b'{"a": "' + b"a" * (1 << 24) + b'"}', "DLA407", "16777"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "DLA170", "a pointer of Git LFS"),
        (b"\n<!doctype html><title>404</title>", "DLA170", "a web page"),
        (b"\x1f\x8b\x08", "DLA170", "gzip"),
        (b"\x1c\0\0\0TFL3", "DLA170", "TFLite"),
    ],
)
def test_other_files_are_named(tmp_path, content, rule, why):
    path = tmp_path / "model.bin"
    path.write_bytes(content)
    [(found, message)] = findings(path)
    assert found == rule
    assert why in message


@pytest.mark.parametrize("ending", ["keras", "h5"])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9, 0.99])
def test_a_truncated_file_is_one_finding(archive, hdf5, ending, share):
    path = archive if ending == "keras" else hdf5
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    [(rule, _)] = findings(path)
    assert rule == "DLA170"


def test_weights_alone_are_no_model(tmp_path, archive):
    with h5py.File(tmp_path / "w.h5", "w") as file:
        named(file, LAYERS, 2)
    assert findings(tmp_path / "w.h5")[0][0] == "DLA171"
    assert findings(rebuilt(archive, names=["model.weights.h5"]))[0][0] == "DLA171"


def test_a_description_may_begin_with_a_mark_of_its_encoding(tmp_path, hdf5):
    (tmp_path / "model.json").write_text(json.dumps(CONFIG), "utf-8-sig")
    right(tmp_path / "model.json", hdf5)


def test_hdf5_of_something_else_is_not_taken_for_weights(tmp_path):
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file["images"] = X
    [(rule, message)] = findings(tmp_path / "w.h5")
    assert (rule, "something else" in message) == ("DLA170", True)


def test_the_weights_of_a_description_are_hdf5(tmp_path, archive):
    (tmp_path / "model.json").write_text(json.dumps(CONFIG))
    [(rule, message)] = findings(tmp_path / "model.json", archive)
    assert (rule, "a zip archive" in message) == ("DLA170", True)
    [(rule, message)] = findings(tmp_path / "model.json", tmp_path / "absent.h5")
    assert (rule, message) == ("DLA401", "there are no weights")


def test_an_archive_must_have_its_weights(archive):
    [(rule, message)] = findings(rebuilt(archive, names=["config.json", "metadata.json"]))
    assert (rule, "no model.weights.h5" in message) == ("DLA170", True)


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "C:/evil", "..\\evil"])
def test_members_stay_in_the_archive(archive, name):
    [(rule, message)] = findings(rebuilt(archive, {name: b"x"}))
    assert (rule, "outside" in message) == ("DLA172", True)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_have_names_of_their_own(archive):
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("config.json", "{}")
    [(rule, message)] = findings(archive)
    assert (rule, "several 'config.json'" in message) == ("DLA172", True)


def test_there_are_not_too_many_members(archive):
    [(rule, _)] = findings(rebuilt(archive, {f"a{index}": b"" for index in range(5000)}))
    assert rule == "DLA407"


def test_a_bomb_is_not_unpacked(archive):
    bomb = {"model.weights.h5": bytes(1 << 27)}
    [(rule, message)] = findings(rebuilt(archive, bomb, compression=zipfile.ZIP_DEFLATED))
    assert (rule, str(1 << 27) in message) == ("DLA407", True)
    bomb = {"config.json": b" " * (1 << 25)}
    [(rule, _)] = findings(rebuilt(archive, bomb, compression=zipfile.ZIP_DEFLATED))
    assert rule == "DLA407"


def test_a_member_that_understates_its_size_is_refused(archive):
    rebuilt(archive, {"model.weights.h5": bytes(1 << 22)}, compression=zipfile.ZIP_DEFLATED)
    data = bytearray(archive.read_bytes())
    at = data.rfind(b"model.weights.h5") - 46
    data[at + 24 : at + 28] = struct.pack("<I", 1 << 10)
    archive.write_bytes(data)
    [(rule, _)] = findings(archive)
    assert rule == "DLA170"


def test_a_changed_byte_is_noticed(archive):
    data = bytearray(archive.read_bytes())
    at = data.find(KERNEL.tobytes())
    data[at] ^= 1
    archive.write_bytes(data)
    [(rule, message)] = findings(archive)
    assert (rule, "checksum" in message) == ("DLA170", True)


def external_link(file, tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other.create_dataset("k", data=KERNEL)
    file.create_group("layers/dense/vars")["0"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "k")


def soft_link(file, tmp_path):
    file.create_dataset("k", data=KERNEL)
    file.create_group("layers/dense/vars")["0"] = h5py.SoftLink("/k")


def linked_group(file, tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other.create_dataset("vars/0", data=KERNEL)
    file.create_group("layers")["dense"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/")


def external_storage(file, tmp_path):
    place = tmp_path / "raw"
    place.write_bytes(KERNEL.tobytes())
    file.create_dataset(
        "layers/dense/vars/0", KERNEL.shape, "f4", external=[(str(place), 0, KERNEL.nbytes)]
    )


def virtual(file, tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other.create_dataset("k", data=KERNEL)
    layout = h5py.VirtualLayout(KERNEL.shape, "f4")
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "k", KERNEL.shape)
    file.create_virtual_dataset("layers/dense/vars/0", layout)


def objects(file, tmp_path):
    kind = h5py.string_dtype()
    file.create_dataset("layers/dense/vars/0", data=[["a"] * 2] * 3, dtype=kind)


def references(file, tmp_path):
    file.create_dataset("layers/dense/vars/0", (3, 2), h5py.ref_dtype)


@pytest.mark.parametrize(
    "fill",
    [
        external_link,
        soft_link,
        linked_group,
        external_storage,
        virtual,
        objects,
        references,
    ],
)
def test_weights_lie_in_the_file_and_are_numbers(archive, tmp_path, fill):
    [(rule, _)] = findings(with_weights(archive, lambda file: fill(file, tmp_path)))
    assert rule == "DLA172"


@pytest.mark.parametrize("more", [{}, {"chunks": (1024, 1024)}])
def test_an_array_that_is_not_there_takes_no_memory(archive, more):
    """A shape of 16 GB costs a file nothing, if no value was ever written."""
    layer = L("Dense", "d", ["x"], {"units": 1 << 16, "use_bias": False})
    config = functional([given("x", (1 << 16,)), layer], ["d"])

    def fill(file):
        file.create_dataset("layers/dense/vars/0", (1 << 16, 1 << 16), "f4", **more)

    with_weights(archive, fill)
    [(rule, _)] = findings(rebuilt(archive, {"config.json": json.dumps(config)}))
    assert rule in {"DLA170", "DLA407"}


def test_arrays_inflate_from_one_budget(archive):
    layers = [given("x", (1 << 12,))]
    for index in range(6):
        config = {"units": 1 << 12, "use_bias": False}
        layers.append(L("Dense", f"d{index}", [layers[-1].name], config))

    def fill(file):
        for index in range(6):
            name = f"layers/dense_{index}/vars/0" if index else "layers/dense/vars/0"
            file.create_dataset(
                name, data=np.zeros((1 << 12, 1 << 12), "f4"), compression="gzip", chunks=(512, 512)
            )

    with_weights(archive, fill)
    rebuilt(archive, {"config.json": json.dumps(functional(layers, ["d5"]))})
    found = findings(archive)
    assert {rule for rule, _ in found} == {"DLA407"}


def test_reading_needs_no_framework_and_runs_nothing(archive):
    code = (
        "import sys; from pathlib import Path; from dlaconv.frontends.keras import load_keras; "
        f"load_keras(Path({str(archive)!r})); "
        "print({'keras', 'tensorflow', 'torch', 'jax', 'scipy'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_halves_of_characters_are_no_text(hdf5, archive):
    path = rebuilt(archive, {"config.json": json.dumps(CONFIG).replace('"d"', '"\\ud800"')})
    [(rule, message)] = findings(path)
    assert (rule, "no text" in message) == ("DLA170", True)
    data = hdf5.read_bytes()
    assert b'"Functional"' in data
    hdf5.write_bytes(data.replace(b'"Functional"', b'"Functi\xff\xc9al"'))
    [(rule, _)] = findings(hdf5)
    assert rule == "DLA170"


@pytest.mark.parametrize("kind", [{}, [], 3, None])
def test_arguments_of_a_call_may_be_anything(tmp_path, kind):
    config = functional(LAYERS, ["d"])
    config["config"]["layers"][1]["inbound_nodes"][0]["kwargs"] = {"a": {"class_name": kind}}
    right(save_keras(tmp_path / "m.keras", LAYERS, config))
