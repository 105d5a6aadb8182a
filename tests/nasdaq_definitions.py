"""OUCH for NASDAQ's own Python library, which makes its message classes from an XML file and ships none.

Our tables say what the fields are; the library's generator and its own codecs do the rest. An appendage becomes a list
of bytes with a 2-byte count in front; fields that may be absent are left out.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

from exchange.wire.fields import Character, Signed, Text, Unsigned
from exchange.wire.layout import Field, MessageTable
from exchange.wire.ouch50_options import Appendage

UNSIGNED_TYPES = {1: "byte", 2: "uint_2_be", 4: "uint_4_be", 8: "uint_8_be"}


def definitions_xml(inbound: MessageTable, outbound: MessageTable) -> str:
    """The definitions of both directions. The library takes the exchange's side: what it sends is ``outgoing``."""
    root = ElementTree.Element("root")
    messages = ElementTree.SubElement(root, "messages-root")
    for table, direction in ((inbound, "incoming"), (outbound, "outgoing")):
        for letter, cls in table.items():
            element = ElementTree.SubElement(
                messages, "message", {"id": cls.__name__, "message-id": letter, "direction": direction}
            )
            fields = ElementTree.SubElement(element, "fields")
            for field in cls.layout.fields:
                if not field.derived and not field.optional:
                    ElementTree.SubElement(fields, "field", {"name": field.name} | _type_of(field))
    return ElementTree.tostring(root, encoding="unicode")


def _type_of(field: Field) -> dict[str, str]:
    match field.kind:
        case Unsigned(size_bytes=size):
            return {"type": UNSIGNED_TYPES[size]}
        case Signed():
            return {"type": "int_4_be"}
        case Character():
            return {"type": "char_ascii"}
        case Text(size_bytes=size):
            return {"type": "str_ascii_n", "length": str(size)}
        case Appendage():
            return {"type": "byte", "array": "single", "length_type": "uint_2_be"}
    raise TypeError(f"the library has no type for {field.kind!r}")


def load_messages(folder: Path, app_name: str, inbound: MessageTable, outbound: MessageTable) -> ModuleType:
    """Let the library write its module into ``folder``, and import it. Its classes are called like ours."""
    from nasdaq_protocols.common.message import Generator, Parser

    specification = folder / f"{app_name}.xml"
    specification.write_text(definitions_xml(inbound, outbound))
    generator = Generator(
        Parser.parse(str(specification)), "ouch", app_name, str(folder), "message_soup_app.mustache"
    )
    (path,) = generator.generate(extra_context={"record_type": "Record"})
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
