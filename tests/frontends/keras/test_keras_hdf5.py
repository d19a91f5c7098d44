"""What HDF5 believes of a damaged file is checked before HDF5 reads it."""

import struct

import h5py
import numpy as np
import pytest

from dlaconv.frontends.keras import hdf5_bytes
from tests.frontends.keras.files import L, findings, functional, given, save_h5

KERNEL = np.ones((3, 2), np.float32)
LAYERS = [
    given("x", (3,)),
    L("Dense", "d", ["x"], {"units": 2, "use_bias": False}, {"kernel": KERNEL}),
]


@pytest.fixture
def hdf5(tmp_path):
    return save_h5(tmp_path / "m.h5", LAYERS, functional(LAYERS, ["d"]))


def heap_of(data):
    """Where the free space of a file's only heap of texts begins."""
    place = data.index(b"GCOL") + 16
    while number := struct.unpack_from("<H", data, place)[0]:
        assert number < 100
        place += 16 + -(-struct.unpack_from("<Q", data, place + 8)[0] // 8) * 8
    return place


def test_a_heap_that_hdf5_would_walk_for_ever_is_refused(hdf5):
    data = bytearray(hdf5.read_bytes())
    place = heap_of(data)
    assert struct.unpack_from("<Q", data, place + 8)[0] > 0
    data[place + 8 : place + 16] = bytes(8)
    hdf5.write_bytes(data)
    [(rule, message)] = findings(hdf5)
    assert rule == "DLA170"
    assert "free space of 0 bytes" in message


@pytest.mark.parametrize(
    ("which", "widths"), [(0, "4 and 8"), (1, "8 and 4")], ids=["addresses", "lengths"]
)
def test_addresses_and_lengths_of_another_width_are_refused(hdf5, which, widths):
    data = bytearray(hdf5.read_bytes())
    data[(13 if data[8] < 2 else 9) + which] = 4
    hdf5.write_bytes(data)
    [(rule, message)] = findings(hdf5)
    assert rule == "DLA170"
    assert f"addresses and lengths of {widths} bytes" in message


def test_a_file_that_is_cut_off_says_how_much_is_missing(hdf5):
    data = hdf5.read_bytes()
    hdf5.write_bytes(data[:1000])
    wanted = f"the file is cut off: it has 1000 of {len(data)} bytes"
    assert findings(hdf5) == [("DLA170", wanted)]


def references(data, text):
    """Where a file refers to a text by its length and heap."""
    heap = struct.pack("<Q", data.index(b"GCOL"))
    wanted = struct.pack("<I", len(text)) + heap
    assert data.count(wanted) == 1
    return data.index(wanted)


@pytest.mark.parametrize("size", [1 << 25, (1 << 31) + 1, (1 << 32) - 1])
def test_a_text_longer_than_the_file_takes_no_memory(hdf5, size, monkeypatch):
    """HDF5 would fill so much memory with zeros, and find only then that there is less."""
    with h5py.File(hdf5) as file:
        text = file.attrs["model_config"]
    data = bytearray(hdf5.read_bytes())
    struct.pack_into("<I", data, references(data, text), size)
    hdf5.write_bytes(data)
    monkeypatch.setattr(h5py.AttributeManager, "__getitem__", lambda *_: pytest.fail("was read"))
    [(rule, message)] = findings(hdf5)
    assert rule == "DLA407"
    assert f"'model_config' has {size} bytes" in message


@pytest.mark.parametrize("version", ["earliest", "v108", "latest"])
def test_texts_are_counted_wherever_attributes_lie(tmp_path, version):
    """Attributes of one name in several groups, many in one, lists, and a list of nothing."""
    with h5py.File(tmp_path / "a.h5", "w", libver=(version, "latest")) as file:
        file.attrs["model_config"] = "x" * 1000
        for number in range(5):
            group = file.create_group(f"layer{number}")
            group.attrs["weight_names"] = ["ab" * (number + 1)] * (3 * number + 1)
        file.create_group("empty").attrs["weight_names"] = []
        many = file.create_group("many")
        for number in range(30):
            many.attrs[f"a{number}"] = "y" * (number + 1)
        file.attrs["fixed"] = np.bytes_("z" * 100)
    data = memoryview((tmp_path / "a.h5").read_bytes())
    wanted = {"model_config": 1000, "weight_names": 13 * 10, "a3": 4, "a29": 30, "absent": 0}
    assert {name: hdf5_bytes.text_bytes(data, name) for name in wanted} == wanted
    assert hdf5_bytes.fault(data) == ""
    assert hdf5_bytes.file_bytes(data) == len(data)


def test_many_references_to_one_long_text_are_counted_each(tmp_path):
    """A list that refers to one text again and again would be as many copies of it."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["weight_names"] = ["n" * 1000, *["m"] * 20]
    data = bytearray((tmp_path / "a.h5").read_bytes())
    begin = references(data, "n" * 1000)
    first = bytes(data[begin : begin + 16])
    data[begin : begin + 16 * 21] = first * 21
    assert hdf5_bytes.text_bytes(memoryview(data), "weight_names") == 1000 * 21
