"""A client on a card that may be killed at any moment, and goes on where it was when it is started again.

It places orders with numbers from 1 on until there are enough. Before an order is sent its number is in a file, and
every message of its session is in another before anything is made of it. So whoever starts it again in the same folder
has it log on with the number of the first message that it has not got, and send again the orders that no message has
answered: OUCH ignores the numbers that were taken.

Its lines on standard output: ``resumed N`` with the number of messages that it knew, ``answers N`` now and then, and
``done``::

    python -m tests.system.remembering_client FOLDER DEVICE ADDRESS ORDERS
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import Final

from exchange.card_line import ClientCard
from exchange.line import Line
from exchange.wire.ouch50 import (
    OUTBOUND_MESSAGES,
    CrossType,
    Display,
    EnterOrder,
    OrderAccepted,
    TimeInForce,
)
from exchange.wire.ouch_codes import Capacity, Side, YesOrNo
from exchange.wire.soupbintcp import SERVER_PACKETS, SequencedData, UnsequencedData
from exchange.wire.soupbinudp import LoginAccepted
from tests.system.test_serve_command import PASSWORD

NAME: Final = "alice"
SAID_EVERY: Final = 50
UNANSWERED_MAX: Final = 40
EXCHANGE: Final = ("10.0.0.1", 9005)


def order(number: int) -> bytes:
    """The packet of the order with a number: always the same, and every other pair trades."""
    side = Side.BUY if number % 2 else Side.SELL
    price = 100_0000 + (100 if number % 4 < 2 else 0) * (1 if side is Side.SELL else -1)
    message = EnterOrder(
        number, side, 10 + number % 7, "AAPL", price, TimeInForce.DAY, Display.VISIBLE, Capacity.PRINCIPAL,
        YesOrNo.NO, CrossType.CONTINUOUS, "",
    )  # fmt: skip
    return UnsequencedData(message.encode()).encode()


class Memory:
    """What outlives the process: messages, each behind its length, and a byte for each order."""

    def __init__(self, folder: Path) -> None:
        self.messages: Final = read_messages(folder)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._messages: Final = os.open(folder / "messages", flags)
        self._orders: Final = os.open(folder / "orders", flags)
        self.orders = os.fstat(self._orders).st_size

    def keep(self, message: bytes) -> None:
        """Write a message down."""
        os.write(self._messages, len(message).to_bytes(2, "big") + message)
        self.messages.append(message)

    def take_number(self) -> int:
        """The next order's number, which is written down."""
        os.write(self._orders, b".")
        self.orders += 1
        return self.orders


def read_messages(folder: Path) -> list[bytes]:
    """The messages that a client in a folder has got."""
    path, found, at = folder / "messages", [], 0
    data = path.read_bytes() if path.exists() else b""
    while at < len(data):
        size = int.from_bytes(data[at : at + 2], "big")
        found.append(data[at + 2 : at + 2 + size])
        at += 2 + size
    return found


def accepted_number(message: bytes) -> int | None:
    """The number of the order that a message accepts."""
    decoded = OUTBOUND_MESSAGES.decode(message)
    return decoded.user_reference_number if isinstance(decoded, OrderAccepted) else None


async def trade(line: Line, memory: Memory, orders: int) -> None:
    """Place what is left, and listen until all has been answered."""
    accepted = {accepted_number(message) for message in memory.messages}
    unanswered = {number for number in range(1, memory.orders + 1) if number not in accepted}
    for number in sorted(unanswered):
        await line.send(order(number))
    while memory.orders < orders or unanswered:
        while memory.orders < orders and len(unanswered) < UNANSWERED_MAX:
            number = memory.take_number()
            unanswered.add(number)
            await line.send(order(number))
        packets = await line.receive()
        assert packets, "the line is lost"
        for packet in packets:
            decoded = SERVER_PACKETS.decode(packet)
            if isinstance(decoded, SequencedData):
                memory.keep(decoded.message)
                unanswered.discard(accepted_number(decoded.message) or 0)
                if len(memory.messages) % SAID_EVERY == 0:
                    print("answers", len(memory.messages), flush=True)


async def main(folder: Path, device: str, address: str, orders: int) -> None:
    """Go on until all orders are answered."""
    memory = Memory(folder)
    async with ClientCard(device, address) as card:
        line = await card.open(*EXCHANGE)
        answer = await line.log_on(NAME, PASSWORD, "", len(memory.messages) + 1)
        assert isinstance(answer, LoginAccepted), answer
        assert answer.sequence_number == len(memory.messages) + 1, answer
        print("resumed", len(memory.messages), flush=True)
        await trade(line, memory, orders)
        await line.close(logout=True)
    print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])))
