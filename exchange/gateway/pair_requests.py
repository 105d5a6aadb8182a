"""What the other one of a pair, or an operator, wants of a node: to follow it, a copy, to know how it is, a promotion.

Rules: each is dealt with in the thread of its line (:mod:`exchange.replication.control_listener`)."""

from typing import TYPE_CHECKING, Final

from exchange.errors import UserError
from exchange.replication.control_line import ControlLine, LineTrouble
from exchange.replication.control_wire import Promote, Promoted, WantStatus

if TYPE_CHECKING:
    from exchange.gateway.paired_server import PairedServer

ASK_SECONDS: Final = 2.0
"""How long whoever has connected may take to say what it wants."""

PROMOTE_SECONDS: Final = 12.0
"""How long a primary may take to end, so that its backup takes over."""


class PairRequests:
    """Deals with the lines to one node."""

    def __init__(self, server: "PairedServer") -> None:
        self._server: Final = server

    def handle(self, line: ControlLine) -> None:
        """Do what whoever has connected wants.

        Raises:
            LineTrouble: the line has ended.
            UserError: a link or a file is not to be had.
        """
        primary, node = self._server.primary, self._server.node
        match line.purpose:
            case "status":
                line.expect(WantStatus, ASK_SECONDS)
                self._tell_status(line)
            case "promote":
                line.expect(Promote, ASK_SECONDS)
                self._promote(line)
            case "join" | "copy" if line.node == node:
                line.refuse(
                    f"replication.node = {node!r} is the primary's name; a backup needs one of its own"
                )
            case "join" if primary is not None:
                primary.serve_backup(line)
            case "copy" if primary is not None:
                primary.copy_to(line)
            case "join" | "copy":
                line.refuse(f"{node!r} is a backup itself")
            case purpose:
                line.refuse(f"nothing is known of {purpose!r}")

    def _tell_status(self, line: ControlLine) -> None:
        side = self._server.primary or self._server.backup
        if side is None:
            line.refuse(f"{self._server.node!r} is only just starting")
        else:
            line.send(side.status())

    def _promote(self, line: ControlLine) -> None:
        """Have the backup take over, or say why not."""
        is_primary = self._server.primary is not None
        try:
            told = self._promote_from_primary() if is_primary else self._promote_from_backup()
        except UserError as error:
            line.refuse(str(error))
        else:
            line.send(Promoted(told))

    def _promote_from_primary(self) -> str:
        primary, node = self._server.primary, self._server.node
        assert primary is not None
        if not primary.is_in_sync:
            status = primary.status()
            behind = sum(one.appended - one.applied for one in status.streams)
            lacks = f" It lacks {behind:,} records." if primary.backup else " There is no backup."
            raise UserError(f"{node!r} cannot hand over: {status.state}.{lacks}")
        try:
            return self._server.begin_to_hand_over().result(PROMOTE_SECONDS)
        except TimeoutError:
            raise UserError(f"{node!r} has not handed over in {PROMOTE_SECONDS:g} s") from None

    def _promote_from_backup(self) -> str:
        """Ask the primary; it is the one that knows whether we have everything."""
        server, backup, address = self._server, self._server.backup, self._server.primary_address
        assert backup is not None
        assert address is not None
        if not backup.is_in_sync:
            raise UserError(
                f"{server.node!r} is not in sync ({backup.state}): orders that were acknowledged would be lost"
            )
        try:
            with ControlLine.connect(address, server.node, "promote", server.secret) as line:
                line.send(Promote())
                return line.expect(Promoted, PROMOTE_SECONDS + ASK_SECONDS).told
        except LineTrouble as trouble:
            raise UserError(
                f"the primary does not hand over ({trouble}); {server.node!r} takes over by itself when the lease of"
                " one that is lost has run out"
            ) from trouble
