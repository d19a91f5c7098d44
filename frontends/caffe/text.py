"""Protobuf's text format, read against a schema.

Written for files that nobody vouches for: the nesting of what is known is bounded by the schema,
what is unknown is skipped without recursion, sizes are bounded, and every finding has its line and
column.
"""

from __future__ import annotations

import difflib
import math
import re
from bisect import bisect_right
from typing import NoReturn

from dlaconv.diagnostics import Diagnostics, Location
from dlaconv.errors import UnreadableError
from dlaconv.frontends.caffe import problems
from dlaconv.frontends.caffe.message import Message
from dlaconv.frontends.caffe.schema import UNREAD, FieldType, Scalar, Schema
from dlaconv.frontends.problems import too_large

MOST_CHARACTERS = 1 << 24
MOST_VALUES = 1 << 18
MOST_FINDINGS = 20

_SPACE = re.compile(r"(?:[\s\ufeff]+|#[^\n]*)+")
_TOKEN = re.compile(
    r"(?P<word>[A-Za-z_]\w*)"
    r"|(?P<number>0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?[fF]?)"
    r"|(?P<string>\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*')"
    r"|(?P<mark>[{}<>\[\]:;,\-/.])"
)
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{1,2}|[0-7]{1,3}|.)")
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_CLOSING = {"{": "}", "<": ">"}
_BOOLEANS = {
    **dict.fromkeys(("true", "True", "t", "1"), True),
    **dict.fromkeys(("false", "False", "f", "0"), False),
}
_RANGES = {
    "int32": (-(1 << 31), (1 << 31) - 1),
    "int64": (-(1 << 63), (1 << 63) - 1),
    "uint32": (0, (1 << 32) - 1),
}
_MEANT = {"bwlayer_in": "bw_layer_in"}
"""Misspelt fields that are taken for what is meant: the first is one of CHaiDNN's own guide."""


def parse_text(
    text: str, schema: Schema, kind: str, file: str, *, ignore_unknown: bool = False
) -> tuple[Message, Diagnostics]:
    """Reads a text file.

    Args:
        text: its content.
        schema: what there can be.
        kind: the message that the file holds.
        file: its path, for findings.
        ignore_unknown: makes unknown fields warnings.

    Returns:
        The message, and findings about fields.

    Raises:
        UnreadableError: if the text is none of this format, with the place of the first error.
    """
    parser = _Parser(text, schema, file, ignore_unknown=ignore_unknown)
    return parser.parse(kind), parser.found


