"""What an operator wants to know of a pair, and to have done: both nodes and the lease store are asked.

A node that does not answer is part of the answer. Rules: each question has an end; the pair's secret is needed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from exchange.errors import UserError
from exchange.replication.config import ActiveReplicationConfig
from exchange.replication.control_line import ControlLine, LineTrouble, parse_address, read_pair_secret
from exchange.replication.control_wire import NodeStatus, Promote, Promoted, WantStatus
from exchange.replication.lease import LeaseWatcher
from exchange.replication.lease_record import LeaseRecord

ASKER: Final = "operator"
ANSWER_SECONDS: Final = 3.0
PROMOTE_SECONDS: Final = 15.0
NODES_MAX: Final = 16


class PairStatus(NamedTuple):
    """How a pair is.

    Attributes:
        record: of the lease; None: nobody was ever primary.
        nodes: for each address that was asked what the node says, or why it says nothing.
    """

    record: LeaseRecord | None
    nodes: dict[str, NodeStatus | str]

    def document(self) -> dict[str, Any]:
        """All of it, for JSON."""
        told = {
            address: {"error": one} if isinstance(one, str) else msgspec.to_builtins(one)
            for address, one in self.nodes.items()
        }
        return {"lease": None if self.record is None else msgspec.to_builtins(self.record), "nodes": told}


def ask_pair(config: ActiveReplicationConfig, nodes: Sequence[str]) -> PairStatus:
    """How a pair is.

    Args:
        config: of one of the two.
        nodes: where to ask, as HOST:PORT; none: where the settings say.

    Raises:
        UserError: there is no secret, or no lease store, or an address is none.
    """
    secret = read_pair_secret(Path(config.secret_file))
    with LeaseWatcher(config) as watcher:
        record = watcher.record()
    asked: dict[str, NodeStatus | str] = {}
    waiting = list(nodes) or [f"{config.address}:{config.port}"]
    while waiting and len(asked) < NODES_MAX:
        address = waiting.pop(0)
        if address in asked:
            continue
        asked[address] = answer = _ask_node(address, secret)
        if isinstance(answer, NodeStatus) and answer.peer:
            waiting.append(answer.peer)
    return PairStatus(record, asked)


def _ask_node(address: str, secret: str) -> NodeStatus | str:
    try:
        with ControlLine.connect(parse_address(address, "--node"), ASKER, "status", secret) as line:
            line.send(WantStatus())
            return line.expect(NodeStatus, ANSWER_SECONDS)
    except LineTrouble as trouble:
        return f"no answer: {trouble}"


def ask_to_promote(config: ActiveReplicationConfig, nodes: Sequence[str]) -> str:
    """Have the backup take over; what there is to say about it.

    Raises:
        UserError: it is refused, and why; or nobody answers.
    """
    secret = read_pair_secret(Path(config.secret_file))
    address = (*nodes, f"{config.address}:{config.port}")[0]
    try:
        with ControlLine.connect(parse_address(address, "--node"), ASKER, "promote", secret) as line:
            line.send(Promote())
            return line.expect(Promoted, PROMOTE_SECONDS).told
    except LineTrouble as trouble:
        raise UserError(f"{address}: {trouble}") from trouble
