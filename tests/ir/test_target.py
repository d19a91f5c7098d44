"""Target files: the built-in one, a user's own, and wrong ones."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import fields
from importlib.resources import files

import jsonschema
import pytest

from dlaconv.ir.target import KernelLimits, Target

TEXT = files("dlaconv.schemas").joinpath("access-1.2.0.json").read_text("utf-8")
SCHEMA = json.loads(files("dlaconv.schemas").joinpath("target.schema.json").read_text("utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def changed(path: str, value: object) -> dict:
    """The built-in description with one key (dotted path) replaced."""
    data = json.loads(TEXT)
    *outer, last = path.split(".")
    place = data
    for key in outer:
        place = place[key]
    place[last] = value
    return data


def without(path: str) -> dict:
    data = json.loads(TEXT)
    *outer, last = path.split(".")
    place = data
    for key in outer:
        place = place[key]
    del place[last]
    return data


def test_the_built_in_target_is_valid_and_loads():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    VALIDATOR.validate(json.loads(TEXT))
    target = Target.load()
    assert (target.name, target.opset, target.channel_multiple) == ("ACCESS", 12, 16)
    assert target.conv == KernelLimits((1, 7), (1, 2), (0, 3), (1, 512), (1, 2048))
    assert target.map_range == (-128, 127)
    assert target.bias_range == (-32768, 32767)


def test_a_file_of_ones_own_loads(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(changed("map_size", [1, 512])), "utf-8")
    assert Target.load(path).map_size == (1, 512)


def test_schema_and_dataclasses_have_the_same_keys():
    assert set(SCHEMA["properties"]) - {"$schema", "comment"} == {f.name for f in fields(Target)}
    window = SCHEMA["$defs"]["window"]["properties"]
    assert set(window) == {f.name for f in fields(KernelLimits)}


@pytest.mark.parametrize("key", SCHEMA["required"])
def test_every_required_key_is_required(key):
    data = without(key)
    assert not VALIDATOR.is_valid(data)
    with pytest.raises(ValueError, match=f"^missing keys: {key}$"):
        Target.from_json(data)


@pytest.mark.parametrize("key", ["min_shift", "attribute_aliases", "deprecated_attributes"])
def test_other_keys_may_be_left_out(key):
    data = without(key)
    assert VALIDATOR.is_valid(data)
    assert not getattr(Target.from_json(data), key)


WRONG = [
    ("name", 7, "a non-empty string, got 7"),
    ("name", "", "a non-empty string"),
    ("opset", "12", 'an integer from 1 to 2147483647, got "12"'),
    ("opset", 12.5, "an integer"),
    ("opset", True, "an integer"),
    ("opset", 0, "an integer from 1"),
    ("map_bits", 100000000, "an integer from 1 to 64"),
    ("signed_maps", 1, "true or false, got 1"),
    ("signed_maps", None, "true or false, got null"),
    ("map_size", [1], "two integers"),
    ("map_size", 256, "two integers"),
    ("map_size", [1, 2.5], "two integers"),
    ("map_size", [-1, 2], "two integers"),
    ("scale_divisor", [0, 255], "1 <= low <= high <= 255"),
    ("scale_divisor", [1, 256], "1 <= low <= high <= 255"),
    ("min_shift", -65, "an integer from -64"),
    ("max_pool_kernels", [], "at least one integer"),
    ("max_pool_kernels", {"2": 2}, "a list"),
    ("max_pool_kernels", [2, "3"], 'got "3"'),
    ("conv", [1, 7], "an object"),
    ("conv.strides", 1, "a list"),
    ("conv.kernel", [1, None], "two integers"),
    ("ops", ["Conv"], "an object"),
    ("ops.Conv", "input_scale", "an object"),
    ("ops.Conv.input_scale", "double", 'one of float, int, floats, got "double"'),
    ("same_scale_ops", "Relu", "a list"),
    ("attribute_aliases.weight_bit", 8, "a non-empty string"),
]


@pytest.mark.parametrize(("key", "value", "says"), WRONG, ids=lambda item: str(item)[:24])
def test_a_wrong_value_is_named_by_its_key(key, value, says):
    data = changed(key, value)
    assert not VALIDATOR.is_valid(data)
    with pytest.raises(ValueError, match=re.escape(f"key {key!r} has the wrong form")) as caught:
        Target.from_json(data)
    assert says in str(caught.value)


def test_a_reversed_interval_is_named():
    with pytest.raises(ValueError, match="'map_size'"):
        Target.from_json(changed("map_size", [256, 1]))


def test_unknown_keys_are_named_at_every_level():
    data = changed("conv.kernels", [1, 7])
    assert not VALIDATOR.is_valid(data)
    with pytest.raises(ValueError, match=r"^unknown keys: conv\.kernels$"):
        Target.from_json(data)
    with pytest.raises(ValueError, match=r"^unknown keys: map_sizes, speed$"):
        Target.from_json(json.loads(TEXT) | {"speed": 1, "map_sizes": []})


def test_a_missing_limit_of_a_window_is_named():
    with pytest.raises(ValueError, match=r"^missing keys: depthwise\.padding$"):
        Target.from_json(without("depthwise.padding"))


def test_long_wrong_values_are_cut_in_messages():
    with pytest.raises(ValueError, match="wrong form") as caught:
        Target.from_json(changed("name", list(range(10000))))
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "content",
    [TEXT[:200], "", "[]", "null", "12", "{", '{"name": NaN}', "[" * 100000, "\x00"],
    ids=["truncated", "empty", "list", "null", "number", "brace", "nan", "deep", "zero"],
)
def test_files_that_are_no_target_raise_value_errors(tmp_path, content):
    path = tmp_path / "target.json"
    path.write_text(content, "utf-8")
    with pytest.raises(ValueError, match=r"."):
        Target.load(path)


def test_a_file_that_is_no_text_raises_a_value_error(tmp_path):
    path = tmp_path / "target.json"
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(ValueError, match="decode"):
        Target.load(path)


def test_a_missing_file_raises_an_os_error(tmp_path):
    with pytest.raises(OSError, match="no-such"):
        Target.load(tmp_path / "no-such.json")


def test_from_json_does_not_change_its_argument():
    data = json.loads(TEXT)
    before = copy.deepcopy(data)
    Target.from_json(data)
    assert data == before
