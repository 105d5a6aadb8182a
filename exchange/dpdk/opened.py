"""A card opened for a transport or a load: EAL and the device together, as the owner of a port.

Rules: once in a process, for EAL can be started once. The threads that poll have ended before :meth:`OpenedCard.close`.
"""

import ipaddress
from typing import Final

from exchange.dpdk.device import DpdkDevice
from exchange.dpdk.eal import EalConfig, start_eal
from exchange.dpdk.neighbours import peer_of, resolve
from exchange.dpdk.port import DpdkPort
from exchange.errors import UserError
from exchange.limits import PORT_MAX

RESOLVE_SECONDS: Final = 5.0


class OpenedCard:
    """See :class:`exchange.datagrams.port.Port`.

    Args:
        config: what EAL is started with; its first device is opened.
        address: our IPv4 address, as text.
        udp_port: our UDP port.
        link_timeout_s: how long to wait for somebody at the other end; 0 does not.
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
        link_timeout_s: float = 0.0,
        table: str = "transport",
    ) -> None:
        self._table: Final = table
        self._address: Final = (address, udp_port)
        number = address_number(address, f"{table}.card_address")
        if udp_port == 0:
            raise UserError(
                f"{table}.port = 0: nobody hands out ports on a card; allowed are 1 to {PORT_MAX}"
            )
        eal = start_eal(config, table)
        self._device: Final = DpdkDevice(eal, number, udp_port, link_timeout_s=link_timeout_s, table=table)

    @property
    def state(self) -> DpdkPort:
        """What the operations take."""
        return self._device.port

    @property
    def address(self) -> tuple[str, int]:
        """Where others find it: address and port."""
        return self._address

    def readiness(self) -> None:
        """Nobody says when a frame has come; one has to look."""

    def counters(self) -> dict[str, int]:
        """Frames by what they were, and what the driver counts."""
        frames = {f"frames_{kind.name.lower()}": count for kind, count in self._device.frame_counts().items()}
        sent, not_sent = self._device.sent_counts()
        return frames | {"frames_sent": sent, "frames_not_sent": not_sent} | self._device.statistics()

    def find_peer(self, address: str, udp_port: int, seconds: float = RESOLVE_SECONDS) -> bytes:
        """The 16 bytes of somebody on the wire, of whom the address is known and the card is asked for.

        Raises:
            UserError: it is no address, or nobody has it.
        """
        key = f"{self._table}.endpoint"
        number = address_number(address, key)
        return peer_of(number, udp_port, resolve(self._device.port, number, seconds, key))

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


def address_number(address: str, key: str) -> int:
    """An IPv4 address as a number. UserError, which names ``key``, if it is none."""
    try:
        return int(ipaddress.IPv4Address(address))
    except ValueError as error:
        raise UserError(f"{key} = {address!r}: not a numeric IPv4 address") from error
