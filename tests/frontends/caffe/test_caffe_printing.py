"""Messages that are printed read back as they were."""

import math
import re
import struct

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from hypothesis import given, settings
from hypothesis import strategies as st

from dlaconv.frontends.caffe.message import Message
from dlaconv.frontends.caffe.printing import printed
from dlaconv.frontends.caffe.schema import UNREAD, caffe_schema
from dlaconv.frontends.caffe.text import parse_text

SCHEMA = caffe_schema()
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SCALARS = {
    "bool": st.booleans(),
    "int32": st.integers(-(1 << 31), (1 << 31) - 1),
    "int64": st.integers(-(1 << 63), (1 << 63) - 1),
    "uint32": st.integers(0, (1 << 32) - 1),
    "float": st.floats(),
    "double": st.floats(),
    "string": TEXTS,
    "bytes": TEXTS,
}


@st.composite
def messages(draw, kind, depth=3):
    message = Message(SCHEMA, kind)
    fields = message.kind.fields.values()
    optional = [item for item in fields if not item.required]
    chosen = draw(st.lists(st.sampled_from(optional), unique=True, max_size=5)) if optional else []
    for field in [*chosen, *(item for item in fields if item.required)]:
        count = draw(st.integers(1, 3)) if field.repeated else 1
        if field.kind == "message" and not depth and not field.required:
            continue
        for _ in range(count):
            if field.kind == "message":
                value = draw(messages(field.type_name, depth - 1))
            elif field.kind == "enum":
                value = draw(st.sampled_from(sorted(SCHEMA.enums[field.type_name])))
            else:
                value = draw(SCALARS[field.kind])
            message.put(field.name, value)
    return message


def content(message):
    """A message as nested lists; numbers by their bits, so that nan equals nan and 0 is not -0."""
    found = []
    for name in message.names():
        for value in message.values(name):
            if isinstance(value, Message):
                value = (value.kind.name, content(value))
            elif isinstance(value, float):
                value = "nan" if math.isnan(value) else struct.pack("<d", value)
            found.append((name, type(value), value))
    return found


TYPES = descriptor_pb2.FieldDescriptorProto.Type
LABELS = descriptor_pb2.FieldDescriptorProto.Label


def generated():
    """The schema's messages as protobuf's own library has them."""
    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe", syntax="proto2")
    made = {}
    for name, kind in SCHEMA.messages.items():
        made[name] = file.message_type.add(name=name)
        for field in kind.fields.values():
            label = "REPEATED" if field.repeated else "REQUIRED" if field.required else "OPTIONAL"
            item = made[name].field.add(name=field.name, number=field.number)
            item.label = LABELS.Value(f"LABEL_{label}")
            item.type = TYPES.Value(f"TYPE_{field.kind.upper()}")
            if field.type_name:
                item.type_name = f".caffe.{field.type_name}"
    for name, values in SCHEMA.enums.items():
        owner, _, own = name.rpartition(".")
        enum = (made[owner] if owner else file).enum_type.add(name=own)
        for value, number in values.items():
            enum.value.add(name=value, number=number)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"caffe.{name}"))
        for name in SCHEMA.messages
    }


GENERATED = generated()


def rounded(value):
    """A number as a field of float32 has it, by its bits."""
    if math.isnan(value):
        return "nan"
    try:
        return struct.pack("<f", value)
    except OverflowError:
        return struct.pack("<f", math.copysign(math.inf, value))


def as_protobuf_has_it(message):
    """`content` of a message, in protobuf's terms: by field, and in the types of its fields."""
    found = {}
    for name in message.names():
        field = message.kind.fields[name]
        values = message.values(name)
        if field.kind == "message":
            values = [as_protobuf_has_it(value) for value in values]
        elif field.kind == "enum":
            values = [SCHEMA.enums[field.type_name][value] for value in values]
        elif field.kind in {"float", "double"}:
            values = [rounded(value) for value in values]
        elif field.kind == "bytes":
            values = [value.encode() for value in values]
        found[name] = values
    return found


def content_of(parsed, message):
    found = {}
    for field, value in parsed.ListFields():
        kind = message.fields[field.name]
        values = list(value) if kind.repeated else [value]
        if kind.kind == "message":
            values = [content_of(item, SCHEMA.messages[kind.type_name]) for item in values]
        elif kind.kind in {"float", "double"}:
            values = [rounded(item) for item in values]
        found[field.name] = values
    return found


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_protobuf_reads_the_text_as_the_same_message(data):
    kinds = sorted(name for name in SCHEMA.messages if name != UNREAD)
    message = data.draw(messages(data.draw(st.sampled_from(kinds))))
    parsed = text_format.Parse(printed(message), GENERATED[message.kind.name]())
    assert content_of(parsed, message.kind) == as_protobuf_has_it(message)


def read_back(message):
    read, found = parse_text(printed(message), SCHEMA, message.kind.name, "net.prototxt")
    assert not list(found)
    return read


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_message_reads_back_as_it_was(data):
    kinds = sorted(name for name in SCHEMA.messages if name != UNREAD)
    message = data.draw(messages(data.draw(st.sampled_from(kinds))))
    assert content(read_back(message)) == content(message)


@given(st.floats(width=32, allow_nan=False))
def test_numbers_of_float32_read_back_exactly(value):
    message = Message(SCHEMA, "PrecisionParameter")
    message.put("th_layer_in", value)
    assert struct.pack("<f", read_back(message).number("th_layer_in")) == struct.pack("<f", value)


@pytest.mark.parametrize(
    "text", ['a"b', "back\\slash", "new\nline\r\ttab", "\x00\x1b\x7f", "é€😀", ""]
)
def test_strings_are_escaped(text):
    message = Message(SCHEMA, "NetParameter")
    message.put("name", text)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", printed(message))
    assert printed(message).count("\n") == 1
    assert read_back(message).text("name") == text


def test_text_is_indented_as_protobuf_does():
    text = """\
name: "net"
layer {
  name: "c"
  convolution_param {
    kernel_size: 3
    kernel_size: 5
    bias_term: false
    weight_filler {
      std: 0.01
    }
    engine: CUDNN
  }
}
"""
    net, _ = parse_text(text, SCHEMA, "NetParameter", "net.prototxt")
    assert printed(net) == text
