"""Whose memory is whose, and where a plan wants it.

An exchange takes its memory in one place after the other, long before the threads run that will use it. So whoever
builds a part says for which agent it is, in a block, and every arena that is made in the block belongs to that agent::

    with memory_as_planned(plan):
        with memory_of("shard.0", "book"):
            book = build_book(...)

If the plan names nodes for the agent's memory, the arena is placed there before anything is written to it. What is made
within the outer block and in no inner one belongs to the first agent of the plan, which is on the clients' side.
Outside of both, an arena belongs to nobody and lies where the kernel puts it.

What was made is remembered as long as its holder lives (:func:`regions`), so that it can be shown while the exchange
runs (:mod:`exchange.placement.running`).

Rules: the blocks count for the calling thread and not for threads that it starts. Nothing here is on any hot path."""

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Final, NamedTuple
from weakref import WeakKeyDictionary

from exchange.errors import UserError
from exchange.placement.memory_nodes import PAGE_BYTES, place_memory
from exchange.placement.protocol import Plan
from exchange.placement.topology import format_cpu_list

_TAKING: Final = ("exchange.native.arena", __name__)
"""Modules that take memory for others."""


class Region(NamedTuple):
    """A range of memory: the agent that it is for, what it is, and the nodes that it is placed on, () if on none."""

    owner: str
    part: str
    address: int
    size_bytes: int
    nodes: tuple[int, ...]


class _Made(NamedTuple):
    """What is being made: for which agent, what it is."""

    owner: str
    part: str


_NOBODY: Final = _Made("", "")
_NO_PLAN: Final[Mapping[str, tuple[int, ...]]] = MappingProxyType({})

_nodes_of: ContextVar[Mapping[str, tuple[int, ...]]] = ContextVar("nodes_of", default=_NO_PLAN)
_made: ContextVar[_Made] = ContextVar("made", default=_NOBODY)
_regions: Final[WeakKeyDictionary[object, list[Region]]] = WeakKeyDictionary()
_lock: Final = threading.Lock()


@contextmanager
def memory_as_planned(plan: Plan) -> Iterator[None]:
    """Within the block, memory that is made lies where a plan wants the memory of its owner.

    Raises:
        UserError: the plan places memory and was made for another machine.
    """
    nodes = {agent: one.memory_nodes for one in plan.assignments for agent in one.agents}
    if any(nodes.values()) and not plan.is_this_machine:
        raise UserError(
            "placement: memory was planned for another machine; only a plan made from this machine's topology can be"
            " kept to"
        )
    nodes_before, made_before = _nodes_of.set(nodes), _made.set(_Made(next(iter(nodes), ""), ""))
    try:
        yield
    finally:
        _made.reset(made_before)
        _nodes_of.reset(nodes_before)


@contextmanager
def memory_of(owner: str, part: str = "") -> Iterator[None]:
    """Within the block, memory that is made is for the agent ``owner``; ``part`` says what it is, else the module does
    that takes it."""
    before = _made.set(_Made(owner, part))
    try:
        yield
    finally:
        _made.reset(before)


def made_for[**Arguments, Thing](
    owner: str,
    part: str,
    build: Callable[Arguments, Thing],
    *args: Arguments.args,
    **kwargs: Arguments.kwargs,
) -> Thing:
    """``build(*args, **kwargs)``, whose memory is for the agent ``owner``: :func:`memory_of` as an expression."""
    with memory_of(owner, part):
        return build(*args, **kwargs)


def current_nodes() -> tuple[int, ...]:
    """Where memory that is made now is to lie: nodes, or () for where the kernel puts it."""
    return _nodes_of.get().get(_made.get().owner, ())


def settle(holder: object, address: int, size_bytes: int, *, is_fresh: bool = True) -> None:
    """Place memory where its owner wants it and write down whose it is, for as long as ``holder`` lives.

    Args:
        holder: what the memory goes with.
        address: of a page.
        size_bytes: how much it is.
        is_fresh: nothing has been written to it; else somebody else has placed it.

    Raises:
        UserError: the kernel does not place memory there.
    """
    made = _made.get()
    region = Region(made.owner, made.part or _taking_module(), address, size_bytes, current_nodes())
    if is_fresh:
        _place(region)
    with _lock:
        _regions.setdefault(holder, []).append(region)


def hand_over(holder: object, address: int, size_bytes: int, owner: str) -> None:
    """Fresh memory out of the middle of what ``holder`` has settled is for another agent, as far as it has whole pages.

    Raises:
        UserError: the kernel does not place memory there.
        ValueError: the range does not lie within one that ``holder`` has.
    """
    address, end = (address + PAGE_BYTES - 1) & -PAGE_BYTES, (address + size_bytes) & -PAGE_BYTES
    if end <= address:
        return
    with _lock:
        ranges = _regions.get(holder, [])
        for index in reversed(range(len(ranges))):  # who hands over many goes from the front to the back
            one = ranges[index]
            rest = one.address + one.size_bytes
            if one.address <= address and end <= rest:
                break
        else:
            raise ValueError("what is handed over must lie in one piece of what there is")
        taken = Region(owner, one.part, address, end - address, _nodes_of.get().get(owner, ()))
        before = one._replace(size_bytes=address - one.address)
        behind = one._replace(address=end, size_bytes=rest - end)
        ranges[index : index + 1] = [piece for piece in (before, taken, behind) if piece.size_bytes > 0]
    if taken.nodes != one.nodes:
        _place(taken)


def regions() -> list[Region]:
    """All memory that is there, in the order in which it was made."""
    with _lock:
        return [region for kept in list(_regions.values()) for region in kept]


def _place(region: Region) -> None:
    if not region.nodes or region.size_bytes == 0:
        return
    try:
        place_memory(region.address, region.size_bytes, region.nodes)
    except OSError as error:
        raise _refused(f"{region.owner}'s {region.part}", region.nodes, error) from error


def _refused(what: str, nodes: tuple[int, ...], error: OSError) -> UserError:
    return UserError(
        f"placement: the kernel refuses to place memory of {what} on NUMA node {format_cpu_list(nodes)}"
        f" ({error.strerror}); in a container, docker run --cap-add SYS_NICE and the right --cpuset-mems, or set"
        ' [placement] kind = "pinned"'
    )


def _taking_module() -> str:
    """The module that asked for memory, which says what it is for want of a better name."""
    frame = sys._getframe(1)
    while frame.f_globals["__name__"] in _TAKING and frame.f_back is not None:
        frame = frame.f_back
    return str(frame.f_globals["__name__"]).removeprefix("exchange.")
