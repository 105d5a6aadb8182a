"""OUCH as the clients of the simulation speak it: the same requests in both versions, and what the answers say.

A client knows its orders by numbers that it counts up. In OUCH 5.0 such a number is the UserRefNum; in OUCH 4.2 the
token is made of it. What comes back becomes a :class:`Told`, alike for both versions, so that one model of a client and
one set of invariants serve both.

Everything is said by the tables of :mod:`exchange.wire`, which are held against the specifications elsewhere."""

from typing import Any, Final, NamedTuple

from exchange.wire import ouch42, ouch50
from exchange.wire.ouch50_options import Option, OptionTag
from exchange.wire.ouch_codes import Capacity, CustomerType, YesOrNo

IMMEDIATE: Final = "immediate"
DAY: Final = "day"


class Entry(NamedTuple):
    """A new order, as a client means it. ``flaw`` spoils it: "display" or "" for none."""

    number: int
    side: str
    quantity: int
    symbol: str
    price: int
    time_in_force: str = DAY
    firm: str = ""
    flaw: str = ""


class Told(NamedTuple):
    """A message of the exchange: its type, which is the same letter in both versions, and what it says.

    ``number`` is the client's own, 0 if the message concerns no order; ``quantity`` shares, ``price`` ticks of
    0.0001 dollars; ``reason`` whatever letter or number the message has for it; ``reference`` the exchange's own number
    of the order. What a message lacks is 0 or empty.
    """

    letter: str
    day_ns: int
    number: int = 0
    original: int = 0
    quantity: int = 0
    price: int = 0
    match_number: int = 0
    reason: object = ""
    symbol: str = ""
    side: str = ""
    reference: int = 0


class Ouch50:
    """A client's side of OUCH 5.0."""

    protocol: Final = "ouch50"

    def enter(self, entry: Entry) -> bytes:
        """Enter Order."""
        immediate, day = ouch50.TimeInForce.IMMEDIATE_OR_CANCEL, ouch50.TimeInForce.DAY
        return ouch50.EnterOrder(
            entry.number,
            entry.side,
            entry.quantity,
            entry.symbol,
            entry.price,
            immediate if entry.time_in_force == IMMEDIATE else day,
            ouch50.Display.NON_DISPLAYED if entry.flaw else ouch50.Display.VISIBLE,
            Capacity.AGENCY,
            YesOrNo.NO,
            ouch50.CrossType.CONTINUOUS,
            f"order {entry.number}",
            (Option(OptionTag.FIRM, entry.firm),) if entry.firm else (),
        ).encode()

    def replace(self, original: int, number: int, quantity: int, price: int) -> bytes:
        """Replace Order."""
        return ouch50.ReplaceOrder(
            original,
            number,
            quantity,
            price,
            ouch50.TimeInForce.DAY,
            ouch50.Display.VISIBLE,
            YesOrNo.NO,
            f"order {number}",
        ).encode()

    def cancel(self, number: int, quantity: int) -> bytes:
        """Cancel Order: ``quantity`` is the size that it shall still have."""
        return ouch50.CancelOrder(number, quantity).encode()

    def modify(self, number: int, side: str, quantity: int) -> bytes:
        """Modify Order."""
        return ouch50.ModifyOrder(number, side, quantity).encode()

    def mass_cancel(self, number: int, symbol: str, firm: str) -> bytes:
        """Mass Cancel Request."""
        return ouch50.MassCancel(number, firm, symbol).encode()

    def change_firm(self, number: int, firm: str, *, disables: bool) -> bytes:
        """Disable or Enable Order Entry Request."""
        request = ouch50.DisableOrderEntry if disables else ouch50.EnableOrderEntry
        return request(number, firm).encode()

    def query(self) -> bytes:
        """Account Query Request."""
        return ouch50.AccountQuery().encode()

    def told(self, message: bytes) -> Told:
        """What a message of the exchange says. Raises WireError."""
        said: Any = ouch50.OUTBOUND_MESSAGES.decode(message)
        letter = chr(message[0])
        match said:
            case ouch50.SystemEvent():
                return Told(letter, said.timestamp, reason=said.event_code)
            case ouch50.AccountQueryResponse():
                return Told(letter, said.timestamp, said.next_user_reference_number)
        number = said.user_reference_number
        match said:
            case ouch50.OrderAccepted():
                more = _terms(said, said.symbol, said.side)
                return Told(letter, said.timestamp, number, quantity=said.quantity, **more)
            case ouch50.OrderReplaced():
                more = _terms(said, said.symbol, said.side)
                original = said.original_user_reference_number
                return Told(letter, said.timestamp, number, original, said.quantity, **more)
            case ouch50.OrderExecuted():
                return Told(
                    letter,
                    said.timestamp,
                    number,
                    quantity=said.quantity,
                    price=said.price,
                    match_number=said.match_number,
                    reason=said.liquidity_flag,
                )
            case ouch50.OrderCanceled():
                return Told(letter, said.timestamp, number, quantity=said.quantity, reason=said.reason)
            case ouch50.OrderModified():
                return Told(letter, said.timestamp, number, quantity=said.quantity, side=said.side)
            case ouch50.Rejected():
                return Told(letter, said.timestamp, number, reason=said.reason)
        return Told(letter, said.timestamp, number)


