import tracemalloc
import warnings

import numpy as np
import onnx_ir as ir
import pytest
from PIL import Image

from dlaconv.driver.calibration import open_calibration
from dlaconv.driver.images import ImageFolder
from dlaconv.errors import UnreadableError, UsageError
from dlaconv.options import Options
from dlaconv.preprocessing import Preprocessing

RNG = np.random.default_rng(3)


def network(*shapes, names="xyz"):
    values = [
        ir.val(name, dtype=ir.DataType.FLOAT, shape=list(shape))
        for name, shape in zip(names, shapes, strict=False)
    ]
    return ir.Model(ir.Graph(values, [], nodes=[], opset_imports={"": 18}), ir_version=10)


def opened(given, *shapes, **options):
    return open_calibration(Options(calibrate=given, **options), network(*shapes or [(1, 4)]))


def values(calibration, name="x"):
    return np.concatenate([feeds[name] for feeds in calibration.data])


def rules(error):
    return {item.rule for item in error.value.diagnostics}


@pytest.fixture
def samples():
    return RNG.normal(size=(5, 4)).astype(np.float32)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_arrays_are_read_sample_by_sample(tmp_path, samples, save):
    save(tmp_path / "d.npz", x=samples)
    found = opened(tmp_path / "d.npz")
    assert found.as_json() | {"source": ""} == {
        "kind": "arrays", "source": "", "samples": 5, "skipped": 0,
    }  # fmt: skip
    for _ in range(2):
        assert np.array_equal(values(found), samples)


@pytest.mark.parametrize("array", [
    RNG.normal(size=(5, 4)),
    np.asfortranarray(RNG.normal(size=(5, 4))),
    RNG.integers(0, 255, (5, 4), np.uint8),
    RNG.normal(size=4),
])  # fmt: skip
def test_npy_of_any_order_and_type_of_numbers(tmp_path, array):
    np.save(tmp_path / "d.npy", array)
    wanted = np.atleast_2d(array).astype(np.float32)
    assert np.array_equal(values(opened(tmp_path / "d.npy")), wanted)


def test_arrays_of_several_inputs_are_matched_by_name(tmp_path, samples):
    np.savez(tmp_path / "d.npz", y=samples[:, :2], x=samples)
    found = opened(tmp_path / "d.npz", (1, 4), (1, 2))
    assert np.array_equal(values(found, "y"), samples[:, :2])


def test_a_file_cut_off_in_its_last_sample_is_refused_when_it_is_opened(tmp_path, samples):
    np.save(tmp_path / "d.npy", samples)
    content = (tmp_path / "d.npy").read_bytes()
    (tmp_path / "d.npy").write_bytes(content[:-4])
    with pytest.raises(UnreadableError, match="not as long as its header says"):
        opened(tmp_path / "d.npy")


