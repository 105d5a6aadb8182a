"""A pool of buffers: equal pieces of one block, free ones on a stack.

A thread that needs room for a frame acquires a buffer, fills it, and hands its address on; whoever is done
with it last releases it. No allocator is called and no memory is freed, so it costs what one push and one pop
cost, and running out is an answer (0), not an error.

Rules: release an address exactly once, as it was acquired. Nothing checks that: a buffer released twice is
given to two owners, as with C's ``free``. The pool must outlive all use of its handle."""

from typing import Any, Final, NamedTuple

from exchange.errors import UserError
from exchange.native import CACHE_LINE_BYTES, FALSE_SHARING_BYTES, Arena, HugePages, inlined
from exchange.stacks import StackConfig, TreiberStackConfig, build_stack, stack_size_bytes
from exchange.stacks.protocol import pop, push

EXHAUSTED: Final = 0
"""What :func:`acquire` returns when all buffers are out: no buffer has this address."""

BUFFER_BYTES_MAX: Final = 1 << 20
"""A huge jumbo frame, or a batch of a few thousand records; more is not passed about in one piece."""


class BufferPoolHandle(NamedTuple):
    """The stack of free buffers, the address of the first, and their size as a power of two."""

    stack: Any
    first_buffer: int
    buffer_shift: int


class BufferPool:
    """Owner of the buffers and of the stack of free ones.

    Args:
        buffer_count: how many there are.
        buffer_bytes: the size of each, a power of two from 64 bytes to 1 MiB.
        stack: which stack keeps the free ones.
        arena: where to make the pool, or to find one that another process has made; ``None`` means private
            memory of its own.
        huge_pages: of the private memory.

    Raises:
        UserError: a size is out of range, or the arena holds a pool that was built for something else.
    """

    def __init__(
        self,
        buffer_count: int,
        buffer_bytes: int,
        stack: StackConfig | None = None,
        arena: Arena | None = None,
        huge_pages: HugePages = "advise",
    ) -> None:
        if not CACHE_LINE_BYTES <= buffer_bytes <= BUFFER_BYTES_MAX or buffer_bytes & (buffer_bytes - 1):
            raise UserError(
                f"buffer_bytes = {buffer_bytes}: must be a power of two, {CACHE_LINE_BYTES} to {BUFFER_BYTES_MAX}"
            )
        config = TreiberStackConfig() if stack is None else stack
        if arena is None:
            arena = Arena.private(self.size_bytes(buffer_count, buffer_bytes, config), huge_pages)
        self.arena: Final = arena
        self.buffer_count: Final = buffer_count
        self.buffer_bytes: Final = buffer_bytes
        self.stack: Final = build_stack(config, buffer_count, filled=True, arena=arena)
        self.first_buffer: Final = arena.allocate(buffer_count * buffer_bytes)

    @staticmethod
    def size_bytes(buffer_count: int, buffer_bytes: int, stack: StackConfig | None = None) -> int:
        """How many bytes of an arena such a pool takes."""
        config = TreiberStackConfig() if stack is None else stack
        return stack_size_bytes(config, buffer_count) + 2 * FALSE_SHARING_BYTES + buffer_count * buffer_bytes

    def handle(self) -> BufferPoolHandle:
        """The handle, the same for all threads."""
        return BufferPoolHandle(self.stack.handle(), self.first_buffer, self.buffer_bytes.bit_length() - 1)


@inlined
def acquire(pool: BufferPoolHandle) -> int:
    """The address of a free buffer, a multiple of 64, now the caller's; :data:`EXHAUSTED` if there is none.

    The buffer holds what its last owner left in it.
    """
    index = pop(pool.stack)
    if index < 0:
        return EXHAUSTED
    return pool.first_buffer + (index << pool.buffer_shift)


@inlined
def release(pool: BufferPoolHandle, address: int) -> None:
    """Give the buffer at ``address`` back."""
    push(pool.stack, (address - pool.first_buffer) >> pool.buffer_shift)
