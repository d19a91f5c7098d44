import io
import pickle
import zipfile

import numpy as np
import pytest

from dlaconv.arrays import match_inputs, read_npz, write_npz
from dlaconv.errors import EXIT_UNREADABLE, UnreadableError, UsageError


def test_arrays_come_back_as_they_were_written(tmp_path):
    path = tmp_path / "x.npz"
    arrays = {"a/b": np.arange(6, dtype=np.int8).reshape(2, 3), "c": np.float32([1.5])}
    write_npz(path, arrays)
    again = read_npz(path)
    assert set(again) == set(arrays)
    for name, array in arrays.items():
        assert again[name].dtype == array.dtype
        np.testing.assert_array_equal(again[name], array)


def test_uncompressed_and_fortran_ordered_arrays_are_read(tmp_path):
    path = tmp_path / "x.npz"
    array = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    np.savez(path, x=array)
    np.testing.assert_array_equal(read_npz(path)["x"], array)


class Exploit:
    def __reduce__(self):
        return (open, ("executed", "w"))


def member(array_or_bytes):
    if isinstance(array_or_bytes, bytes):
        return array_or_bytes
    out = io.BytesIO()
    np.save(out, array_or_bytes, allow_pickle=True)
    return out.getvalue()


def archive(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", member(content))
    return path


def header(shape):
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        out, {"descr": "<f4", "fortran_order": False, "shape": shape}
    )
    return out.getvalue()


BAD = {
    "no zip": lambda path: path.write_bytes(b"hello"),
    "empty file": lambda path: path.write_bytes(b""),
    "bare pickle": lambda path: path.write_bytes(pickle.dumps(Exploit())),
    "no member": lambda path: archive(path),
    "objects": lambda path: archive(path, x=np.array([Exploit()], dtype=object)),
    "text": lambda path: archive(path, x=np.array(["text"])),
    "complex": lambda path: archive(path, x=np.array([1j])),
    "no array": lambda path: archive(path, x=b"hello"),
    "longer than it is": lambda path: archive(path, x=header((1 << 40,))),
    "negative size": lambda path: archive(path, x=header((-4,)) + bytes(16)),
    "cut off": lambda path: path.write_bytes(archive(path, x=np.zeros(1000)).read_bytes()[:100]),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_one_diagnostic(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.npz"
    BAD[kind](path)
    with pytest.raises(UnreadableError) as error:
        read_npz(path)
    assert error.value.exit_code == EXIT_UNREADABLE
    [found] = error.value.diagnostics
    assert found.rule == "DLA431"
    assert found.location.file == str(path)
    assert not (tmp_path / "executed").exists()


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path):
    path = archive(tmp_path / "x.npz", x=np.zeros(1 << 20), y=np.zeros(1 << 20))
    assert path.stat().st_size < 1 << 16
    with pytest.raises(UnreadableError, match=r"16,777,\d+ bytes; the limit is 16,000,000"):
        read_npz(path, limit=16_000_000)


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(UnreadableError, match="no such file"):
        read_npz(tmp_path / "x.npz")


SHAPES = {"x": (1, 3, 8, 8), "y": (1, 5)}


def test_arrays_are_matched_by_name():
    arrays = {"y": np.zeros((4, 5)), "x": np.zeros((4, 3, 8, 8)), "labels": np.zeros(4)}
    found = match_inputs(arrays, SHAPES)
    assert [found[name].shape for name in SHAPES] == [(4, 3, 8, 8), (4, 5)]
    assert set(found) == set(SHAPES)


def test_the_only_array_is_the_only_input():
    [(name, array)] = match_inputs({"images": np.zeros((2, 3, 8, 8))}, {"x": (1, 3, 8, 8)}).items()
    assert (name, array.shape) == ("x", (2, 3, 8, 8))


def test_an_input_that_no_array_is_named_after_takes_the_only_one_that_fits():
    images, labels = np.zeros((4, 3, 8, 8)), np.zeros(4)
    found = match_inputs({"x": images, "labels": labels}, {"input_1": (None, 3, 8, 8)})
    assert found["input_1"].shape == images.shape
    pair = {"a": (None, 3, 8, 8), "b": (None, 5)}
    found = match_inputs({"five": np.zeros((4, 5)), "images": images}, pair)
    assert (found["a"].shape, found["b"].shape) == (images.shape, (4, 5))


@pytest.mark.parametrize(
    ("arrays", "shapes"),
    [
        ({"x": np.zeros((4, 5)), "y": np.ones((4, 5))}, {"input": (None, 5)}),
        ({"x": np.zeros((4, 5)), "y": np.ones((4, 3))}, {"a": (None, 5), "b": (None, 5)}),
        ({"x": np.zeros((4, 5)), "y": np.ones((4, 3))}, {"input": None}),
    ],
)
def test_no_array_is_guessed_if_several_could_be_meant(arrays, shapes):
    with pytest.raises(UsageError, match=r"numpy\.savez"):
        match_inputs(arrays, shapes)


def test_an_array_without_batch_axis_is_one_sample():
    assert match_inputs({"x": np.zeros((3, 8, 8))}, {"x": (1, 3, 8, 8)})["x"].shape == (1, 3, 8, 8)


def test_unknown_sizes_fit_everything():
    assert match_inputs({"x": np.zeros((2, 3, 9, 7))}, {"x": (None, 3, None, None)})
    assert match_inputs({"x": np.zeros((2, 9))}, {"x": None})


@pytest.mark.parametrize(
    ("arrays", "rules", "words"),
    [
        ({"y": np.zeros((4, 5)), "z": 0}, ["DLA432"], "no array 'x'"),
        ({"x": np.zeros((4, 3, 8, 7)), "y": np.zeros((4, 5))}, ["DLA433"], "[4, 3, 8, 7]"),
        ({"x": np.zeros((4, 3, 8, 8)), "y": np.zeros((0, 5))}, ["DLA433"], "no sample"),
        ({"x": np.zeros((4, 3, 8, 8)), "y": np.full((4, 5), np.nan)}, ["DLA433"], "not finite"),
        ({"x": np.zeros((4, 3, 8, 8)), "y": np.full((4, 5), 1e300)}, ["DLA433"], "in 32 bits"),
        ({"x": np.zeros((4, 3, 8, 8)), "y": np.zeros((3, 5))}, ["DLA434"], "x: 4, y: 3"),
        ({"a": np.zeros(1), "b": np.zeros(1)}, ["DLA432", "DLA432"], "no array 'y'"),
    ],
)
def test_every_misfit_is_named(arrays, rules, words):
    with pytest.raises(UsageError) as error:
        match_inputs(arrays, SHAPES, "x.npz")
    assert [found.rule for found in error.value.diagnostics] == rules
    assert words in str(error.value)
