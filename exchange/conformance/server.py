"""The conversation with the tester, from ``hello`` to ``complete``: a message comes in, an answer goes out.

======== ============================================================================
message  answer
======== ============================================================================
hello    ``ready``: who we are. A fresh book is built, and compiled if it has to be
event    ``observation``: applied or not, the trades, a hash of all resting orders
snapshot ``snapshot``: all resting orders in their places
finish   ``complete``
======== ============================================================================

Rules: a run has one hello, then events counted from 1 without a gap, then one finish. A message that breaks the
protocol is answered by ``error`` with the code ``PROTOCOL_ERROR``, and the process ends with exit status 2:
after a misunderstanding neither side knows what the other holds for true, and an answer would only look like
a result. Nothing but messages is written to the output."""

import json
from typing import Any, BinaryIO, Final, assert_never

from exchange import __version__
from exchange.conformance.translation import Translator
from exchange.conformance.units import LOTS_PER_UNIT
from exchange.conformance.wire import (
    LINE_BYTES_MAX,
    PROTOCOL_NAME,
    PROTOCOL_VERSION,
    EventMessage,
    Finish,
    Hello,
    ProtocolError,
    SnapshotRequest,
    read_message,
)
from exchange.errors import UserError

EXIT_COMPLETE: Final = 0
EXIT_ERROR: Final = 2


def serve(
    book_kind: str,
    source: BinaryIO,
    sink: BinaryIO,
    *,
    lots_per_unit: int = LOTS_PER_UNIT,
    keep_open: bool = False,
) -> int:
    """Answer messages until the run is complete.

    Args:
        book_kind: which book to test, a key of ``exchange.conformance.translation.BOOKS``.
        source: the tester's messages, one a line.
        sink: our answers, one a line, flushed one by one.
        lots_per_unit: how many lots make a quantity of 1.
        keep_open: expect another hello after each complete, until the input ends, so that thousands of runs need not
            start thousands of processes. The protocol itself has one run in each process.

    Returns:
        The exit status: 0, or 2 after an ``error`` answer.

    Raises:
        BrokenPipeError: nobody reads the answers any more.
    """
    try:
        line = _read_line(source)
        if not line:
            raise ProtocolError("expected hello, but the input is empty")
        while line:
            translator = _begin(line, sink, book_kind, lots_per_unit)
            _serve_run(translator, source, sink)
            line = _read_line(source) if keep_open else b""
    except ProtocolError as error:
        _write(sink, {"type": "error", "code": "PROTOCOL_ERROR", "message": str(error)})
        return EXIT_ERROR
    except UserError as error:  # the book cannot be built here, for want of memory
        _write(sink, {"type": "error", "code": "ADAPTER_ERROR", "message": str(error)})
        return EXIT_ERROR
    return EXIT_COMPLETE


def _begin(line: bytes, sink: BinaryIO, book_kind: str, lots_per_unit: int) -> Translator:
    """Answer hello, with a fresh book behind it."""
    hello = read_message(line)
    if not isinstance(hello, Hello):
        raise ProtocolError("the first message must be hello")
    translator = Translator(book_kind, hello.config, lots_per_unit)
    engine = {"name": f"hpc-exchange {book_kind}", "version": __version__, "language": "Python"}
    _write(
        sink,
        {
            "type": "ready",
            "protocol": PROTOCOL_NAME,
            "protocol_version": PROTOCOL_VERSION,
            "engine": engine,
        },
    )
    return translator


def _serve_run(translator: Translator, source: BinaryIO, sink: BinaryIO) -> None:
    """Answer everything up to and including finish."""
    last_index = 0
    while line := _read_line(source):
        message = read_message(line)
        match message:
            case EventMessage():
                if message.index != last_index + 1:
                    raise ProtocolError(f"event index must be {last_index + 1}, not {message.index}")
                last_index = message.index
                _write(sink, _observation(translator, message))
            case SnapshotRequest():
                if message.index != last_index:
                    raise ProtocolError(f"snapshot index must be {last_index}, that of the last event")
                state = json.loads(translator.state_text())
                _write(sink, {"type": "snapshot", "index": last_index, "state": state})
            case Finish():
                if message.event_count != last_index:
                    raise ProtocolError(f"event_count must be {last_index}, not {message.event_count}")
                _write(sink, {"type": "complete", "event_count": last_index})
                return
            case Hello():
                raise ProtocolError("a second hello before finish")
            case _:
                assert_never(message)
    raise ProtocolError("the input ended before finish")


def _observation(translator: Translator, message: EventMessage) -> dict[str, Any]:
    seen = translator.apply(message.event, message.index)
    return {
        "type": "observation",
        "index": message.index,
        "outcome": {
            "status": "applied" if seen.reason is None else "rejected",
            "reason": seen.reason,
            "message": seen.message,
        },
        "trades": seen.trades,
        "state_hash": translator.state_hash(),
        "resting_order_count": translator.resting_order_count(),
    }


def _read_line(source: BinaryIO) -> bytes:
    """The next line that is not blank, or what there is of one that is too long; empty at the end of the input."""
    while line := source.readline(LINE_BYTES_MAX + 1):
        if not line.isspace():
            return line
    return b""


def _write(sink: BinaryIO, message: dict[str, Any]) -> None:
    sink.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")
    sink.flush()
