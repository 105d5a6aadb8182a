"""The settings of the flows: a frozen struct for each model, one for the two kinds of recording.

Rules: ranges and descriptions stand on the fields, so that the command line's help and its errors come from
here; the structs know nothing of the code that reads them, so importing them costs nothing.
"""

from typing import Annotated, Final, Literal, get_args

from msgspec import Meta, Struct, ValidationError, convert, to_builtins

from exchange import limits
from exchange.errors import UserError

Reading = Literal["flow", "feed"]
"""How a recording becomes commands.

``flow``: each visible execution becomes the aggressive order that caused it. ``feed``: each visible execution
takes its quantity away from the order that the record names, as a book builder does it.
"""

ScenarioName = Literal["static", "normal", "swing-25", "swing-40", "flash-crash"]
"""The regimes of :mod:`exchange.flow.scenario`, from the price that stands still to the one that moves most."""

SCENARIOS: Final[tuple[ScenarioName, ...]] = get_args(ScenarioName)

SCENARIO_ORDERS_MIN: Final = 1_000
"""With fewer, the steps of the walk would be so large (2 % each in a flash crash) that it is no walk."""

Share = Annotated[float, Meta(ge=0.0, le=1.0)]


class SyntheticConfig(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="synthetic"):
    """The model of :mod:`exchange.flow.synthetic`; the defaults are a busy second of a liquid market."""

    commands: Annotated[
        int, Meta(ge=0, le=limits.BENCH_COMMANDS_MAX, description="how many commands the flow has")
    ] = 1_000_000
    seed: Annotated[
        int, Meta(ge=0, le=2**63 - 1, description="the same seed gives the same flow, byte for byte")
    ] = 1
    symbols: Annotated[int, Meta(ge=1, le=limits.FLOW_SYMBOLS_MAX, description="how many symbols trade")] = 8
    sessions: Annotated[int, Meta(ge=1, le=limits.SESSIONS_MAX, description="how many sessions send")] = 16
    zipf_exponent: Annotated[
        float,
        Meta(ge=0.0, le=4.0, description="activity of the k-th symbol falls as 1 / k ** this; 0 is even"),
    ] = 1.0
    orders_per_second: Annotated[
        float, Meta(ge=1.0, le=1e8, description="new orders per second over all symbols (Poisson)")
    ] = 200_000.0
    immediate_or_cancel_share: Annotated[
        Share, Meta(description="share of new orders that are immediate-or-cancel limit orders")
    ] = 0.15
    aimed_share: Annotated[
        Share, Meta(description="share of those that are priced to trade; the others probe inside the spread")
    ] = 0.10
    market_share: Annotated[Share, Meta(description="share of new orders that are market orders")] = 0.005
    cancel_share: Annotated[
        Share, Meta(description="share of resting orders meant to be cancelled; the others wait at the touch")
    ] = 0.95
    partial_cancel_share: Annotated[Share, Meta(description="share of cancels that take only half away")] = (
        0.01
    )
    replace_share: Annotated[
        Share, Meta(description="chance that an order is replaced when it would have been cancelled")
    ] = 0.10
    stale_share: Annotated[
        Share,
        Meta(description="chance that the end of an order is followed by one more command that names it"),
    ] = 0.05
    median_lifetime_ns: Annotated[
        int, Meta(ge=1_000, le=10**12, description="median time from an order's entry to its cancel")
    ] = 430_000
    lifetime_exponent: Annotated[
        float,
        Meta(ge=0.5, le=10.0, description="the share of orders that live longer than t falls as t ** -this"),
    ] = 1.2
    depth_exponent: Annotated[
        float,
        Meta(ge=0.1, le=10.0, description="the share of orders deeper than d ticks falls as d ** -this"),
    ] = 0.6
    depth_ticks_max: Annotated[
        int, Meta(ge=1, le=1000, description="no order is placed deeper than this below the touch")
    ] = 500
    move_share: Annotated[
        Share, Meta(description="chance that a new order moves its symbol's mid-price by one tick first")
    ] = 0.001


class ScenarioConfig(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="scenario"):
    """The model of :mod:`exchange.flow.scenario`; the defaults are the regimes that are published.

    An order sends five commands at most, about two on average, and a flow has room for them all: hence the most orders.
    """

    scenario: ScenarioName = "normal"
    orders: Annotated[
        int,
        Meta(
            ge=SCENARIO_ORDERS_MIN,
            le=limits.BENCH_COMMANDS_MAX // 5,
            description="how many orders are entered; about twice as many commands",
        ),
    ] = 1_000_000
    seed: Annotated[
        int, Meta(ge=0, le=2**63 - 1, description="the same seed gives the same flow, byte for byte")
    ] = 24
    order_ids: Annotated[
        Literal["shuffled", "arrival", "arbitrary"],
        Meta(description="dense in random order, dense as they arrive, or any 64 bits"),
    ] = "shuffled"
    sessions: Annotated[int, Meta(ge=1, le=limits.SESSIONS_MAX, description="how many sessions send")] = 16


class RecordedConfig(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="recorded"):
    """A LOBSTER message file or an ITCH 5.0 file, plain or gzip; which of them, its content tells."""

    path: str
    reading: Reading = "flow"
    symbol: str | None = None
    allow_truncated: bool = False


FlowConfig = SyntheticConfig | ScenarioConfig | RecordedConfig


def check_ranges(config: FlowConfig) -> None:
    """Hold every field against the range that its type declares.

    Raises:
        UserError: one line that names the field, and what is allowed.
    """
    try:
        convert(to_builtins(config), type(config))
    except ValidationError as error:
        raise UserError(f"{config.__struct_config__.tag} flow: {error}") from None
