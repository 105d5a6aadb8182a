"""Where the fields of a message are, in the form that compiled code reads: ``ENTER.side`` is a number there.

Offsets come from the messages' own tables (:mod:`exchange.wire.ouch50`), so a field is written down once. They are put
into a NamedTuple at import; a kernel that names one finds a constant in its place.

``appendage_length`` is where a message without options ends, whether or not it then says that it has none."""

from collections import namedtuple
from typing import Any

from exchange.wire.layout import Message


def offsets_of(message: type[Message]) -> Any:
    """A NamedTuple with the offset of each field of a message, and its ``type_byte``."""
    layout = message.layout
    offsets = {field.name: field.offset for field in layout.fields} | {"type_byte": layout.type_byte}
    return namedtuple(f"{message.__name__}Offsets", offsets)(**offsets)
