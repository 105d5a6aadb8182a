"""Generic functions: the type of the state chooses the body, compiled and interpreted alike."""

from typing import Any, NamedTuple

import pytest
from numba.core.errors import TypingError

from exchange.native import body_for, generic, implements, is_compiled, is_implemented, kernel


@generic
def area(shape: Any, scale: int) -> int:
    """What a shape covers, in square units."""
    raise NotImplementedError


class Square(NamedTuple):
    side: int


class Pair(NamedTuple):
    first: Any
    second: Any


class Circle:
    """A plain class: it stays Python."""

    def __init__(self, radius: int) -> None:
        self.radius = radius


class Unknown(NamedTuple):
    size: int


@implements(area, Square)
def square_area(shape: Square, scale: int) -> int:
    return shape.side * shape.side * scale


@implements(area, Pair, inline=False)
def pair_area(shape: Pair, scale: int) -> int:
    return area(shape.first, scale) + area(shape.second, scale)


@implements(area, Circle)
def circle_area(shape: Circle, scale: int) -> int:
    return 3 * shape.radius * shape.radius * scale


@generic
def wide(a: Any, b: int, c: int, d: int, e: int, f: int) -> int:
    """As many arguments as an operation wants."""
    raise NotImplementedError


@implements(wide, Square)
def square_wide(a: Square, b: int, c: int, d: int, e: int, f: int) -> int:
    return a.side + b + c + d + e + f


@kernel
def call_wide(shape: Any) -> int:
    return wide(shape, 1, 2, 3, 4, 5)


@kernel
def twice(shape: Any) -> int:
    return area(shape, 2)


def test_the_type_of_the_state_chooses_the_body_compiled_and_interpreted() -> None:
    assert twice(Square(3)) == area(Square(3), 2) == 18
    nested = Pair(Square(1), Square(2))
    assert twice(nested) == area(nested, 2) == 10
    assert area(Circle(2), 2) == 24


def test_two_states_of_one_name_are_told_apart_by_compiled_callers() -> None:
    """numba itself would not: it knows a NamedTuple by the name of its class and the types of its fields."""

    def another() -> type:
        class Twin(NamedTuple):
            side: int

        return Twin

    first, second = another(), another()
    implements(area, first)(lambda shape, scale: 1)
    implements(area, second)(lambda shape, scale: 2)
    assert [twice(first(5)), twice(second(5)), area(first(5), 1), area(second(5), 1)] == [1, 2, 1, 2]


def test_a_state_with_a_plain_part_runs_interpreted_and_its_compiled_parts_compiled() -> None:
    mixed = Pair(Square(2), Circle(1))
    assert not is_compiled(mixed)
    assert body_for(area, mixed)(mixed, 1) == 7
    assert is_compiled(Pair(Square(2), Square(1)))


def test_an_operation_keeps_its_contract_as_documentation() -> None:
    assert area.__doc__ == "What a shape covers, in square units."
    assert area.__name__ == "area"


def test_what_a_variant_lacks_is_named() -> None:
    assert is_implemented(area, Square)
    assert not is_implemented(area, Unknown)
    with pytest.raises(TypeError, match=r"Unknown does not implement area\(\)"):
        area(Unknown(1), 1)
    with pytest.raises(TypingError):
        twice(Unknown(1))


def test_an_operation_has_as_many_arguments_as_it_wants() -> None:
    assert call_wide(Square(1)) == wide(Square(1), 1, 2, 3, 4, 5) == 16