class _Parser:
    def __init__(self, text: str, schema: Schema, file: str, *, ignore_unknown: bool) -> None:
        self._text, self._schema, self._file = text, schema, file
        self._ignore_unknown = ignore_unknown
        self._lines = [0, *(match.end() for match in re.finditer("\n", text))]
        self._end, self._start, self._kind, self._token = 0, 0, "", ""
        self._values = self._reported = 0
        self.found = Diagnostics()
        self._advance()

    def parse(self, kind: str) -> Message:
        return self._message(kind, "", 1)

    def _advance(self) -> str:
        """Goes to the next token and returns the one before."""
        before = self._token
        space = _SPACE.match(self._text, self._end)
        self._start = space.end() if space else self._end
        if self._start >= len(self._text):
            self._kind, self._token, self._end = "end", "", self._start
            return before
        match = _TOKEN.match(self._text, self._start)
        if match is None:
            self._fail(f"unexpected character {self._text[self._start]!r}")
        self._kind, self._token, self._end = match.lastgroup or "", match[0], match.end()
        return before

    def _place(self, offset: int) -> tuple[int, int]:
        line = bisect_right(self._lines, offset)
        return line, offset - self._lines[line - 1] + 1

    def _fail(self, why: str, offset: int | None = None) -> NoReturn:
        line, column = self._place(self._start if offset is None else offset)
        raise UnreadableError(problems.not_text(self._file, f"{why} at column {column}", line))

    def _found(self, offset: int) -> str:
        return repr(self._text[offset : offset + 20].partition("\n")[0])

    def _accept(self, mark: str) -> bool:
        if self._kind == "mark" and self._token == mark:
            self._advance()
            return True
        return False

    def _message(self, kind: str, closing: str, line: int) -> Message:
        message = Message(self._schema, kind, line)
        while not (self._kind == "mark" and self._token == closing):
            if self._kind == "end":
                if not closing:
                    return message
                self._fail(f"the file ends inside {kind}, which begins at line {line}")
            self._field(message)
        self._advance()
        for field in message.kind.fields.values():
            if field.required and not message.has(field.name):
                self._fail(f"{kind} at line {line} has no {field.name}")
        return message

    def _field(self, message: Message) -> None:
        offset = self._start
        if self._kind == "mark" and self._token == "[":
            self._fail("an extension, which Caffe's files do not have")
        if self._kind != "word":
            self._fail(f"a field's name is expected, not {self._found(offset)}")
        name = self._advance()
        field = message.kind.fields.get(name)
        if field is None:
            field = message.kind.fields.get(self._unknown(message.kind.name, name, offset))
        if field is None:
            self._skip()
        elif field.kind == "message":
            self._accept(":")
            self._each(message, field, offset)
        else:
            if not self._accept(":"):
                self._fail(f"':' is expected after {name}")
            self._each(message, field, offset)
        if not self._accept(","):
            self._accept(";")

    def _each(self, message: Message, field: FieldType, offset: int) -> None:
        """Reads the value of a field, or the values of a list."""
        if not self._accept("["):
            self._value(message, field, offset)
            return
        if not field.repeated:
            self._fail(f"{field.name} takes no list", offset)
        while not self._accept("]"):
            self._value(message, field, self._start)
            if not self._accept(",") and self._token != "]":
                self._fail("',' or ']' is expected")

    def _value(self, message: Message, field: FieldType, offset: int) -> None:
        if message.has(field.name) and not field.repeated:
            self._fail(f"{field.name} is written twice", offset)
        self._values += 1
        if self._values > MOST_VALUES:
            raise UnreadableError(too_large(self._file, f"more than {MOST_VALUES} values"))
        line = self._place(offset)[0]
        if field.kind != "message":
            message.put(field.name, self._scalar(field), line)
        elif field.type_name == UNREAD:
            self._skip()
            message.put(field.name, Message(self._schema, UNREAD, line), line)
        elif (opening := self._token) in _CLOSING and self._kind == "mark":
            self._advance()
            inner = self._message(field.type_name, _CLOSING[opening], line)
            message.put(field.name, inner, line)
        else:
            self._fail(f"'{{' is expected after {field.name}")

    def _scalar(self, field: FieldType) -> Scalar:
        offset = self._start
        if field.kind in {"string", "bytes"}:
            return self._string(field)
        negative = self._accept("-")
        if self._kind not in {"word", "number"}:
            self._fail(f"{field.name} takes {_WORDS[field.kind]}, not {self._found(offset)}")
        token = self._advance()
        value = self._converted(field, token, negative=negative)
        if value is None:
            sign = "-" if negative else ""
            self._fail(f"{field.name} takes {self._choices(field)}, not {sign}{token}", offset)
        return value

    def _converted(self, field: FieldType, token: str, *, negative: bool) -> Scalar | None:
        if field.kind == "bool":
            return None if negative else _BOOLEANS.get(token)
        if field.kind == "enum":
            return _enumerated(self._schema.enums[field.type_name], token, negative=negative)
        sign = -1 if negative else 1
        if field.kind in {"float", "double"}:
            number = _real(token)
            return None if number is None else sign * number
        integer = _integer(token)
        low, high = _RANGES[field.kind]
        return sign * integer if integer is not None and low <= sign * integer <= high else None

    def _choices(self, field: FieldType) -> str:
        if field.kind == "enum":
            return " or ".join(self._schema.enums[field.type_name])
        return _WORDS[field.kind]

    def _string(self, field: FieldType) -> str:
        if self._kind != "string":
            self._fail(f"{field.name} takes text in quotes, not {self._found(self._start)}")
        parts = []
        while self._kind == "string":
            parts.append(_ESCAPE.sub(_unescaped, self._advance()[1:-1]))
        return "".join(parts)

    def _skip(self) -> None:
        """Skips the value of a field, whatever it is, without recursion."""
        self._accept(":")
        depth: list[str] = []
        while True:
            if self._kind == "end":
                self._fail("the file ends inside a value")
            token, kind = self._advance(), "mark"
            if token in _OPENING:
                depth.append(_OPENING[token])
            elif depth and token == depth[-1]:
                depth.pop()
            elif token in _OPENING.values():
                self._fail(f"{token!r} closes nothing")
            elif token == "-" or (token in {":", ","} and depth):
                continue
            else:
                kind = "value"
            if not depth:
                while kind == "value" and self._kind == "string":
                    self._advance()
                return

    def _unknown(self, kind: str, name: str, offset: int) -> str:
        """Reports an unknown field; returns the one that is meant if that is certain."""
        line, column = self._place(offset)
        meant = _MEANT.get(name, "")
        if meant in self._schema.messages[kind].fields:
            self._reported += 1
            if self._reported <= MOST_FINDINGS:
                self.found.add(problems.misspelt_field(self._file, line, column, name, meant))
            return meant
        self._reported += 1
        if self._reported <= MOST_FINDINGS:
            near = difflib.get_close_matches(name, self._schema.messages[kind].fields, 1)
            elsewhere = [
                other.name
                for other in self._schema.messages.values()
                if name in other.fields and other.name != "V0LayerParameter"
            ]
            self.found.add(
                problems.unknown_field(
                    Location(file=self._file, line=line),
                    f"{kind} has no field {name!r} (column {column})",
                    near[0] if near else "",
                    elsewhere[0] if elsewhere else "",
                    ignored=self._ignore_unknown,
                )
            )
        return ""


