"""Which version of OUCH a session speaks: chosen for each user, and asked once for each message that comes in.

A session of OUCH 4.2 has an index of tokens, one of OUCH 5.0 has none; that is how they are told apart, here and where
answers are written (:mod:`exchange.gateway.reports`). All else about a session is the same for both."""

from exchange.gateway.firm_requests import is_canceling
from exchange.gateway.inbound import WAIT, Requests
from exchange.gateway.requests import take_request50
from exchange.gateway.requests42 import take_request42
from exchange.gateway.session_memory import TOKENS
from exchange.native import kernel, likely, load_int64, unlikely


@kernel
def take_request(
    requests: Requests,
    session_id: int,
    session: int,
    message: int,
    size_bytes: int,
    now_ns: int,
    command: int,
) -> int:
    """What one OUCH message of ``size_bytes`` comes to; a command, if there is one, is written at ``command``."""
    if unlikely(is_canceling(session)):
        return WAIT
    if likely(load_int64(session + TOKENS) == 0):
        return take_request50(requests, session_id, session, message, size_bytes, now_ns, command)
    return take_request42(requests, session_id, session, message, size_bytes, now_ns, command)
