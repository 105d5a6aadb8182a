"""The ingress: takes commands from a transport and puts each into the inbox of the shard that owns its
symbol.

With one shard, commands go from where the transport shows them straight into the inbox. With several they are
first sorted into a *stage* for each shard, so that every shard still gets a batch at a time. A mass cancel
for ``ALL_SYMBOLS`` goes to every shard. When an inbox is full, its stage keeps what is left and no more
commands are taken until it has gone: commands of one symbol never overtake each other."""

from typing import Any, Final, NamedTuple

from exchange.agent import do_work
from exchange.book.ladder_events import SYMBOL_ID
from exchange.messages import ALL_SYMBOLS, RECORD_BYTES
from exchange.native import (
    Arena,
    copy_record,
    implements,
    kernel,
    load_int64,
    load_uint8,
    load_uint16,
    store_int64,
    store_uint8,
)
from exchange.queues.protocol import try_push_batch
from exchange.transport.protocol import consume, receive

# a stage: two words, then its records
STAGED: Final = 0
STAGED_FROM: Final = 8
STAGE_RECORDS: Final = 64


class Ingress(NamedTuple):
    """An ingress lane: its source, its end of every shard's inbox, the routing table (a byte a symbol), the stages.

    The word at ``left`` counts the commands that stages still hold after a turn.
    """

    source: Any
    inboxes: tuple[Any, ...]
    shard_of_symbol: int
    stages: int
    stage_bytes: int
    left: int
    batch_commands: int


class IngressMemory:
    """Owner of the routing table and the stages of one lane.

    Args:
        shard_of_symbol: for each symbol the number of the shard that owns it.
        shard_count: how many shards there are.
        batch_commands: how many commands one turn takes.
    """

    def __init__(self, shard_of_symbol: list[int], shard_count: int, batch_commands: int) -> None:
        self.stage_bytes: Final = STAGE_RECORDS + batch_commands * RECORD_BYTES
        table_bytes = ALL_SYMBOLS + 1
        self.arena: Final = Arena.private(table_bytes + shard_count * self.stage_bytes + 1024)
        self.shard_of_symbol: Final = self.arena.allocate(table_bytes)
        self.stages: Final = self.arena.allocate(shard_count * self.stage_bytes)
        self.left: Final = self.arena.allocate(8)
        for symbol_id, shard in enumerate(shard_of_symbol):
            store_uint8(self.shard_of_symbol + symbol_id, shard)


@kernel
def sort_into_stages(
    commands: int, count: int, shard_of_symbol: int, stages: int, stage_bytes: int, shard_count: int
) -> None:
    """Append each command to the (empty or begun) stage of its shard. Unknown symbols go to shard 0, which rejects."""
    for index in range(count):
        command = commands + index * RECORD_BYTES
        symbol_id = load_uint16(command + SYMBOL_ID)
        first = load_uint8(shard_of_symbol + symbol_id)
        last = first
        if symbol_id == ALL_SYMBOLS:
            first, last = 0, shard_count - 1
        for shard in range(first, last + 1):
            stage = stages + shard * stage_bytes
            staged = load_int64(stage + STAGED)
            copy_record(stage + STAGE_RECORDS + staged * RECORD_BYTES, command)
            store_int64(stage + STAGED, staged + 1)


@implements(do_work, Ingress, inline=False)
def _do_work(ingress: Ingress) -> int:
    shard_count = len(ingress.inboxes)
    if shard_count == 1:
        commands, count = receive(ingress.source, ingress.batch_commands)
        if count == 0:
            return 0
        pushed = try_push_batch(ingress.inboxes[0], commands, count)
        consume(ingress.source, pushed)
        return pushed
    received = 0
    if load_int64(ingress.left) == 0:
        commands, received = receive(ingress.source, ingress.batch_commands)
        if received > 0:
            sort_into_stages(
                commands, received, ingress.shard_of_symbol, ingress.stages, ingress.stage_bytes, shard_count
            )
            consume(ingress.source, received)
    moved, left = 0, 0
    for shard in range(shard_count):
        stage = ingress.stages + shard * ingress.stage_bytes
        staged = load_int64(stage + STAGED)
        if staged > 0:
            offset = load_int64(stage + STAGED_FROM)
            records = stage + STAGE_RECORDS + offset * RECORD_BYTES
            pushed = try_push_batch(ingress.inboxes[shard], records, staged - offset)
            moved += pushed
            left += staged - offset - pushed
            is_empty = pushed == staged - offset
            store_int64(stage + STAGED, 0 if is_empty else staged)
            store_int64(stage + STAGED_FROM, 0 if is_empty else offset + pushed)
    store_int64(ingress.left, left)
    return received + moved
