"""What browsers ask of the page's process, read from bytes that anybody may have sent.

A request is a JSON object whose ``action`` says which. Everything in it is checked here, so that what comes out can be
passed on: names, sides, quantities, and prices, which come as the person typed them and become ticks digit by digit.
Whatever else the bytes are, :class:`BadRequest` is raised and nothing but that.

Rules: a request with a password must not be printed or logged.
"""

import re
from typing import Final, Literal

import msgspec
from msgspec import Struct

from exchange.errors import UserError
from exchange.wire.itch50 import STOCK_BYTES
from exchange.wire.ouch_codes import PRICE4_MAX, QUANTITY_SHARES_MAX

REQUEST_BYTES_MAX: Final = 1024
"""The longest sensible request has some 150."""

TICKS_PER_DOLLAR: Final = 10_000
PRICE_TICKS_MAX: Final = PRICE4_MAX
_PRICE: Final = re.compile(r"(\d{1,6})(?:\.(\d{0,4}))?", re.ASCII)
_SYMBOL: Final = re.compile(rf"[!-~]{{1,{STOCK_BYTES}}}", re.ASCII)
_NAME: Final = re.compile(r"[A-Za-z0-9]{1,6}", re.ASCII)
_PASSWORD: Final = re.compile(r"[!-~]{1,10}", re.ASCII)
_NUMBER_MAX: Final = 0xFFFFFFFF


class BadRequest(UserError):
    """A request that makes no sense; ``field`` names what is wrong with it, empty if that is not one field."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field


class Watch(Struct, frozen=True, forbid_unknown_fields=True, tag_field="action", tag="watch"):
    """Show this symbol from now on."""

    symbol: str


class LogOn(Struct, frozen=True, forbid_unknown_fields=True, tag_field="action", tag="log-on"):
    """Log on to the exchange."""

    user: str
    password: str

    def __repr__(self) -> str:
        """Without the password, wherever it ends up."""
        return f"LogOn(user={self.user!r})"


class LogOff(Struct, frozen=True, forbid_unknown_fields=True, tag_field="action", tag="log-off"):
    """Log off; orders stay, unless the exchange cancels the user's on a disconnect."""


class Place(Struct, frozen=True, forbid_unknown_fields=True, tag_field="action", tag="place"):
    """Place an order: ``price`` in dollars as typed; ``immediate`` cancels at once what does not trade."""

    symbol: str
    side: Literal["B", "S"]
    quantity: int
    price: str
    immediate: bool = False


class Replace(Struct, frozen=True, forbid_unknown_fields=True, tag_field="action", tag="replace"):
    """Give an order another price, and let ``quantity`` shares of it be open."""

    number: int
    quantity: int
    price: str


class Cancel(Struct, frozen=True, forbid_unknown_fields=True, tag_field="action", tag="cancel"):
    """Cancel what is left of an order."""

    number: int


Request = Watch | LogOn | LogOff | Place | Replace | Cancel

_DECODER: Final = msgspec.json.Decoder(Request)


def parse_request(data: bytes | str) -> Request:
    """A request whose every field can be passed on. Raises BadRequest for anything else."""
    if len(data) > REQUEST_BYTES_MAX:
        raise BadRequest("", f"a request has at most {REQUEST_BYTES_MAX} bytes")
    try:
        request: Request = _DECODER.decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise BadRequest("", "the page sent something that is no request; reload it") from error
    match request:
        case LogOn():
            _check(_NAME, "user", request.user, "a user name has 1 to 6 letters and digits")
            _check(_PASSWORD, "password", request.password, "a password has 1 to 10 characters, no spaces")
        case Watch():
            _check_symbol(request.symbol)
        case Place():
            _check_symbol(request.symbol)
            _check_quantity(request.quantity)
            parse_price(request.price)
        case Replace():
            _check_number(request.number)
            _check_quantity(request.quantity)
            parse_price(request.price)
        case Cancel():
            _check_number(request.number)
    return request


def parse_price(text: str) -> int:
    """Dollars as typed, ``187.3`` or ``187.3000``, to ticks. Raises BadRequest."""
    found = _PRICE.fullmatch(text.strip())
    if found is None:
        raise BadRequest("price", "a price is in dollars with up to four decimals, as in 187.25")
    dollars, decimals = found.groups()
    ticks = int(dollars) * TICKS_PER_DOLLAR + int((decimals or "").ljust(4, "0"))
    if not 1 <= ticks <= PRICE_TICKS_MAX:
        most = PRICE_TICKS_MAX // TICKS_PER_DOLLAR
        raise BadRequest("price", f"a price is from 0.0001 to {most}.{PRICE_TICKS_MAX % TICKS_PER_DOLLAR:04}")
    return ticks


def _check(pattern: re.Pattern[str], field: str, text: str, told: str) -> None:
    if pattern.fullmatch(text) is None:
        raise BadRequest(field, told)


def _check_symbol(symbol: str) -> None:
    _check(_SYMBOL, "symbol", symbol, f"a symbol has 1 to {STOCK_BYTES} printable characters")


def _check_quantity(quantity: int) -> None:
    if not 1 <= quantity <= QUANTITY_SHARES_MAX:
        raise BadRequest("quantity", f"an order is for 1 to {QUANTITY_SHARES_MAX:,} shares")


def _check_number(number: int) -> None:
    if not 1 <= number <= _NUMBER_MAX:
        raise BadRequest("number", "there is no such order")
