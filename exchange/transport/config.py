"""The settings of the transports: one frozen struct per variant, chosen by ``kind`` in a profile's
[transport] table.

A transport brings clients' bytes to the ingress and takes reports away. Importing this module loads no
transport.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from exchange import limits

IngressLanes = Annotated[
    int,
    Meta(
        ge=1,
        le=limits.INGRESS_LANES_MAX,
        description="ingress agents, each a producer into every shard's inbox",
    ),
]


Address = Annotated[
    str,
    Meta(description="numeric address to listen on; 0.0.0.0 or :: lets other machines in (udp: IPv4 only)"),
]
Port = Annotated[
    int, Meta(ge=0, le=limits.PORT_MAX, description="TCP or UDP port to listen on; 0 takes one that is free")
]


class MemoryTransportConfig(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="memory"):
    """Commands and events stay in this process's memory: everything is measured but the network."""

    ingress_lanes: IngressLanes = 1


class TcpTransportConfig(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="tcp"):
    """SoupBinTCP sessions with OUCH 5.0 or 4.2 orders over TCP: for `exchange serve`."""

    ingress_lanes: IngressLanes = 1
    address: Address = "127.0.0.1"
    port: Port = 9005


class UdpTransportConfig(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="udp"):
    """The same sessions and orders in numbered datagrams, acknowledged and sent again: for `exchange serve`."""

    ingress_lanes: IngressLanes = 1
    address: Address = "127.0.0.1"
    port: Port = 9005


CardAddress = Annotated[
    str,
    Meta(description="numeric IPv4 address of our own on the card's wire, which the kernel does not know"),
]
Force = Annotated[
    bool, Meta(description="take the interface that carries the default route as well, and be cut off")
]


class AfxdpTransportConfig(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="afxdp"):
    """The datagrams of udp from frames that the kernel's network stack has not seen: for `exchange serve`."""

    ingress_lanes: IngressLanes = 1
    card_address: CardAddress = "10.0.0.1"
    port: Port = 9005
    interface: Annotated[
        str, Meta(description="an interface of the kernel, such as eth1; it has to be said which")
    ] = ""
    queue: Annotated[
        int,
        Meta(
            ge=0,
            le=limits.INTERFACE_QUEUES_MAX - 1,
            description="which of its queues; frames that come through others stay the kernel's",
        ),
    ] = 0
    mode: Annotated[
        Literal["auto", "skb", "native", "zero-copy"],
        Meta(
            description="how frames are taken: behind the driver, in it, or by the card itself into our memory;"
            " auto is the last of them that the interface can do"
        ),
    ] = "auto"
    force: Force = False


class DpdkTransportConfig(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="dpdk"):
    """The datagrams of udp from a card that is polled without the kernel: for `exchange serve`. Needs DPDK."""

    ingress_lanes: IngressLanes = 1
    card_address: CardAddress = "10.0.0.1"
    port: Port = 9005
    device: Annotated[
        str,
        Meta(description="a device as DPDK writes it, or a card's PCI address, such as 0000:03:00.0"),
    ] = "net_memif0,role=server,socket=exchange"
    memory_mib: Annotated[
        int, Meta(ge=64, le=65_536, description="memory for packets and all else of DPDK's, in MiB")
    ] = 128
    huge_pages: Annotated[
        bool, Meta(description="take that memory from huge pages, which the administrator has to set aside")
    ] = False
    log_level: Annotated[
        str, Meta(description="what DPDK itself writes: error, warning, notice, info or debug, and all above")
    ] = "error"
    force: Force = False


DatagramTransportConfig = UdpTransportConfig | AfxdpTransportConfig | DpdkTransportConfig
"""Those that a port of datagrams can be opened from (:mod:`exchange.datagrams.opening`)."""

TransportConfig = MemoryTransportConfig | TcpTransportConfig | DatagramTransportConfig