_WORDS = {
    **dict.fromkeys(("int32", "int64"), "a whole number"),
    "uint32": "a whole number from 0",
    **dict.fromkeys(("float", "double"), "a number"),
    "bool": "true or false",
    "enum": "a word",
}
_OPENING = {"{": "}", "<": ">", "[": "]"}


def _enumerated(values: dict[str, int], token: str, *, negative: bool) -> str | None:
    if token in values:
        return None if negative else token
    number = _integer(token)
    numbers = {value: name for name, value in values.items()}
    return None if number is None or negative else numbers.get(number)


def _integer(token: str) -> int | None:
    if len(token) > 20:
        return None
    try:
        if token[:2] in {"0x", "0X"}:
            return int(token, 16)
        return int(token, 8 if len(token) > 1 and token[0] == "0" else 10)
    except ValueError:
        return None


def _real(token: str) -> float | None:
    lower = token.lower()
    if lower in {"inf", "infinity"}:
        return math.inf
    if lower == "nan":
        return math.nan
    try:
        return float(lower.removesuffix("f"))
    except ValueError:
        return None


def _unescaped(match: re.Match[str]) -> str:
    code = match[1]
    if code[0] == "x" and len(code) > 1:
        return chr(int(code[1:], 16))
    if code[0] in "01234567":
        return chr(int(code, 8))
    return _ESCAPED.get(code, code)


def read_text(data: memoryview, file: str) -> str:
    """Decodes a text file.

    Raises:
        UnreadableError: if it is empty, binary or too large.
    """
    if len(data) > MOST_CHARACTERS and b"\0" not in bytes(data[:MOST_CHARACTERS]):
        raise UnreadableError(too_large(file, f"{len(data)} bytes of text"))
    content = bytes(data[:MOST_CHARACTERS])
    if b"\0" in content:
        why = "this is a binary file; the prototxt comes first"
        raise UnreadableError(problems.not_text(file, why))
    if not content.strip():
        raise UnreadableError(problems.not_text(file, "the file is empty"))
    return content.decode("utf-8", "replace")
