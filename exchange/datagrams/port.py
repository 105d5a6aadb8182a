"""Who owns a port, and a port used by hand.

An owner (:class:`Port`) makes what the operations of :mod:`~exchange.datagrams.protocol` take and holds what that
needs. Once the threads that use a port have ended, or before they begin, :class:`PortByHand` sends and receives single
datagrams from plain Python: to log on, and to say goodbye.
"""

from typing import Any, Final, Protocol

import numpy as np

from exchange.datagrams.neighbours import RESOLVE_SECONDS
from exchange.datagrams.protocol import attend, receive_many, send_many
from exchange.native import VECTOR_BYTES, address_of, kernel, view_bytes, write_vector
from exchange.native.datagram_headers import (
    MESSAGE_HEADER_BYTES,
    SIZE_BYTES,
    SOCKET_ADDRESS_BYTES,
    write_message_header,
)

DATAGRAM_BYTES_MAX: Final = 2048
"""More than any datagram of ours has; what is longer is cut."""


class Port(Protocol):
    """The owner of a port.

    Attributes:
        state: what the operations take.
        queues: the same for each of its receiving queues, of which each is for a thread of its own; the first is
            ``state``, and the only one that is sent to and attended.
        address: where others find it: address and port.
    """

    @property
    def state(self) -> Any:
        """What the operations take."""

    @property
    def queues(self) -> tuple[Any, ...]:
        """What the operations take, for each receiving queue."""

    @property
    def address(self) -> tuple[str, int]:
        """Where others find it: address and port."""

    def readiness(self) -> int | None:
        """A descriptor that is readable when something has come; None if there is none, and one has to look."""

    def find_peer(self, address: str, udp_port: int) -> bytes:
        """The 16 bytes of somebody with a numeric IPv4 address, to send to. UserError if it is none, or nobody's."""

    def counters(self) -> dict[str, int]:
        """What it has counted since its start, by name."""

    def close(self) -> None:
        """Give it up. Nobody may use the state any more."""


class Card(Port, Protocol):
    """The owner of a port that hangs on a wire, or on what stands for one."""

    @property
    def is_link_up(self) -> bool:
        """Whether there is somebody at the other end, as far as the device can tell."""

    def mend(self) -> bool:
        """A step towards a link that was lost, without waiting; whether it is up. Nobody polls meanwhile."""

    def find_peer(self, address: str, udp_port: int, timeout_s: float = RESOLVE_SECONDS) -> bytes:
        """As of :class:`Port`; the wire is asked for so long."""


class PortByHand:
    """Single datagrams through a port that no thread is using."""

    def __init__(self, state: Any) -> None:
        self._state: Final = state
        self._memory: Final = np.zeros(
            MESSAGE_HEADER_BYTES + VECTOR_BYTES + SOCKET_ADDRESS_BYTES + DATAGRAM_BYTES_MAX, np.uint8
        )
        self._header: Final = address_of(self._memory)
        self._vector: Final = self._header + MESSAGE_HEADER_BYTES
        self._peer: Final = self._vector + VECTOR_BYTES
        self._data: Final = self._peer + SOCKET_ADDRESS_BYTES
        write_message_header(self._header, self._peer, self._vector)
        # Compiled here, where nobody waits yet: it may take longer than the other side lets us have for an answer.
        _send(state, self._header, 0)
        _receive(state, self._header, 0)

    def send(self, peer: bytes, data: bytes) -> bool:
        """Send a datagram to the peer of 16 bytes; False if it was not taken, as if it were lost."""
        view_bytes(self._peer, SOCKET_ADDRESS_BYTES)[:] = peer
        view_bytes(self._data, len(data))[:] = data
        write_vector(self._vector, self._data, len(data))
        return bool(_send(self._state, self._header, 1) == 1)

    def receive(self) -> tuple[bytes, bytes] | None:
        """A datagram that has come: its peer of 16 bytes, and what it says. None if there is none."""
        write_vector(self._vector, self._data, DATAGRAM_BYTES_MAX)
        if _receive(self._state, self._header, 1) < 1:
            return None
        size = int(self._memory[SIZE_BYTES : SIZE_BYTES + 4].view(np.uint32)[0])
        return bytes(view_bytes(self._peer, SOCKET_ADDRESS_BYTES)), bytes(
            view_bytes(self._data, size)
        ) if size else b""


@kernel
def _send(port: Any, header: int, count: int) -> int:
    """Send ``count`` datagrams; with none, nothing at all is done."""
    if count == 0:
        return 0
    attend(port)
    return send_many(port, header, count)


@kernel
def _receive(port: Any, header: int, count: int) -> int:
    """Receive up to ``count`` datagrams; with none, nothing at all is done."""
    if count == 0:
        return 0
    attend(port)
    return receive_many(port, header, count)
