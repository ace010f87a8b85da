"""Messages that are wrong in every way that a field, a message or its bytes can be, as functions of a random source."""

import random
from collections.abc import Callable, Sequence
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

PLAUSIBLE: dict[str, tuple[Any, ...]] = {
    "dtype": (1, 2),
    "kind": ("", "dgmw", "dgma", "gan_memory"),
    "options.key": ("seed", "recipe", "network", "width", "noise", "base"),
    "options.value": ("1", "4", "fast", "auto", "dcgan", "residual"),
    "groups": ("scale", "shift", "bias"),
    "weights": (0.0, 0.5, 1.0),
    "text": ("cat", "dog"),
    "integer": (0, 1, 2, 3),
    "height": (0, 8),
    "width": (0, 8),
    "size": (4 << 20,),
}
"""Values that are right for a field, by its name."""

SHAPES = ((1, 8, 8), (3, 32, 32), (5,))

TEXTS = (
    *("", "\0", "../t0", "a" * 101, "ä" * 300, "\u202e\ufffd", "-1", "²", "٣", "9" * 5000, "1e9", "nan", " "),
    *("%s%n{0}", "' OR 1=1 --", "x" * 20_000),
)
INTEGERS = (0, 1, 2, 7, 8, 64, 255, 256, 65_536, 65_537, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**64 - 1)
NUMBERS = (0.0, -0.0, 0.5, 1.0, -1.0, 1e-300, 1e300, float("nan"), float("inf"), float("-inf"))
MANY = 2000
"""Values of a repeated field, now and then."""

_F = FieldDescriptor
_BITS = {_F.TYPE_INT32: 31, _F.TYPE_SINT32: 31, _F.TYPE_INT64: 63, _F.TYPE_SINT64: 63, _F.TYPE_UINT32: 32}


class Hostile:
    """Makes messages; the same ones from the same source.

    Arguments:
        source: of all that is random.
        names: of memories and tasks that there are, so that some messages come further than others.
    """

    def __init__(self, source: random.Random, names: Sequence[str] = ()) -> None:
        self._source = source
        self._names = tuple(names) or ("m",)
        self._wrongness = 0.0

    def message(self, descriptor: Descriptor) -> Message:
        """A message of a type, in which few, some or all of the fields are wrong."""
        self._wrongness = self._source.choice((0.02, 0.02, 0.1, 0.5))
        return self._message(descriptor)

    def payload(self, descriptor: Descriptor) -> bytes:
        """The bytes of such a message as they are, cut, flipped, joined, boasting, nested too deep, or other bytes."""
        content = self.message(descriptor).SerializeToString()
        return self._source.choice(_MANGLINGS)(self._source, content)

    def _message(self, descriptor: Descriptor) -> Message:
        built = GetMessageClass(descriptor)()
        for field in descriptor.fields:
            if self._source.random() < 0.85:
                self._fill(built, field)
        return built

    def _fill(self, built: Message, field: FieldDescriptor) -> None:
        value = getattr(built, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            key, _ = field.message_type.fields
            value[self._value(key, f"{field.name}.key")] = self._value(key, f"{field.name}.value")
        elif field.is_repeated:
            value.extend(self._values(field))
        elif field.message_type is not None:
            value.CopyFrom(self._message(field.message_type))
        else:
            setattr(built, field.name, self._value(field, field.name))

    def _values(self, field: FieldDescriptor) -> Sequence[Any]:
        if field.name == "shape" and not self._wrong():
            return self._source.choice(SHAPES)
        count = MANY if self._source.random() < 0.02 else self._source.randrange(4)
        return [self._value(field, field.name) for _ in range(count)]

    def _value(self, field: FieldDescriptor, name: str) -> Any:
        """One value of a field that goes by a name of its own where it is of a map."""
        if field.message_type is not None:
            return self._message(field.message_type)
        if self._wrong() or field.type == _F.TYPE_BYTES:
            return self._edge(field)
        if field.type == _F.TYPE_STRING:
            return self._source.choice(PLAUSIBLE.get(name, self._names))
        return self._source.choice(PLAUSIBLE.get(name, (1, 2)))

    def _edge(self, field: FieldDescriptor) -> Any:
        """A value at the edge of what the field can hold, and often beyond what it should."""
        if field.type == _F.TYPE_STRING:
            return self._source.choice(TEXTS)
        if field.type == _F.TYPE_BYTES:
            return self._source.randbytes(self._source.choice((0, 1, 4, 8, 16, 64, 256, 4096)))
        if field.type == _F.TYPE_DOUBLE:
            return self._source.choice(NUMBERS)
        if field.type == _F.TYPE_BOOL:
            return self._source.random() < 0.5
        if field.type == _F.TYPE_ENUM:
            return self._source.choice((0, 1, 2, 3, 9, 2**31 - 1, -1))
        bits = _BITS.get(field.type, 64)
        value = self._source.choice(INTEGERS) & ((1 << bits) - 1)
        return -value - 1 if bits in (31, 63) and self._source.random() < 0.3 else value

    def _wrong(self) -> bool:
        return self._source.random() < self._wrongness


def _cut(source: random.Random, content: bytes) -> bytes:
    return content[: source.randrange(len(content) + 1)]


def _flipped(source: random.Random, content: bytes) -> bytes:
    changed = bytearray(content or b"\0")
    for _ in range(source.randrange(1, 9)):
        changed[source.randrange(len(changed))] ^= 1 << source.randrange(8)
    return bytes(changed)


def _joined(source: random.Random, content: bytes) -> bytes:
    at = source.randrange(len(content) + 1)
    return content[:at] + source.randbytes(source.randrange(64)) + content[at:]


def _boasting(source: random.Random, content: bytes) -> bytes:
    """A field that says to be far longer than what follows."""
    return content + bytes([source.randrange(1, 16) << 3 | 2]) + b"\xff\xff\xff\xff\x0f"


def _nested(source: random.Random, content: bytes) -> bytes:
    """Groups that are opened and never closed, deeper than any parser goes."""
    return bytes([source.randrange(1, 16) << 3 | 3]) * source.choice((1, 99, 10_000)) + content


def _other(source: random.Random, _: bytes) -> bytes:
    return source.randbytes(source.choice((1, 16, 256, 4096)))


_AS_IT_IS: Callable[[random.Random, bytes], bytes] = lambda _, content: content  # noqa: E731
_MANGLINGS = (*[_AS_IT_IS] * 6, _cut, _flipped, _joined, _boasting, _nested, _other)
