"""The settings of risk: how much a client may ask for before the exchange says no.

These are the [risk] table of a profile. They hold for every transport that has sessions; a transport in memory has
none and does not read them. What each limit means exactly is told in :mod:`exchange.risk.limits_checks`. Importing this
module loads nothing of the layer.

The keys of :class:`LimitsRiskConfig` that limit sessions or symbols are read off it by :mod:`exchange.risk.names`.
"""

from typing import Annotated

from msgspec import Meta, Struct

from exchange import limits

_Own = Annotated[tuple[str, ...], Meta(min_length=0, max_length=limits.RISK_OWN_LIMITS_MAX)]


class NoneRiskConfig(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="none"):
    """Nobody's orders are limited or counted."""


class LimitsRiskConfig(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="limits"):
    """Limits of sessions and of symbols, checked before an order gets its place in the sequence; 0 is no limit."""

    order_lots_max: Annotated[
        int,
        Meta(ge=0, le=limits.RISK_ORDER_LOTS_MAX, description="lots of one order of a session; 0: no limit"),
    ] = 0
    order_notional_max: Annotated[
        int,
        Meta(
            ge=0,
            le=limits.RISK_NOTIONAL_MAX,
            description="price in ticks times lots, of one order of a session; 0: no limit",
        ),
    ] = 0
    orders_per_second: Annotated[
        int,
        Meta(
            ge=0,
            le=limits.RISK_ORDERS_PER_SECOND_MAX,
            description="new orders and replaces of a session, in the long run; 0: no limit",
        ),
    ] = 0
    orders_burst: Annotated[
        int,
        Meta(
            ge=1,
            le=limits.RISK_ORDERS_BURST_MAX,
            description="new orders and replaces that a session may send at once after a pause",
        ),
    ] = 100
    open_orders_max: Annotated[
        int,
        Meta(ge=0, le=limits.SESSION_ORDERS_MAX, description="orders of a session alive; 0: no limit"),
    ] = 0
    exposure_max: Annotated[
        int,
        Meta(
            ge=0,
            le=limits.RISK_NOTIONAL_MAX,
            description="price in ticks times open lots, over all orders of a session; 0: no limit",
        ),
    ] = 0
    collar_basis_points: Annotated[
        int,
        Meta(
            ge=0,
            le=limits.RISK_COLLAR_BASIS_POINTS_MAX,
            description="how far a price may be from its symbol's reference price, in 1/10,000 of it; 0: no limit",
        ),
    ] = 0
    sessions: Annotated[
        _Own,
        Meta(description='users with limits of their own in place of these, as "ALICE:exposure_max=1000000"'),
    ] = ()
    symbols: Annotated[
        _Own,
        Meta(description='symbols with limits of their own, as "AAPL:order_lots_max=5000"'),
    ] = ()


RiskConfig = NoneRiskConfig | LimitsRiskConfig
