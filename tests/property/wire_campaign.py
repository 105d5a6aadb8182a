"""Throw random and mutated bytes at every wire parser: nothing but a message or a WireError may come out.

The tests run a small part of it. The long version is a command::

    python -m tests.property.wire_campaign --strings 1000000

which gives each parser so many strings and prints, for each, how many were messages, the slowest call, and by how much
the process grew. A parser is a message table's ``decode``, with ``check`` behind it, or the packet splitter, fed in
pieces, with the compiled framing beside it; or the datagrams of the feed, with the compiled check beside it, and a
subscriber behind them whose book takes whatever it is given. Equal seeds give equal strings.
"""

import argparse
import random
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from exchange.market_data.feed_book import FeedBook
from exchange.market_data.subscriber import Subscriber
from exchange.native import address_of
from exchange.wire import glimpse, itch50, ouch42, ouch50, soupbintcp, soupbinudp
from exchange.wire.fields import WireError
from exchange.wire.layout import MessageTable
from exchange.wire.moldudp64 import Packet, Request, check_datagram, decode_packet, encode_packet
from exchange.wire.soupbintcp import PacketSplitter
from exchange.wire.soupbintcp_kernel import PLACE_DTYPE, PacketRuleTable, Trouble, find_packets
from tests.wire_messages import mutated, random_message

PAGE_BYTES = 4096
GROWTH_BYTES_MAX = 16 << 20
"""What the process may grow by after the first tenth: caches of the interpreter, no more."""
CALL_SECONDS_MAX = 2.0
"""No call takes longer, in processor time, which a busy machine does not lengthen."""

TABLES: dict[str, MessageTable] = {
    table.protocol: table
    for table in (
        soupbintcp.CLIENT_PACKETS,
        soupbintcp.SERVER_PACKETS,
        soupbinudp.CLIENT_DATAGRAMS,
        soupbinudp.SERVER_DATAGRAMS,
        ouch50.INBOUND_MESSAGES,
        ouch50.OUTBOUND_MESSAGES,
        ouch42.INBOUND_MESSAGES,
        ouch42.OUTBOUND_MESSAGES,
        itch50.MESSAGES,
        glimpse.MESSAGES,
    )
}

Parser = Callable[[bytes, random.Random], int]
"""Takes a string, returns how many messages it was; raises WireError for what is none."""


class Tally(NamedTuple):
    """What a campaign against one parser showed."""

    strings: int
    messages: int
    refused: int
    slowest_ns: int
    grown_bytes: int

    def __str__(self) -> str:
        return (
            f"{self.strings:>9,} strings, {self.messages:>9,} messages, {self.refused:>9,} refused, "
            f"slowest {self.slowest_ns / 1e6:6.2f} ms, grown {self.grown_bytes / 1024:+,.0f} KiB"
        )


def table_parser(table: MessageTable) -> Parser:
    """Decode; what is a message must encode to the same message again, and be checked without another error."""

    def parse(data: bytes, chance: random.Random) -> int:
        message = table.decode(data)
        again = message.encode()
        assert table.decode(again) == message
        # Numbers and names in ASCII may be padded on either side, and are written in one way.
        if not table.protocol.startswith(("SoupBin", "GLIMPSE")):
            assert again == data
        message.check()
        return 1

    return parse


def splitter_parser(table: MessageTable) -> Parser:
    """Cut the string in pieces, join what the splitter makes of them, and compare with the compiled framing."""
    rules = PacketRuleTable(table, 400)
    places = np.zeros(1000, PLACE_DTYPE)

    def parse(data: bytes, chance: random.Random) -> int:
        splitter = PacketSplitter(table, 400)
        packets: list[bytes] = []
        begin = 0
        while begin < len(data):
            end = begin + chance.randint(1, 40)
            packets += splitter.feed(data[begin:end])
            begin = end
            assert splitter.pending_bytes < 402
        received = np.frombuffer(data or b"\0", np.uint8)
        count, consumed, trouble = find_packets(
            address_of(received), len(data), rules.state, address_of(places), len(places)
        )
        assert consumed == sum(map(len, packets))
        assert (trouble == Trouble.NONE) == (splitter.garbage is None)
        found = [data[offset : offset + length] for offset, length in places[:count].tolist()]
        assert found == packets
        if splitter.garbage is not None:
            raise splitter.garbage
        return len(packets)

    return parse


