"""The memory of a load, word by word: what the accounting and the line that carries its bytes have in common.

A load has words of its own, and each session has some. The accounting (:mod:`exchange.load.loops`) writes what becomes
of requests, a line (:mod:`exchange.load.protocol`) what has gone out and come in. Behind a session's common words there
is room for those that its kind of line needs.

Requests and their bytes are made beforehand and never change, but for what is noted in their records
(:mod:`exchange.load.requests`). One request is one packet, so "the first n requests" says as much as a number of bytes,
and :func:`end_of` turns the one into the other.

Rules: all words are int64, and one thread has them. A session fails once: the first reason stands."""

from typing import Any, Final

from exchange.load.requests import REQUEST_DTYPE
from exchange.native import inlined, load_int64, store_int64

# the load's words
STOP: Final = 0
LOST: Final = 8
"""Not 0: the link is down, or there is news of a session that is away: the loop ends, and begins again afterwards."""
SENT: Final = 128
ANSWERED: Final = 136
REJECTED: Final = 144
LAPSED: Final = 152
MEASURED: Final = 160
"""Requests that were accounted for, of those that are not warm-up."""
LAST_NS: Final = 168
"""When the last of them was, from the run's start."""
EXECUTIONS: Final = 176
OTHERS: Final = 184
"""Sequenced messages that are neither answers nor executions."""
FULL: Final = 192
"""Sends for which the line had not room enough."""
FAILED: Final = 200
"""Sessions that have failed."""
DUE_COUNT: Final = 208
"""Requests that have become due."""
SENT_AGAIN: Final = 216
"""Requests that were sent once more, because nobody had acknowledged them, or on a new line."""
ASKED_AGAIN: Final = 224
"""Retransmission Requests that were sent, because there was a gap in what had come."""
STRANGE: Final = 232
"""Datagrams that are not of the session in whose socket they were."""
LOAD_LINE_WORDS: Final = 240
"""Four words more for the line."""
TIMEOUT: Final = 288
"""Two words: how long the kernel is to wait, in seconds and nanoseconds."""
LOAD_BYTES: Final = 320

# a session's words
DESCRIPTOR: Final = 0
RECORDS: Final = 8
"""Address of its requests, and how many there are."""
COUNT: Final = 16
PACKETS: Final = 24
"""Address of their bytes, and how many of them the line has taken."""
TAKEN: Final = 32
CREATORS: Final = 40
"""Address of the requests that took a number each; how many; and the first number."""
NUMBERS: Final = 48
FIRST_NUMBER: Final = 56
DUE: Final = 64
"""Requests that are due, that are sent, that are accounted for."""
NEXT: Final = 72
SETTLED: Final = 80
SENT_NS: Final = 88
"""When the line last took something, for heartbeats."""
FAILURE: Final = 96
"""0, or why the session has failed: one of the reasons below, or -errno."""
AWAY: Final = 104
"""Not 0: the session has lost its line and is looking for another, so that it neither sends nor receives."""
HEARD_NS: Final = 112
"""When something came last, noted by the line."""
LINE_WORDS: Final = 128
"""Here the words of its kind of line begin."""

CLOSED: Final = 1
ENDED: Final = 2
NOT_SOUPBINTCP: Final = 3
SILENT: Final = 4
NO_LINK: Final = 5
NOT_BACK: Final = 6

_FIELDS: Final[Any] = REQUEST_DTYPE.fields
RECORD_BYTES: Final = REQUEST_DTYPE.itemsize
INTENDED_NS: Final = int(_FIELDS["intended_ns"][1])
END_BYTES: Final = int(_FIELDS["end_bytes"][1])
ORDER: Final = int(_FIELDS["order"][1])
FOLLOWER: Final = int(_FIELDS["follower"][1])
STATE: Final = int(_FIELDS["state"][1])
ANSWERED_NS: Final = int(_FIELDS["answered_ns"][1])
OPEN_SHARES: Final = int(_FIELDS["open_shares"][1])
NUMBER: Final = int(_FIELDS["number"][1])


@inlined
def add(address: int, count: int) -> None:
    """Add to a word."""
    store_int64(address, load_int64(address) + count)


@inlined
def record_of(session: int, index: int) -> int:
    """The address of a request's record."""
    return load_int64(session + RECORDS) + index * RECORD_BYTES


@inlined
def end_of(session: int, count: int) -> int:
    """How many bytes the first ``count`` requests are."""
    return load_int64(record_of(session, count - 1) + END_BYTES) if count > 0 else 0


@inlined
def fail(words: int, session: int, reason: int) -> None:
    """Note why a session has failed; ``words`` are the load's."""
    if load_int64(session + FAILURE) == 0:
        store_int64(session + FAILURE, reason)
        add(words + FAILED, 1)
