"""When a client that lags is too slow: the rule that both network transports keep.

A client that takes nothing for as long as ``gateway.slow_reader_ns`` says is let go. That alone would leave a way to be
kept for ever: to take one byte a second. So a client that lags, for which more waits than its line has taken, must take
:data:`PROGRESS_BYTES` in that time. Its time begins when it begins to lag, begins anew with each such portion, and ends
when it has caught up. A client that keeps up, however little there is for it, never meets the rule.

Rules: the words are the sending half's (:mod:`exchange.gateway.session_memory`); who sees that a client has caught up
sets ``BLOCKED_NS`` to 0."""

from typing import Final

from exchange.gateway.session_memory import BLOCKED_BYTES, BLOCKED_NS
from exchange.native import inlined, load_int64, store_int64

PROGRESS_BYTES: Final = 1 << 16
"""13 KB/s at the default of five seconds: a thousand messages in five seconds, and a fraction of what any line carries.
TCP tells of free room in lumps of some kilobytes, so a much smaller portion would be one lump."""


@inlined
def note_progress(session: int, taken_bytes: int, now_ns: int) -> None:
    """A client that lags has taken so much (0: nothing)."""
    taken = load_int64(session + BLOCKED_BYTES) + taken_bytes
    if load_int64(session + BLOCKED_NS) == 0 or taken >= PROGRESS_BYTES:
        store_int64(session + BLOCKED_NS, now_ns)
        taken = 0
    store_int64(session + BLOCKED_BYTES, taken)
