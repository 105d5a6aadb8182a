"""The settings of the gateway: who may log on, what can be traded, how long anybody waits for anybody.

These are the [gateway] table of a profile. They hold for every transport that has sessions; a transport in memory has
none and does not read them. Importing this module loads nothing of the gateway.
"""

from typing import Annotated

from msgspec import Meta, Struct

from exchange import limits

_DURATION = Meta(ge=limits.SILENCE_NS_MIN, le=limits.SILENCE_NS_MAX)


class GatewayConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Sessions of clients: what they may trade and how much they may ask for. Read by the transports with sessions."""

    symbols: Annotated[
        tuple[str, ...],
        Meta(
            min_length=1,
            max_length=limits.GATEWAY_SYMBOLS_MAX,
            description="what can be traded, as OUCH spells it: up to 8 letters, digits and signs",
        ),
    ] = ("AAPL", "MSFT", "NVDA", "AMZN", "INTC", "CSCO", "TSLA", "QQQ")
    users_file: Annotated[
        str, Meta(description="users and their hashed passwords; written by `exchange user add`")
    ] = "exchange-users"
    capacity_orders: Annotated[
        int,
        Meta(
            ge=limits.SESSION_ORDERS_MIN,
            le=limits.SESSION_ORDERS_MAX,
            description="orders that one session may have alive at a time",
            extra={"power_of_two": True},
        ),
    ] = 16_384
    log_bytes: Annotated[
        int,
        Meta(
            ge=limits.SESSION_LOG_BYTES_MIN,
            le=limits.SESSION_LOG_BYTES_MAX,
            description="all messages that one session can be sent in a day, kept for replay",
        ),
    ] = 1 << 26
    heartbeat_ns: Annotated[
        int,
        Meta(
            ge=limits.HEARTBEAT_NS_MIN,
            le=limits.HEARTBEAT_NS_MAX,
            description="a heartbeat is sent after so long without another packet",
        ),
    ] = 1_000_000_000
    logon_timeout_ns: Annotated[
        int, _DURATION, Meta(description="a connection that has not logged on by then is closed")
    ] = 30_000_000_000
    logons_per_address: Annotated[
        int,
        Meta(
            ge=1,
            le=limits.LOGONS_MAX,
            description="connections of one address that may be logging on at a time",
        ),
    ] = 64
    connections_per_second: Annotated[
        int,
        Meta(
            ge=1,
            le=limits.CONNECTIONS_PER_SECOND_MAX,
            description="new connections that one address may open in a second, on average",
        ),
    ] = 50
    connections_burst: Annotated[
        int,
        Meta(
            ge=1,
            le=limits.CONNECTIONS_PER_SECOND_MAX,
            description="new connections that one address may open at once",
        ),
    ] = 200
    logon_failures: Annotated[
        int,
        Meta(
            ge=1,
            le=limits.LOGON_FAILURES_MAX,
            description="a name that has failed so often from one address has to wait there",
        ),
    ] = 5
    logon_lockout_ns: Annotated[
        int,
        Meta(
            ge=limits.LOCKOUT_NS_MIN,
            le=limits.LOCKOUT_NS_MAX,
            description="the longest such wait; the first is a second, and each doubles",
        ),
    ] = 60_000_000_000
    client_timeout_ns: Annotated[
        int, _DURATION, Meta(description="a client that has sent nothing for so long is disconnected")
    ] = 15_000_000_000
    slow_reader_ns: Annotated[
        int, _DURATION, Meta(description="a client that has taken nothing for so long is disconnected")
    ] = 5_000_000_000
    time_zone: Annotated[
        str, Meta(description="the time zone from whose midnight the timestamps of messages count")
    ] = "America/New_York"
