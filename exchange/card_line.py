"""A client's lines over a card that is polled: what a socket of asyncio is to a line over UDP, without a kernel.

One card carries the lines of many clients (:class:`ClientCard`). Each is a
:class:`~exchange.datagram_line.DatagramLine` as over a socket; all have the same address, and each takes of what comes
what has its number and token. A task of the event loop polls the card: without pause as long as something comes,
otherwise every :data:`LOOK_SECONDS`.

**A restarted exchange.** When the link is down, all lines are broken at once, and nobody waits until the silence is
long enough. Whoever opens a line then has the link mended, and asks by ARP anew where the exchange is: the one that
comes back may have another card. A device without such a link (a cable that stays up) has silence, as over UDP.

Rules: one event loop; lines are closed before the card. A process opens one card.
"""

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from exchange.datagram_line import DatagramLine
from exchange.datagrams.frames import ask
from exchange.datagrams.neighbours import answer_about, forget_answer, number_of, peer_of
from exchange.datagrams.port import PortByHand

if TYPE_CHECKING:
    from exchange.afxdp.card import AfxdpCard
    from exchange.dpdk.opened import OpenedCard

CARDS: Final = ("afxdp", "dpdk")
"""The transports whose sessions share a card."""
DPDK_DEVICE: Final = "net_memif0,role=client,socket=exchange"
"""The other end of what an exchange on DPDK serves if nothing else is said."""
CLIENT_PORT: Final = 40_000
"""The UDP port of all sessions that share a card: their numbers and tokens tell them apart."""
LINK_SECONDS: Final = 10.0
"""How long somebody at the other end is waited for when the card is opened."""
LOOK_SECONDS: Final = 0.0005
LOOK_AT_LINK_SECONDS: Final = 0.02
ASK_AGAIN_SECONDS: Final = 0.1
BURST_DATAGRAMS: Final = 64
"""After so many others have their turn in the event loop."""


def open_card(
    transport: str, device: str, address: str, *, huge_pages: bool = False, patience_s: float = 0.0
) -> "AfxdpCard | OpenedCard":
    """A card of a client's or a load's.

    Args:
        transport: one of :data:`CARDS`.
        device: a device as DPDK writes it, or the kernel's name of an interface.
        address: our IPv4 address.
        huge_pages: DPDK takes the memory for packets from huge pages.
        patience_s: wait at least so long for somebody at the other end.

    Raises:
        UserError: a library is not installed, the device cannot be had, or nobody is at its other end.
    """
    table = f"--transport {transport}"
    if transport == "afxdp":
        from exchange.afxdp.card import AfxdpCard

        return AfxdpCard(device, 0, address, CLIENT_PORT, table=table)
    from exchange.dpdk.eal import EalConfig
    from exchange.dpdk.opened import OpenedCard

    eal, link_s = EalConfig((device,), huge_pages=huge_pages), max(LINK_SECONDS, patience_s)
    return OpenedCard(eal, address, CLIENT_PORT, link_timeout_s=link_s, table=table)


class ClientCard:
    """A card, opened for the lines of clients; an asynchronous context that polls it.

    Args and errors are those of :func:`open_card`.
    """

    def __init__(self, device: str, address: str, transport: str = "dpdk") -> None:
        self._card: Final = open_card(transport, device, address)
        self._by_hand: Final = PortByHand(self._card.state)
        self._ends: Final[set[_LineEnd]] = set()
        self._polling: asyncio.Task[None] | None = None
        self._is_up = True
        self._asking: Final = asyncio.Lock()

    async def __aenter__(self) -> Self:
        self._polling = asyncio.create_task(self._poll())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._polling is not None
        self._polling.cancel()
        with suppress(asyncio.CancelledError):
            await self._polling
        self._card.close()

    async def open(self, host: str, port: int) -> DatagramLine:
        """A line to an exchange's card, on which nobody has logged on; the caller bounds the time.

        Raises:
            UserError: ``host`` is not a numeric IPv4 address.
            ConnectionResetError: the link went down meanwhile.
        """
        address = number_of(host, "HOST")
        while not self._note_link(self._card.mend()):
            await asyncio.sleep(LOOK_AT_LINK_SECONDS)
        while (mac := await self._ask(address)) is None:
            pass
        line = DatagramLine()
        line.connection_made(_LineEnd(self, line, peer_of(address, port, mac)))
        return line

    async def _ask(self, address: int) -> int | None:
        """Ask once by ARP who has an address, and wait a moment for the answer. The card keeps the last answer only.

        Whoever asks for another address has its turn in between, for nobody may ever answer this one.
        """
        state = self._card.state
        async with self._asking:
            forget_answer(state)
            self._check_polling()
            if not self._is_up:
                raise ConnectionResetError("the link is down")
            ask(state, address)
            with suppress(TimeoutError):
                async with asyncio.timeout(ASK_AGAIN_SECONDS):
                    while answer_about(state, address) is None:
                        await asyncio.sleep(LOOK_SECONDS)
            return answer_about(state, address)

    def _note_link(self, is_up: bool) -> bool:
        """A card without a link may be stopped, so nobody touches it; and no line outlives its link."""
        self._is_up = is_up
        if not is_up:
            for end in tuple(self._ends):
                end.abort()
        return is_up

    def _check_polling(self) -> None:
        """Raise what the polling task has failed with."""
        if self._polling is not None and self._polling.done():
            self._polling.result()

    async def _poll(self) -> None:
        loop = asyncio.get_running_loop()
        look_at_link = 0.0
        while True:
            if loop.time() >= look_at_link:
                look_at_link = loop.time() + LOOK_AT_LINK_SECONDS
                self._note_link(self._card.is_link_up)
            count = 0
            while (
                self._is_up and count < BURST_DATAGRAMS and (received := self._by_hand.receive()) is not None
            ):
                count += 1
                for end in tuple(self._ends):
                    end.line.datagram_received(received[1], None)
            await asyncio.sleep(0 if count else LOOK_SECONDS)


class _LineEnd(asyncio.DatagramTransport):
    """What a line sends to: the card, for one peer."""

    def __init__(self, card: ClientCard, line: DatagramLine, peer: bytes) -> None:
        super().__init__()
        self.line: Final = line
        self._card: Final = card
        self._peer: Final = peer
        card._ends.add(self)

    def sendto(self, data: Any, addr: Any = None) -> None:
        """Send a datagram; one that finds no room is lost."""
        if not self.is_closing():
            self._card._by_hand.send(self._peer, bytes(data))

    def is_closing(self) -> bool:
        """Whether the line has it no more."""
        return self not in self._card._ends

    def close(self) -> None:
        """Take no more datagrams."""
        if not self.is_closing():
            self._card._ends.discard(self)
            self.line.connection_lost(None)

    def abort(self) -> None:
        """The same: nothing waits here to be sent."""
        self.close()
