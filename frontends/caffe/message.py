"""Messages of a text file: fields by name, each with the line it stands on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dlaconv.frontends.caffe.schema import FieldType, MessageType, Schema

_ZERO = {"bool": False, "float": 0.0, "double": 0.0, "string": "", "bytes": ""}


class Message:
    """One message as written, with the defaults of the schema for what is not.

    The accessors name a field's type, as protobuf's generated ones do; asking for a field that the
    schema does not have is a bug of ours.
    """

    def __init__(self, schema: Schema, kind: str, line: int = 0) -> None:
        """Starts empty.

        Args:
            schema: where ``kind`` is declared.
            kind: full name of the message.
            line: 1-based line where it begins.
        """
        self.kind: MessageType = schema.messages[kind]
        self.line = line
        self._schema = schema
        self._entries: dict[str, list[tuple[Any, int]]] = {}

    def put(self, name: str, value: Any, line: int = 0) -> None:
        """Adds a value of a field."""
        assert name in self.kind.fields
        self._entries.setdefault(name, []).append((value, line or self.line))

    def move(self, name: str, other: Message, new_name: str = "") -> None:
        """Gives the values of a field to another message, under a new name if it has one."""
        for value, line in self._entries.get(name, []):
            other.put(new_name or name, value, line)

    def has(self, name: str) -> bool:
        """True if a field is written."""
        assert name in self.kind.fields, f"{self.kind.name} has no {name}"
        return name in self._entries

    def line_of(self, name: str) -> int:
        """The line of a field's first value, the message's own where it is absent."""
        entries = self._entries.get(name)
        return entries[0][1] if entries else self.line

    def names(self) -> Sequence[str]:
        """The fields that are written, in the order of the file."""
        return tuple(self._entries)

    def values(self, name: str) -> list[Any]:
        """The values of a field as they were put, none if it is absent."""
        return self._all(name)

    def integer(self, name: str) -> int:
        """An integer, or its default."""
        return int(self._one(name))

    def number(self, name: str) -> float:
        """A real number, or its default."""
        return float(self._one(name))

    def flag(self, name: str) -> bool:
        """A truth value, or its default."""
        return bool(self._one(name))

    def text(self, name: str) -> str:
        """A string or the name of an enumerated value, or its default."""
        return str(self._one(name))

    def message(self, name: str) -> Message:
        """A message, empty where it is absent."""
        entries = self._entries.get(name)
        if entries:
            found: Message = entries[0][0]
            return found
        return Message(self._schema, self._field(name).type_name, self.line)

    def integers(self, name: str) -> list[int]:
        """The values of a repeated integer."""
        return [int(value) for value in self._all(name)]

    def numbers(self, name: str) -> list[float]:
        """The values of a repeated real number."""
        return [float(value) for value in self._all(name)]

    def texts(self, name: str) -> list[str]:
        """The values of a repeated string or enumeration."""
        return [str(value) for value in self._all(name)]

    def messages(self, name: str) -> list[Message]:
        """The values of a repeated message."""
        return list(self._all(name))

    def _field(self, name: str) -> FieldType:
        return self.kind.fields[name]

    def _all(self, name: str) -> list[Any]:
        assert name in self.kind.fields, f"{self.kind.name} has no {name}"
        return [value for value, _ in self._entries.get(name, [])]

    def _one(self, name: str) -> Any:
        field = self._field(name)
        entries = self._entries.get(name)
        if entries:
            return entries[0][0]
        if field.default is not None:
            return field.default
        if field.kind == "enum":
            return next(iter(self._schema.enums[field.type_name]))
        return _ZERO.get(field.kind, 0)
