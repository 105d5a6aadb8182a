"""The settings of market data: whether an exchange on the network publishes a feed, and where to.

These are the [market_data] table of a profile, read by ``exchange serve``. Importing this module loads nothing of the
layer.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from exchange import limits


class NoneMarketDataConfig(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="none"):
    """Nothing is published."""


class MoldUdp64MarketDataConfig(
    Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="moldudp64"
):
    """ITCH 5.0 messages in MoldUDP64 datagrams over UDP, and a re-request server: for `exchange serve`."""

    address: Annotated[
        str, Meta(description="numeric IPv4 address that the feed goes to: a multicast group or one receiver")
    ] = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=limits.PORT_MAX, description="UDP port that the feed goes to")] = 9006
    source_address: Annotated[
        str,
        Meta(
            description="numeric IPv4 address of this machine that the feed comes from and requests are sent to"
        ),
    ] = "127.0.0.1"
    request_port: Annotated[
        int,
        Meta(
            ge=0,
            le=limits.PORT_MAX,
            description="UDP port that the feed comes from and requests are sent to; 0 takes one that is free",
        ),
    ] = 9007
    heartbeat_ns: Annotated[
        int,
        Meta(
            ge=limits.HEARTBEAT_NS_MIN,
            le=limits.HEARTBEAT_NS_MAX,
            description="a heartbeat is sent after so long without another datagram",
        ),
    ] = 1_000_000_000
    capacity_messages: Annotated[
        int,
        Meta(
            ge=limits.FEED_STORE_MESSAGES_MIN,
            le=limits.FEED_STORE_MESSAGES_MAX,
            description="the last messages, kept to be sent again, 64 bytes each",
            extra={"power_of_two": True},
        ),
    ] = limits.FEED_STORE_MESSAGES_DEFAULT
    request_bytes_per_second: Annotated[
        int,
        Meta(
            ge=limits.REQUEST_BYTES_PER_SECOND_MIN,
            le=limits.REQUEST_BYTES_PER_SECOND_MAX,
            description="what one requester may cause, requests and answers together; beyond that it gets no answer",
        ),
    ] = limits.REQUEST_BYTES_PER_SECOND_DEFAULT
    glimpse: Annotated[
        Literal["none", "process"],
        Meta(
            description="whether a GLIMPSE server of snapshots runs beside the exchange, as a process of its own"
        ),
    ] = "none"
    glimpse_address: Annotated[
        str, Meta(description="numeric address of this machine that the GLIMPSE server listens on")
    ] = "127.0.0.1"
    glimpse_port: Annotated[
        int,
        Meta(
            ge=0, le=limits.PORT_MAX, description="TCP port of the GLIMPSE server; 0 takes one that is free"
        ),
    ] = 9008
    glimpse_logon: Annotated[
        Literal["users", "anybody"],
        Meta(description="who may log on to the GLIMPSE server: the users of the gateway, or whoever asks"),
    ] = "users"


MarketDataConfig = NoneMarketDataConfig | MoldUdp64MarketDataConfig
