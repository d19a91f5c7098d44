"""Weights of caffemodels, in every way in which writers have stored them."""

import numpy as np
import pytest

from dlaconv.errors import UnreadableError
from dlaconv.frontends.caffe.blobs import Weights
from tests.frontends.caffe.files import (
    blob,
    caffemodel,
    error,
    field,
    load,
    number,
    numbers,
    output,
)

ARRAY = numbers(3, 4)


def stored(tmp_path, data):
    path = tmp_path / "net.caffemodel"
    path.write_bytes(data)
    return Weights(path)


@pytest.mark.parametrize("version", [0, 1, 2])
@pytest.mark.parametrize(
    "style", ["packed", "unpacked", "double", "unpacked double", "packed and unpacked"]
)
def test_floats_are_read_however_they_are_stored(tmp_path, style, version):
    [found] = stored(tmp_path, caffemodel({"a": [ARRAY]}, version, style=style)).blobs("a")
    assert found.array.dtype == np.float32
    np.testing.assert_array_equal(found.shaped((3, 4)), ARRAY)


def test_half_precision_is_read(tmp_path):
    [found] = stored(tmp_path, caffemodel({"a": [ARRAY]}, style="half")).blobs("a")
    np.testing.assert_array_equal(found.shaped((3, 4)), ARRAY.astype(np.float16))


def test_packed_floats_are_a_view_of_the_file(tmp_path):
    weights = stored(tmp_path, caffemodel({"a": [ARRAY]}))
    [found] = weights.blobs("a")
    assert not found.array.flags.owndata
    assert not found.array.flags.writeable


def test_the_model_has_no_copy_of_the_weights(tmp_path):
    text = (
        "layer { name: 'f' type: 'InnerProduct' bottom: 'data' top: 'f' "
        "inner_product_param { num_output: 3 bias_term: false } }"
    )
    imported = load(tmp_path, text, {"f": [ARRAY]}, shape=(1, 4))
    array = imported.model.graph.initializers["f/weights"].const_value.numpy()
    np.testing.assert_array_equal(array, ARRAY)
    assert not array.flags.writeable  # it is the mapped file, opened for reading


def test_doubles_go_before_floats(tmp_path):
    both = blob(ARRAY) + blob(ARRAY + 1, style="double", shape=())
    [found] = stored(tmp_path, caffemodel({"a": [both]})).blobs("a")
    np.testing.assert_array_equal(found.shaped((3, 4)), ARRAY + 1)


def test_old_blobs_have_four_dimensions(tmp_path):
    [found] = stored(tmp_path, caffemodel({"a": [ARRAY]}, legacy=True)).blobs("a")
    assert found.shape == (1, 1, 3, 4)
    assert found.fits((3, 4))
    assert found.fits((1, 3, 4))
    assert not found.fits((4, 3))
    assert not found.fits((12,))
    [found] = stored(tmp_path, caffemodel({"a": [ARRAY]})).blobs("a")
    assert not found.fits((1, 3, 4))


def test_a_network_of_version_1_takes_weights_of_old_blobs(tmp_path):
    text = (
        "input: 'data' input_dim: 1 input_dim: 4 input_dim: 1 input_dim: 1\n"
        "layers { name: 'f' type: INNER_PRODUCT bottom: 'data' top: 'f' blobs_lr: 1 "
        "inner_product_param { num_output: 3 bias_term: false } }"
    )
    x = numbers(1, 4, 1, 1, seed=1)
    imported = load(tmp_path, text, binary=caffemodel({"f": [ARRAY]}, 1, legacy=True))
    np.testing.assert_allclose(output(imported, data=x), x[:, :, 0, 0] @ ARRAY.T, rtol=1e-5)


SCALE = "layer { name: 's' type: 'Scale' bottom: 'data' top: 's' scale_param { bias_term: true } }"


def test_a_layer_without_weights_is_never_filled(tmp_path):
    for blobs in ({}, {"t": [numbers(4)]}, {"s": [numbers(4)]}):
        found = error(load(tmp_path, SCALE, blobs, shape=(1, 4, 2, 2)))
        assert (found.rule, found.location.layer) == ("DLA132", "s")


def test_a_layer_of_another_name_is_named(tmp_path):
    blobs = {f"{name}2": [numbers(4)] for name in ("conv", "norm", "scale")}
    text = SCALE.replace("name: 's'", "name: 'scale1'")
    found = error(load(tmp_path, text, blobs, shape=(1, 4, 2, 2)))
    assert "no layer 'scale1'; did you mean 'scale2'?" in found.message
    found = error(load(tmp_path, SCALE, blobs, shape=(1, 4, 2, 2)))
    assert "no layer 's' among its 3 layers" in found.message


def test_weights_of_another_shape_are_refused_with_both(tmp_path):
    found = error(load(tmp_path, SCALE, {"s": [numbers(5), numbers(5)]}, shape=(1, 4, 2, 2)))
    assert found.rule == "DLA133"
    assert "[5]" in found.message
    assert "[4]" in found.message


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no layers"),
        (b"\x89HDF\r\n\x1a\n" + bytes(64), "HDF5"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        (b'name: "net"\r\nlayer { }', "text"),
        (b"layer { }", ""),
        (caffemodel({"a": [ARRAY]})[:-3], "claims"),
        (caffemodel({"a": [blob(ARRAY, shape=(3, 5))]}), "[3, 5] with 12 values"),
        (caffemodel({"a": [blob(ARRAY, shape=(-3, -4))]}), "[-3, -4]"),
        (caffemodel({"a": [blob(ARRAY, shape=(1 << 62, 1 << 62))]}), "with 12 values"),
        (caffemodel({"a": [ARRAY]}, style="diff"), "only its gradients"),
        (caffemodel({"a": [field("BlobProto", "data", b"12345")]}), "5 bytes of data"),
        (caffemodel({"a": [number("BlobProto", "data", 3)]}), "no number"),
        (caffemodel({"a": [blob(ARRAY, shape=(1,) * 40)]}), "too many dimensions"),
        (caffemodel({"a": [field("BlobProto", "num", b"1")]}), "text where a number"),
        (caffemodel({"a": [field("BlobProto", "raw_data", b"12")]}), "FLOAT16"),
    ],
)
def test_what_is_damaged_ends_in_one_message(tmp_path, data, words):
    with pytest.raises(UnreadableError) as caught:
        stored(tmp_path, data).blobs("a")
    [found] = caught.value.diagnostics
    assert found.rule == "DLA418"
    assert words in found.message


def test_a_blob_in_very_many_pieces_is_too_large(tmp_path):
    piece = field("BlobProto", "data", b"\0" * 4)
    with pytest.raises(UnreadableError) as caught:
        stored(tmp_path, caffemodel({"a": [piece * 5000]})).blobs("a")
    assert [found.rule for found in caught.value.diagnostics] == ["DLA407"]


@pytest.mark.parametrize("kind", ["missing", "folder"])
def test_a_path_without_a_file_is_named(tmp_path, kind):
    path = tmp_path / "net.caffemodel"
    if kind == "folder":
        path.mkdir()
    with pytest.raises(UnreadableError, match=r"net\.caffemodel"):
        Weights(path)
