"""Messages as protobuf's text format, which `dlaconv.frontends.caffe.text` reads back unchanged."""

from __future__ import annotations

import re
from typing import Any

from dlaconv.frontends.caffe.message import Message
from dlaconv.frontends.caffe.schema import FieldType

_INDENT = "  "
_ESCAPED = re.compile(r'["\\\x00-\x1f\x7f]')
_SHORT = {'"': r"\"", "\\": r"\\", "\n": r"\n", "\r": r"\r", "\t": r"\t"}


def printed(message: Message, indent: str = "") -> str:
    """The fields of a message, one a line, in the order in which they were put.

    Args:
        message: the message; what it holds of unread messages is lost.
        indent: what each line begins with.
    """
    lines: list[str] = []
    for name in message.names():
        field = message.kind.fields[name]
        for value in message.values(name):
            if field.kind == "message":
                inner = printed(value, indent + _INDENT)
                lines.append(f"{indent}{name} {{\n{inner}{indent}}}\n")
            else:
                lines.append(f"{indent}{name}: {_scalar(field, value)}\n")
    return "".join(lines)


def _scalar(field: FieldType, value: Any) -> str:
    if field.kind in {"string", "bytes"}:
        return f'"{_ESCAPED.sub(_escape, value)}"'
    if field.kind == "bool":
        return "true" if value else "false"
    if field.kind in {"float", "double"}:
        return repr(float(value))  # the shortest text that reads back as the same number
    return str(value)


def _escape(match: re.Match[str]) -> str:
    return _SHORT.get(match[0]) or f"\\{ord(match[0]):03o}"
