"""The end without notice, and what must be there afterwards.

The process is killed, or the machine loses power, or the exchange ends itself, for its disk has failed. Every
connection ends; what the exchange knew is gone but for its journal. If the disk is full, it does not start and says
why; then there is room. So an exchange is built anew and recovers, by the same code as a served one, and what it has
is held against what there was:

* a process that was killed loses nothing that it had written, so nothing that it had sequenced, applied or told;
* a power cut may take away what was not synced. With the gate ``synced`` that is nothing that anybody has been told;
  with the other gates a client may have to forget the newest of its messages, and nothing else;
* a sync that failed is a power cut for its stream, and changes no other stream;
* what is left is the same as before, byte for byte: the streams, the books, every message under its number.

The twins go back to what is left, and are told of everything again; so are the expectations. Then the run goes on."""

from typing import TYPE_CHECKING, Final

from exchange.errors import UserError
from exchange.messages import RECORD_BYTES
from exchange.simulation.dialects import Ouch42
from exchange.simulation.invariants import broken, open_orders

if TYPE_CHECKING:
    from exchange.simulation.client import SimulatedClient
    from exchange.simulation.simulator import Simulation

KILL: Final = "kill"
POWER_CUT: Final = "power cut"
SYNC_FAILED: Final = "sync failed"

OUTAGE_NS: Final = 2_000_000_000
"""How long an exchange is away."""


def end_and_restart(simulation: "Simulation", kind: str) -> None:
    """End the exchange as a kill, a power cut or a failed sync does, and recover. Raises BrokenInvariant."""
    simulation.trace.note(kind)
    closes, failed_stream = kind == SYNC_FAILED, simulation.failed_stream
    if failed_stream and kind == KILL:  # before the exchange could end by itself
        kind = SYNC_FAILED
    logs = [simulation.venue.logged_messages(number) for number in range(len(simulation.clients))]
    told_sequences = tuple(simulation.expectations.told_sequence)
    keeps_told = kind == KILL or simulation.plan.settings.journal.gate == "synced"  # type: ignore[union-attr]
    simulation.end_venue(arrives=keeps_told, closes=closes)
    if kind != KILL:
        simulation.disk.lose_power("" if kind == POWER_CUT else failed_stream)
    simulation.failed_stream = ""
    simulation.time.advance(OUTAGE_NS)
    _start(simulation)
    simulation.disk.note_synced()
    _check_streams(simulation, kind, told_sequences)
    for session_id, client in enumerate(simulation.clients):
        log = simulation.venue.logged_messages(session_id)
        if kind == KILL and log[: len(logs[session_id])] != logs[session_id]:
            raise broken(
                "nothing written is lost",
                f"{client.name}'s log had {len(logs[session_id])} messages, and now has {len(log)} others",
            )
        _check_told(simulation, session_id, client, log, keeps_told=keeps_told)


def _start(simulation: "Simulation") -> None:
    """Build the exchange anew; on a full disk it must not start before there is room."""
    try:
        if simulation.disk.is_full:
            _check_does_not_start(simulation)
            simulation.give_room()
        simulation.build_venue()
    except UserError as error:
        where = f"{simulation.disk.folder}/"  # another one each time
        raise broken("an exchange can be recovered", str(error).replace(where, "")) from error


def _check_does_not_start(simulation: "Simulation") -> None:
    """Raises UserError if it says anything else than that there is no room."""
    try:
        simulation.build_venue()
    except UserError as error:
        if "journal.segment_bytes" not in str(error):
            raise
        simulation.trace.note("does not start")
    else:
        raise broken(
            "a full disk is told of", "the exchange has started, and there is no room for its journal"
        )


def _check_streams(simulation: "Simulation", kind: str, told_sequences: tuple[int, ...]) -> None:
    """The records that are left must be the first of those that there were; the twins go back to them."""
    simulation.expect_anew()
    for shard, twin in enumerate(simulation.twins):
        left, before = simulation.venue.sequence(shard), twin.sequence
        simulation.trace.note("recovered", shard, before, left)
        if left > before or (kind == KILL and left < before):
            raise broken("nothing written is lost", f"shard {shard} had {before} records, and now has {left}")
        if simulation.plan.settings.journal.gate == "synced" and left < told_sequences[shard]:  # type: ignore[union-attr]
            raise broken(
                "nothing acknowledged is lost",
                f"shard {shard} has {left} records, and a client was told of record {told_sequences[shard]}",
            )
        first, records = simulation.venue.journaled(shard)
        if records != twin.stream[(first - 1) * RECORD_BYTES : left * RECORD_BYTES]:
            raise broken(
                "the journal is the stream", f"shard {shard} has other records than it had sequenced"
            )
        simulation.expectations.add(shard, twin.go_back(left))
    simulation.compare_books()
    books = [twin.book for twin in simulation.twins]
    for session_id in range(len(simulation.clients)):
        simulation.limits.note_found(session_id, open_orders(books, session_id))


def _check_told(
    simulation: "Simulation",
    session_id: int,
    client: "SimulatedClient",
    log: list[bytes],
    *,
    keeps_told: bool,
) -> None:
    """What a client was told must be in its log still, under the same numbers."""
    gone = [
        sequence
        for sequence, message in client.told.items()
        if sequence > len(log) or log[sequence - 1] != message
    ]
    if gone and keeps_told:
        first = min(gone)
        now = log[first - 1].hex() if first <= len(log) else "not there"
        raise broken(
            "nothing acknowledged is lost",
            f"{client.name} was told message {first}, {client.told[first].hex()}, which is {now}",
        )
    if gone:
        simulation.trace.note("forgets", client.name, min(gone))
        client.forget(min(gone) - 1)
    speaks_ouch42 = isinstance(client.dialect, Ouch42)
    for sequence in range(1, client.heard + 1):
        told = client.dialect.told(client.told[sequence])
        among = client.told_by[sequence - 1 : sequence]
        simulation.expectations.hear(session_id, told, among, speaks_ouch42=speaks_ouch42)