class Ouch42:
    """A client's side of OUCH 4.2. What only version 5.0 can ask for is not said at all."""

    protocol: Final = "ouch42"

    def enter(self, entry: Entry) -> bytes:
        """Enter Order."""
        codes = ouch42.TimeInForce
        return ouch42.EnterOrder(
            _token(entry.number),
            entry.side,
            entry.quantity,
            entry.symbol,
            entry.price,
            codes.IMMEDIATE_OR_CANCEL if entry.time_in_force == IMMEDIATE else codes.MARKET_HOURS,
            entry.firm,
            ouch42.Display.NON_DISPLAYED if entry.flaw else ouch42.Display.ANONYMOUS,
            Capacity.AGENCY,
            ouch42.IntermarketSweep.NO,
            0,
            ouch42.CrossType.NONE,
            CustomerType.NOT_RETAIL,
        ).encode()

    def replace(self, original: int, number: int, quantity: int, price: int) -> bytes:
        """Replace Order."""
        return ouch42.ReplaceOrder(
            _token(original),
            _token(number),
            quantity,
            price,
            ouch42.TimeInForce.MARKET_HOURS,
            ouch42.Display.ANONYMOUS,
            ouch42.IntermarketSweep.NO,
            0,
        ).encode()

    def cancel(self, number: int, quantity: int) -> bytes:
        """Cancel Order: ``quantity`` is the size that it shall still have."""
        return ouch42.CancelOrder(_token(number), quantity).encode()

    def modify(self, number: int, side: str, quantity: int) -> bytes:
        """Modify Order."""
        return ouch42.ModifyOrder(_token(number), side, quantity).encode()

    def told(self, message: bytes) -> Told:
        """What a message of the exchange says. Raises WireError."""
        said: Any = ouch42.OUTBOUND_MESSAGES.decode(message)
        letter = chr(message[0])
        match said:
            case ouch42.SystemEvent():
                return Told(letter, said.timestamp, reason=said.event_code)
            case ouch42.Replaced():
                number, original = _number(said.replacement_order_token), _number(said.previous_order_token)
                more = _terms(said, said.stock, said.buy_sell_indicator)
                return Told(letter, said.timestamp, number, original, said.shares, **more)
        number = _number(said.order_token)
        match said:
            case ouch42.Accepted():
                more = _terms(said, said.stock, said.buy_sell_indicator)
                return Told(letter, said.timestamp, number, quantity=said.shares, **more)
            case ouch42.Executed():
                return Told(
                    letter,
                    said.timestamp,
                    number,
                    quantity=said.executed_shares,
                    price=said.execution_price,
                    match_number=said.match_number,
                    reason=said.liquidity_flag,
                )
            case ouch42.Canceled():
                quantity = said.decrement_shares
                return Told(letter, said.timestamp, number, quantity=quantity, reason=said.reason)
            case ouch42.OrderModified():
                more = {"quantity": said.shares, "side": said.buy_sell_indicator}
                return Told(letter, said.timestamp, number, **more)
            case ouch42.Rejected():
                return Told(letter, said.timestamp, number, reason=said.reason)
        return Told(letter, said.timestamp, number)


Dialect = Ouch50 | Ouch42


def _terms(said: Any, symbol: str, side: str) -> dict[str, Any]:
    return {
        "price": said.price,
        "symbol": symbol,
        "side": side,
        "reference": said.order_reference_number,
    }


def _token(number: int) -> str:
    return f"T{number}"


def _number(token: str) -> int:
    return int(token[1:])
