import copy
import json
from importlib.resources import files

import pytest
from jsonschema import Draft202012Validator, ValidationError
from referencing import Registry, Resource

from tests.core import samples

SCHEMAS = {
    path.name: json.loads(path.read_text("utf-8"))
    for path in files("dlaconv.schemas").iterdir()
    if path.name.endswith(".schema.json")
}
DOCUMENTS = {
    "check": samples.CHECK,
    "compare": samples.COMPARE,
    "diagnostics": samples.FAILURE,
    "dump": samples.DUMP,
    "report": samples.REPORT,
    "sensitivity": samples.SENSITIVITY,
    "show": samples.SHOW,
    "strip": samples.STRIP,
    "validate": samples.VALIDATE,
    "verify": samples.VERIFICATION,
}
OURS = sorted(DOCUMENTS)


def validate(name, document):
    registry = Registry().with_resources(
        (schema["$id"], Resource.from_contents(schema))
        for schema in SCHEMAS.values()
        if "$id" in schema
    )
    Draft202012Validator(SCHEMAS[f"{name}.schema.json"], registry=registry).validate(document)


def without_each_key(value, path=()):
    """Yields (path, document without that key) for every key, at any depth."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield (*path, key), {k: v for k, v in value.items() if k != key}
            for inner, changed in without_each_key(item, (*path, key)):
                yield inner, {**value, key: changed}
    elif isinstance(value, list):
        for index, item in enumerate(value):
            for inner, changed in without_each_key(item, (*path, index)):
                yield inner, [*value[:index], changed, *value[index + 1 :]]


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_every_schema_is_a_schema(name):
    Draft202012Validator.check_schema(SCHEMAS[name])


def undescribed(schema, path="#"):
    """Yields the properties without a description of their own or of what they refer to."""
    for key, part in schema.get("properties", {}).items():
        if "description" not in part and "$ref" not in part:
            yield f"{path}/{key}"
        yield from undescribed(part, f"{path}/{key}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from undescribed(schema[key], f"{path}/{key}")
    for key, part in schema.get("$defs", {}).items():
        if "description" not in part:
            yield f"{path}/$defs/{key}"
        yield from undescribed(part, f"{path}/$defs/{key}")


@pytest.mark.parametrize("name", OURS)
def test_every_key_of_a_document_is_described(name):
    assert list(undescribed(SCHEMAS[f"{name}.schema.json"])) == []


@pytest.mark.parametrize("name", OURS)
def test_the_documents_that_tests_render_are_valid(name):
    validate(name, DOCUMENTS[name])


FREE_KEYS = {  # names of tensors, rules, passes; and what a record may leave out
    "logits", "x", "IO-3", "clean", "verify", "qdq", "sim", "bits", "signed", "narrow", "qmin",
    "qmax", "step", "zero_point", "rounding", "exponent", "real_step", "steps", "ideal_steps",
    "step_in", "channels", "override", "input_scale", "weight_ch_scales",
}  # fmt: skip


@pytest.mark.parametrize("name", OURS)
def test_a_document_without_one_of_its_keys_is_not_valid(name):
    accepted = []
    for path, document in without_each_key(copy.deepcopy(DOCUMENTS[name])):
        strict = "options" in path or "io" in path or name in {"show", "compare", "validate"}
        if path[-1] in ({"logits"} if strict else FREE_KEYS):
            continue
        try:
            validate(name, document)
        except ValidationError:
            continue
        accepted.append(path)
    assert [path for path in accepted if path != ("options", "shapes", "x")] == []


@pytest.mark.parametrize("name", OURS)
def test_a_document_with_an_unknown_key_is_not_valid(name):
    with pytest.raises(ValidationError):
        validate(name, {**DOCUMENTS[name], "surprise": 1})


def test_a_report_may_lack_a_comparison():
    validate("report", samples.report(verification=None))
    with pytest.raises(ValidationError):
        validate("report", samples.report(verification={"passed": True}))
