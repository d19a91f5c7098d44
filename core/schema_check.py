"""Checks a file with lines against a JSON schema, in words for whoever wrote it.

Knows the keywords that ``schemas/qconfig.schema.json`` uses, and no others; a test compares with
jsonschema.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dlaconv.yaml_tree import UNKNOWN, Tree, shortened

Schema = Mapping[str, Any]
_TYPES: dict[str, tuple[str, tuple[type, ...]]] = {
    "object": ("keys with values", (dict,)),
    "array": ("a list", (list,)),
    "string": ("text", (str,)),
    "number": ("a number", (int, float)),
    "integer": ("a whole number", (int, float)),
}
KEYWORDS = frozenset({
    "$schema", "$id", "$defs", "$ref", "title", "description", "type", "const", "enum",
    "properties", "required", "additionalProperties", "minProperties", "maxProperties", "items",
    "minItems", "maxItems", "minLength", "maxLength", "minimum", "exclusiveMinimum", "maximum",
    "allOf", "anyOf",
})  # fmt: skip
"""What a schema may say: ``additionalProperties`` only false, ``anyOf`` only lists of ``required``,
``$ref`` only ``#/$defs/...`` and alone, ``allOf`` only of ``anyOf``."""


@dataclass(frozen=True)
class Violation:
    """A place where a file is not what the schema says.

    Attributes:
        line: 1-based line.
        message: what is wrong.
        help: what to write instead.
    """

    line: int
    message: str
    help: str = ""


def violations(schema: Schema, tree: Tree) -> Iterator[Violation]:
    """Every violation in a file.

    Args:
        schema: the schema; uses nothing but `KEYWORDS`.
        tree: the file.
    """
    return _Checker(schema["$defs"]).check(schema, tree, "")


class _Checker:
    def __init__(self, definitions: Mapping[str, Schema]) -> None:
        self._definitions = definitions

    def check(self, schema: Schema, tree: Tree, path: str) -> Iterator[Violation]:
        """Violations in a value; ``path`` leads to it, such as ``nodes[2].output``."""
        if "$ref" in schema:
            schema = self._definitions[schema["$ref"].rpartition("/")[2]]
        name, help_ = path or "the file", str(schema.get("description", ""))
        value = tree.value
        if value is UNKNOWN:
            return
        if (problem := _of_type(schema, value) or _of_value(schema, value)) is not None:
            yield Violation(tree.line, f"{name} {problem}", help_)
        elif isinstance(value, dict):
            yield from self._object(schema, tree, path, name)
        elif isinstance(value, list):
            yield from _counted(schema, tree, name, len(value), "Items", "entries")
            for index, item in enumerate(value):
                yield from self.check(schema["items"], item, f"{path}[{index}]")

    def _object(self, schema: Schema, tree: Tree, path: str, name: str) -> Iterator[Violation]:
        properties = schema["properties"]
        listed = ", ".join(properties)
        for key, item in tree.value.items():
            if key in properties:
                yield from self.check(properties[key], item, f"{path}.{key}".lstrip("."))
                continue
            near = difflib.get_close_matches(shortened(key), properties, 1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            message = f"{name} has an unknown key {shortened(key)!r}"
            yield Violation(tree.key_lines[key], message, f"{hint}Known keys: {listed}")
        for key in schema.get("required", ()):
            if key not in tree.value:
                yield Violation(tree.line, f"{name} lacks the key {key!r}", _text(properties, key))
        for part in schema.get("allOf", ()):
            choice = [key for item in part["anyOf"] for key in item["required"]]
            if not any(key in tree.value for key in choice):
                yield Violation(
                    tree.line, f"{name} needs {' or '.join(choice)}", schema["description"]
                )
        yield from _counted(schema, tree, name, len(tree.value), "Properties", "keys")


def _of_type(schema: Schema, value: Any) -> str | None:
    if "type" not in schema:
        return None
    words, types = _TYPES[schema["type"]]
    fits = isinstance(value, types) and not isinstance(value, bool)
    if fits and schema["type"] == "integer":
        fits = float(value).is_integer()
    return None if fits else f"must be {words}, not {_shown(value)}"


def _of_value(schema: Schema, value: Any) -> str | None:
    if "const" in schema and (value != schema["const"] or isinstance(value, bool)):
        return f"must be {schema['const']}, not {_shown(value)}"
    if "enum" in schema and value not in schema["enum"]:
        return f"must be one of {', '.join(schema['enum'])}, not {_shown(value)}"
    if isinstance(value, str) and len(value) < schema.get("minLength", 0):
        return "is empty"
    if isinstance(value, str) and len(value) > schema.get("maxLength", len(value)):
        return f"has {len(value)} characters, {schema['maxLength']} at most"
    if not isinstance(value, int | float):
        return None
    if value <= schema.get("exclusiveMinimum", -float("inf")):
        return f"must be above {schema['exclusiveMinimum']}, not {value}"
    if value < schema.get("minimum", -float("inf")):
        return f"must be at least {schema['minimum']}, not {value}"
    if value > schema.get("maximum", float("inf")):
        return f"must be at most {schema['maximum']:g}, not {value}"
    return None


def _counted(
    schema: Schema, tree: Tree, name: str, count: int, what: str, words: str
) -> Iterator[Violation]:
    least, most = schema.get(f"min{what}", 0), schema.get(f"max{what}", count)
    if count < least:
        yield Violation(tree.line, f"{name} is empty", schema["description"])
    elif count > most:
        number = "one" if most == 1 else str(most)
        message = f"{name} has {count} {words}, {number} at most"
        yield Violation(tree.line, message, schema["description"])


def _text(properties: Mapping[str, Schema], key: str) -> str:
    schema = properties[key]
    extra = f" Write {key}: {schema['const']}" if "const" in schema else ""
    return f"{schema.get('description', '')}{extra}"


def _shown(value: Any) -> str:
    names: Sequence[tuple[type, str]] = ((dict, "keys with values"), (list, "a list"))
    for kind, words in names:
        if isinstance(value, kind):
            return words
    if value is None or isinstance(value, bool):
        return {None: "nothing", True: "true", False: "false"}[value]
    return shortened(repr(value))
