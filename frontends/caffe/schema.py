"""Caffe's messages, as ``schemas/caffe.proto`` declares them.

The file is the only place that knows fields, their types and their defaults. It is read as text, so
neither protoc nor generated code is needed, and text files can be checked against it with lines,
columns and guesses at what was meant.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

Scalar = bool | int | float | str

_TOKEN = re.compile(r'\s+|//[^\n]*|"(?P<text>[^"]*)"|(?P<word>[\w.+-]+)|(?P<mark>[{}\[\]=;,])')
_SCALARS = {
    "int32", "int64", "uint32", "float", "double", "bool", "string", "bytes",
}  # fmt: skip


@dataclass(frozen=True)
class FieldType:
    """One field of a message.

    Attributes:
        name: its name.
        number: its number on the wire.
        repeated: may be there several times.
        required: must be there.
        kind: a scalar type of protobuf, or ``enum`` or ``message``.
        type_name: full name of the enum or message.
        default: its value where it is absent; None for messages and where there is none.
    """

    name: str
    number: int
    repeated: bool
    required: bool
    kind: str
    type_name: str
    default: Scalar | None


@dataclass
class MessageType:
    """One message.

    Attributes:
        name: full name, such as ``BlobProto``.
        fields: its fields by name.
    """

    name: str
    fields: dict[str, FieldType] = field(default_factory=dict)


@dataclass
class Schema:
    """All messages and enums.

    Attributes:
        messages: by full name.
        enums: numbers by name of the value, by full name of the enum.
    """

    messages: dict[str, MessageType] = field(default_factory=dict)
    enums: dict[str, dict[str, int]] = field(default_factory=dict)

    def number(self, message: str, name: str) -> int:
        """The number of a field on the wire."""
        return self.messages[message].fields[name].number


@cache
def caffe_schema() -> Schema:
    """The schema of Caffe's files."""
    text = files("dlaconv.schemas").joinpath("caffe.proto").read_text("utf-8")
    return _Reader(text).read()


UNREAD = "Unread"
"""The message whose fields are not looked at."""


@dataclass(frozen=True)
class _Declared:
    """A field whose type is not resolved yet, as forward references are allowed."""

    owner: str
    label: str
    type_name: str
    name: str
    number: int
    default: str | None


class _Reader:
    """Reads the part of proto2 that the schema uses."""

    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._position = 0
        self._schema = Schema()
        self._declared: list[_Declared] = []

    def read(self) -> Schema:
        while self._position < len(self._tokens):
            word = self._next()
            if word == "message":
                self._message("")
            elif word == "enum":
                self._enum("")
            else:  # syntax, package
                while self._next() != ";":
                    pass
        for declared in self._declared:
            resolved = self._resolved(declared)
            self._schema.messages[declared.owner].fields[declared.name] = resolved
        return self._schema

    def _next(self) -> str:
        token = self._tokens[self._position]
        self._position += 1
        return token

    def _message(self, scope: str) -> None:
        name = scope + self._next()
        self._schema.messages[name] = MessageType(name)
        self._next()  # {
        while (word := self._next()) != "}":
            if word == "enum":
                self._enum(f"{name}.")
            else:
                self._field(name, word)

    def _enum(self, scope: str) -> None:
        values = self._schema.enums[scope + self._next()] = {}
        self._next()  # {
        while (word := self._next()) != "}":
            self._next()  # =
            values[word] = int(self._next())
            self._next()  # ;

    def _field(self, owner: str, label: str) -> None:
        type_name, name = self._next(), self._next()
        self._next()  # =
        number, default = int(self._next()), None
        while (word := self._next()) != ";":
            if word == "default":
                self._next()  # =
                default = self._next()
        self._declared.append(_Declared(owner, label, type_name, name, number, default))

    def _resolved(self, declared: _Declared) -> FieldType:
        kind, full = declared.type_name, ""
        if kind not in _SCALARS:
            scoped = f"{declared.owner}.{kind}"
            full = scoped if scoped in self._schema.enums else kind
            kind = "enum" if full in self._schema.enums else "message"
        return FieldType(
            declared.name,
            declared.number,
            declared.label == "repeated",
            declared.label == "required",
            kind,
            full,
            _default(kind, declared.default),
        )


def _default(kind: str, text: str | None) -> Scalar | None:
    if text is None:
        return None
    if kind == "bool":
        return text == "true"
    if kind in {"float", "double"}:
        return float(text)
    return text if kind in {"string", "enum"} else int(text)


def _tokens(text: str) -> Iterator[str]:
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        assert match is not None, f"caffe.proto at {position}"
        position = match.end()
        if match.lastgroup is not None:
            yield match[match.lastgroup]