def datagram_of(data: bytes, chance: random.Random) -> bytes:
    """A datagram with the string and some of its parts as messages, or one that was damaged, or the string itself."""
    parts = [data[: chance.randrange(len(data) + 1)] for _ in range(chance.randrange(3))]
    first = chance.choice([1, 1, 1, chance.randrange(1, 9)])
    datagram = encode_packet(Packet("FUZZ", first, (data, *parts)))
    return chance.choice([datagram, mutated(chance, datagram), data])


def datagram_parser(data: bytes, chance: random.Random) -> int:
    """Take a datagram apart in Python; the compiled check must be of the same opinion."""
    datagram = datagram_of(data, chance)
    block = np.frombuffer(datagram + b"\0", np.uint8)
    found = check_datagram(address_of(block), len(datagram))
    if len(datagram) == Request.layout.size_bytes and datagram[:10].isascii():
        Request.decode(datagram)
    packet = decode_packet(datagram)
    assert len(packet.messages) == found
    assert encode_packet(packet)[10:] == datagram[10:]
    return 1


def feed_parser() -> Parser:
    """Receive datagrams; the subscriber and its book must take anything."""
    subscriber = Subscriber(lambda: FeedBook(capacity_orders=100, capacity_symbols=10), "FUZZ")

    def parse(data: bytes, chance: random.Random) -> int:
        before = subscriber.book.counts().messages
        subscriber.receive(datagram_of(data, chance), now_ns=0)
        subscriber.next_sequence = 1
        taken = subscriber.book.counts().messages - before
        if taken == 0:
            raise WireError("nothing in it was a message")
        return taken

    return parse


PARSERS: dict[str, tuple[MessageTable, Parser]] = (
    {name: (table, table_parser(table)) for name, table in TABLES.items()}
    | {
        f"{name}, framing": (table, splitter_parser(table))
        for name, table in TABLES.items()
        if name.startswith("SoupBinTCP")
    }
    | {"MoldUDP64": (itch50.MESSAGES, datagram_parser), "feed": (itch50.MESSAGES, feed_parser())}
)


def strings(chance: random.Random, table: MessageTable, *, joined: bool) -> bytes:
    """The next string: a message, several, a changed one, or noise that may begin like one."""
    classes = list(table.values())
    data = random_message(chance, chance.choice(classes)).encode()
    if joined:
        data += b"".join(
            random_message(chance, chance.choice(classes)).encode() for _ in range(chance.randrange(4))
        )
    fate = chance.random()
    if fate < 0.1:
        return data
    if fate < 0.8:
        return mutated(chance, data)
    noise = chance.randbytes(chance.choice([0, 1, 2, 3, 20, len(data), 300]))
    return noise if fate < 0.9 else data[:3] + noise


def attack(name: str, count: int, seed: int) -> Tally:
    """Give one parser ``count`` strings. Raises whatever it raises that is no WireError; AssertionError if it grows."""
    table, parse = PARSERS[name]
    chance = random.Random(f"{name} {seed}")
    messages = refused = slowest_ns = lines = 0
    for message_class in table.values():  # what compiles does so before a clock is looked at
        with suppress(WireError):
            parse(random_message(chance, message_class).encode(), chance)
    settled_bytes = resident_bytes()
    for number in range(count):
        if number == count // 10:
            settled_bytes = resident_bytes()
        data = strings(chance, table, joined="framing" in name)
        begin_ns = time.thread_time_ns()
        try:
            messages += parse(data, chance)
        except WireError as error:
            refused += 1
            lines = max(lines, len(str(error).splitlines()))
        slowest_ns = max(slowest_ns, time.thread_time_ns() - begin_ns)
    grown_bytes = resident_bytes() - settled_bytes
    assert lines <= 1, f"{name}: an error of {lines} lines"
    assert grown_bytes < GROWTH_BYTES_MAX, f"{name}: grown by {grown_bytes:,} bytes"
    assert slowest_ns < CALL_SECONDS_MAX * 1e9, f"{name}: a call took {slowest_ns / 1e9:.1f} s"
    return Tally(count, messages, refused, slowest_ns, grown_bytes)


def resident_bytes() -> int:
    """How much memory the process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


def main() -> None:
    """Read the options, run, print a line for each parser."""
    parser = argparse.ArgumentParser(prog="python -m tests.property.wire_campaign", description=__doc__)
    parser.add_argument("--strings", type=int, default=1_000_000, help="how many for each parser")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--parser", choices=sorted(PARSERS), action="append", help="only this one; may be repeated"
    )
    options = parser.parse_args()
    for name in options.parser or PARSERS:
        started = time.monotonic()
        tally = attack(name, options.strings, options.seed)
        print(f"{name:28} {tally}, {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