def test_damage_within_a_compressed_array_is_refused(tmp_path):
    np.savez_compressed(tmp_path / "d.npz", x=RNG.normal(size=(500, 4)))
    content = bytearray((tmp_path / "d.npz").read_bytes())
    content[len(content) // 2] ^= 255
    (tmp_path / "d.npz").write_bytes(bytes(content))
    with pytest.raises((UnreadableError, UsageError)) as error:
        opened(tmp_path / "d.npz")
    assert rules(error) <= {"DLA431", "DLA433"}  # what is damaged may be no number before it ends


def test_a_value_that_is_not_finite_is_refused(tmp_path, samples):
    samples[4, 3] = np.inf
    np.save(tmp_path / "d.npy", samples)
    with pytest.raises(UsageError, match="not finite"):
        opened(tmp_path / "d.npy")


def test_other_files_are_no_samples(tmp_path):
    (tmp_path / "d.npz").write_bytes(b"nothing of the kind")
    with pytest.raises(UnreadableError) as error:
        opened(tmp_path / "d.npz")
    assert rules(error) == {"DLA431"}


def test_memory_does_not_grow_with_the_number_of_samples(tmp_path):
    def peak(count):
        np.save(tmp_path / "d.npy", np.zeros((count, 1 << 18), np.float32))
        tracemalloc.start()
        found = opened(tmp_path / "d.npy", (1, 1 << 18))
        for _ in found.data:
            pass
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    assert peak(200) < 1.2 * peak(100) < 1.2 * (70 << 20)


@pytest.mark.parametrize("make", [
    lambda s: list(s),
    lambda s: iter(s),
    lambda s: ({"x": row} for row in s),
    lambda s: [s[:3], s[3:]],
    lambda s: [row.tolist() for row in s],
])  # fmt: skip
def test_any_iterable_of_arrays_or_mappings_can_be_gone_through_again(samples, make):
    found = opened(make(samples))
    assert found.kind == "iterable"
    for _ in range(2):
        assert np.array_equal(values(found), samples)


def test_many_samples_of_a_generator_go_to_a_file():
    found = opened((np.full(1 << 20, i, np.float32) for i in range(20)), (1, 1 << 20))
    tracemalloc.start()
    assert [int(feeds["x"][0, 0]) for feeds in found.data] == list(range(20))
    assert tracemalloc.get_traced_memory()[1] < 80 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("items", [
    [], ["text"], [{"x": object()}], [[1, [2]]],
])  # fmt: skip
def test_what_is_no_sample_is_refused(items):
    with pytest.raises(UsageError) as error:
        opened(items)
    assert rules(error) == {"DLA335"}


def test_items_for_several_inputs_must_be_mappings(samples):
    with pytest.raises(UsageError, match="graph inputs are x, y"):
        opened(list(samples), (1, 4), (1, 4))


def test_random_samples_are_seeded_and_warned_about():
    found = opened("random", (None, 4), seed=3)
    assert np.array_equal(values(found), values(opened("random", (1, 4), seed=3)))
    assert not np.array_equal(values(found), values(opened("random", (1, 4), seed=4)))
    assert [item.rule for item in found.diagnostics] == ["DLA334"]


def test_random_samples_need_a_shape():
    with pytest.raises(UsageError) as error:
        opened("random", (1, None))
    assert rules(error) == {"DLA311"}
    assert values(opened("random", (1, None), shapes={"x": (1, 7)})).shape[1:] == (7,)


def test_options_for_pictures_do_nothing_for_arrays(tmp_path, samples):
    np.save(tmp_path / "d.npy", samples)
    with pytest.raises(UsageError, match="--mean, --bgr are for a folder"):
        opened(tmp_path / "d.npy", images=Preprocessing(mean=(1.0,), bgr=True))


@pytest.fixture
def folder(tmp_path):
    for index in range(3):
        pixels = RNG.integers(0, 256, (10 + index, 14, 3), np.uint8)
        place = tmp_path / ("b" if index else "a")
        place.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(place / f"{index}.png")
    return tmp_path


def images(folder, shape=(1, 3, 8, 8), **how):
    how.setdefault("preset", "raw")
    return ImageFolder(folder, {"x": shape}, Preprocessing(**how))


def stacked(data):
    return np.concatenate([feeds["x"] for feeds in data])


def test_pictures_are_read_in_the_order_of_their_paths(folder):
    data = images(folder)
    assert len(data) == 3
    assert not data.skipped
    assert not data.diagnostics()
    assert stacked(data).shape == (3, 3, 8, 8)


def test_a_crop_without_resizing_is_the_middle(folder):
    pixels = np.asarray(Image.open(folder / "a" / "0.png"), np.float32)
    [first, *_] = stacked(images(folder, resize=(10, 14)))
    assert np.array_equal(first, pixels[1:9, 3:11].transpose(2, 0, 1))


def test_values_are_scaled_then_centred_then_divided(folder):
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    raw = stacked(images(folder))
    got = stacked(images(folder, preset=None, scale=1 / 255, mean=mean, std=std))
    want = (raw / 255 - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    assert np.allclose(got, want, atol=1e-6)


def test_blue_can_come_first_and_the_mean_is_in_that_order(folder):
    raw = stacked(images(folder))
    got = stacked(images(folder, bgr=True, mean=(1.0, 2.0, 3.0)))
    assert np.allclose(got, raw[:, ::-1] - np.reshape((1, 2, 3), (3, 1, 1)))


def test_the_layout_is_told_from_the_shape_or_said(folder):
    first = stacked(images(folder))
    assert np.array_equal(stacked(images(folder, (1, 8, 8, 3))), first.transpose(0, 2, 3, 1))
    got = stacked(images(folder, (1, 3, 8, 3), layout="nhwc"))
    assert got.shape == (3, 3, 8, 3)


def test_grey_networks_get_grey_pictures(folder):
    got = stacked(images(folder, (1, 1, 8, 8), preset="torchvision"))
    assert got.shape == (3, 1, 8, 8)


@pytest.mark.parametrize(("preset", "low", "high"), [
    ("tf", -1, 1), ("unit", 0, 1), ("raw", 0, 255),
])  # fmt: skip
def test_presets_have_the_range_that_they_say(tmp_path, preset, low, high):
    for value in (0, 255):
        Image.new("RGB", (9, 9), (value,) * 3).save(tmp_path / f"{value}.png")
    dark, light = stacked(images(tmp_path, preset=preset))
    assert np.allclose(dark, low, atol=1e-6)
    assert np.allclose(light, high, atol=1e-5)


def test_torchvision_takes_seven_eighths_of_the_middle(tmp_path):
    pixels = np.zeros((256, 256, 3), np.uint8)
    pixels[16:-16, 16:-16] = 255
    Image.fromarray(pixels).save(tmp_path / "x.png")
    data = images(tmp_path, (1, 3, 224, 224), preset="torchvision")
    [got] = stacked(data)
    assert np.allclose(got, got[:, :1, :1])


def test_files_that_are_no_pictures_are_listed_in_one_warning(folder):
    (folder / "notes.txt").write_text("no picture")
    content = (folder / "a" / "0.png").read_bytes()
    (folder / "a" / "cut.png").write_bytes(content[: len(content) // 2])
    Image.fromarray(np.zeros((9, 9), np.uint16)).save(folder / "deep.png")
    data = images(folder)
    assert len(data) == 3
    [warning] = data.diagnostics()
    assert warning.rule == "DLA331"
    for name in ("notes.txt", "cut.png", "deep.png"):
        assert name in str(warning.notes)


def test_pictures_that_are_far_too_large_are_skipped(folder, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 150)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert len(images(folder).skipped) == 2


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(UnreadableError) as error:
        images(tmp_path)
    assert rules(error) == {"DLA330"}


def test_it_must_be_said_which_values_pixels_have(folder):
    with pytest.raises(UsageError) as error:
        images(folder, preset=None, bgr=True)
    assert rules(error) == {"DLA332"}


@pytest.mark.parametrize(("shape", "how"), [
    ((1, 5, 8, 8), {}),
    ((1, 3, 8), {}),
    (None, {}),
    ((1, 3, None, None), {}),
    ((1, 3, 8, 8), {"crop": (7,)}),
    ((1, 3, 8, 8), {"mean": (1.0, 2.0)}),
    ((1, 3, 8, 8), {"std": (0.0,)}),
])  # fmt: skip
def test_networks_that_take_no_such_pictures_are_refused(folder, shape, how):
    with pytest.raises(UsageError) as error:
        images(folder, shape, **how)
    assert rules(error) == {"DLA333"}


def test_an_open_size_is_taken_from_the_crop(folder):
    assert stacked(images(folder, (1, 3, None, None), crop=(6, 7))).shape == (3, 3, 6, 7)


def test_a_picture_that_disappears_is_no_traceback(folder):
    data = images(folder)
    (folder / "b" / "2.png").unlink()
    with pytest.raises(UnreadableError) as error:
        list(data)
    assert rules(error) == {"DLA409"}
