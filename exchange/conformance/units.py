"""Decimal prices and quantities as the integers of an exchange, and back.

The tester speaks of prices and quantities as JSON numbers, which are 64-bit floating point; a book knows ticks
and lots only. How a price becomes a tick is laid down by the protocol: the floating-point price is divided by
the floating-point tick size and rounded to the nearest integer, ties to even. (So 1.015 at a tick of 0.01 is
101 ticks, as the nearest double lies below.) How a quantity becomes lots is ours to choose.

The tester's flow halves quantities again and again, so a lot of a power of two fits it: with 2^20 lots to a
unit the largest quantity is 4,095.999999 units, and a quantity can be halved twenty times. A quantity that is
no whole number of lots is *refused*, never rounded, because a rounded one would make the comparison worthless.

Rules: what is written back is the canonical form of the protocol: no exponent, no trailing zero, "0" for
zero."""

from decimal import ROUND_HALF_EVEN, Decimal
from typing import Final, NamedTuple

from exchange.limits import PRICE_TICKS_MAX, QUANTITY_LOTS_MAX

LOTS_PER_UNIT: Final = 1 << 20
TICKS_NONE: Final = 0
"""Below every price band that begins at 1: a book refuses it."""


class Units(NamedTuple):
    """The units of a run.

    Attributes:
        tick_size: decimal string, positive.
        quantity_decimal_places: how many places quantities are rounded to when they are written, 0 to 18.
        lots_per_unit: how many lots make a quantity of 1.
    """

    tick_size: str
    quantity_decimal_places: int
    lots_per_unit: int = LOTS_PER_UNIT

    def ticks(self, price: float) -> int:
        """The tick nearest to a price, ties to even.

        Anything below 1 becomes 0 and anything above ``PRICE_TICKS_MAX`` the integer after it: both are outside the
        band of a book with default settings, and it is the book that is to refuse them.
        """
        quotient = price / float(self.tick_size)
        return round(min(max(quotient, TICKS_NONE), PRICE_TICKS_MAX + 1))

    def lots(self, quantity: float) -> int | None:
        """A quantity in lots; 0 if it is not positive, None if it is no whole number of lots or too many of them.

        A quantity counts as whole if it is the double nearest to a number of lots: 0.1 is 100,000 of a million.
        """
        if quantity <= 0:
            return 0
        if quantity > QUANTITY_LOTS_MAX / self.lots_per_unit:
            return None
        lots = round(quantity * self.lots_per_unit)
        return lots if lots > 0 and lots / self.lots_per_unit == quantity else None

    def price_text(self, ticks: int) -> str:
        """A price as the protocol writes it."""
        return canonical(Decimal(ticks) * Decimal(self.tick_size))

    def quantity_text(self, lots: int) -> str:
        """A quantity as the protocol writes it."""
        exponent = Decimal(1).scaleb(-self.quantity_decimal_places)
        value = Decimal(repr(lots / self.lots_per_unit))
        return canonical(value.quantize(exponent, rounding=ROUND_HALF_EVEN))


def canonical(value: Decimal) -> str:
    """A finite decimal number with no exponent and no trailing zero."""
    return format(value.normalize(), "f") if value else "0"
