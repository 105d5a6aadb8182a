"""A card opened for a transport or a load: EAL and the device together, as the owner of a port.

Rules: once in a process, for EAL can be started once. The threads that poll have ended before :meth:`OpenedCard.close`.
"""

import logging
from typing import Final

from exchange.datagrams.neighbours import RESOLVE_SECONDS, find_peer, number_of
from exchange.dpdk.device import DESCRIPTORS, WIRE_SECONDS, DpdkDevice
from exchange.dpdk.eal import EalConfig, start_eal
from exchange.dpdk.port import DpdkPort
from exchange.errors import UserError
from exchange.ethernet import format_mac
from exchange.limits import PORT_MAX
from exchange.logs import log_event

_BUFFERS_OF_QUEUE: Final = 2 * DESCRIPTORS
"""What a receiving queue and the sending queue beside it hold."""
_BUFFERS: Final = 6 * 1024
"""What threads hold, and as many again."""


class OpenedCard:
    """See :class:`exchange.datagrams.port.Card`.

    Args:
        config: what EAL is started with; its first device is opened.
        address: our IPv4 address, as text.
        udp_port: our UDP port.
        queues: receiving queues, for as many threads.
        link_timeout_s: how long to wait for somebody at the other end; 0 does not, and waits for a cable only.
        table: the table of the profile, or the command, that all this is from, for errors.

    Raises:
        UserError: DPDK is not installed, or a value is not allowed, or the device cannot be had.
    """

    def __init__(
        self,
        config: EalConfig,
        address: str,
        udp_port: int,
        *,
        queues: int = 1,
        link_timeout_s: float = 0.0,
        table: str = "transport",
    ) -> None:
        self._table: Final = table
        self._address: Final = (address, udp_port)
        number = number_of(address, f"{table}.card_address")
        if udp_port == 0:
            raise UserError(
                f"{table}.port = 0: nobody hands out ports on a card; allowed are 1 to {PORT_MAX}"
            )
        eal = start_eal(config, table)
        self._device: Final = DpdkDevice(
            eal,
            number,
            udp_port,
            queues=queues,
            buffers=_BUFFERS + queues * _BUFFERS_OF_QUEUE - 1,
            link_timeout_s=link_timeout_s,
            table=table,
        )
        self._log()

    def _log(self) -> None:
        """Say which card it is and where its packets lie: on another node than the card they take the longer way."""
        card, buffers_node = self._device, self._device.buffers_node()
        is_far = card.numa_node >= 0 and buffers_node not in (-1, card.numa_node)
        log_event(
            "card opened",
            level=logging.WARNING if is_far else logging.INFO,
            device=card.name,
            mac=format_mac(card.mac),
            numa_node=card.numa_node,
            buffers_numa_node=buffers_node,
            link="up" if card.is_link_up else "down",
        )
        if card.has_wire and not card.is_link_up:
            log_event(
                "no link",
                level=logging.WARNING,
                device=card.name,
                waited_s=WIRE_SECONDS,
                remedy="its cable, and the card at the other end; once there is a link, it is used",
            )

    @property
    def state(self) -> DpdkPort:
        """What the operations take."""
        return self._device.port

    @property
    def queues(self) -> tuple[DpdkPort, ...]:
        """What the operations take, for each receiving queue."""
        return self._device.ports

    @property
    def address(self) -> tuple[str, int]:
        """Where others find it: address and port."""
        return self._address

    def readiness(self) -> None:
        """Nobody says when a frame has come; one has to look."""

    def counters(self) -> dict[str, int]:
        """Frames by what they were, and what the driver counts."""
        return self._device.counters() | self._device.statistics()

    def find_peer(self, address: str, udp_port: int, timeout_s: float = RESOLVE_SECONDS) -> bytes:
        """The 16 bytes of somebody on the wire, of whom the address is known and the card is asked for.

        Raises:
            UserError: it is no address, or nobody has it.
        """
        return find_peer(self._device.port, address, udp_port, f"{self._table}.endpoint", timeout_s)

    @property
    def is_link_up(self) -> bool:
        """Whether there is somebody at the other end."""
        return self._device.is_link_up

    def mend(self) -> bool:
        """A step towards a link that was lost; see :meth:`exchange.dpdk.device.DpdkDevice.mend`."""
        return self._device.mend()

    def close(self) -> None:
        """Stop the card and give back its memory."""
        self._device.close()
