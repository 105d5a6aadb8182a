"""One seed from its beginning to its end.

Turn by turn the seed says who is next: a client does something, the network carries some bytes, an agent of the
exchange does its work once, somebody waits at the door, time passes, a line breaks. After a while the faults end: lines
hold, clients come back, read and repeat what was not answered, every agent gets its turn. Within a bounded number of
turns everything must then come to rest, and what must hold at rest is checked. An exchange that waits for something
that never comes is found here.

A broken invariant ends the run; so does an exception, which is as good a finding."""

import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple
from zlib import crc32

from msgspec import structs

from exchange.agent_layout import JOURNAL_AGENT
from exchange.clock import ManualTime
from exchange.gateway.order_table import USER_REFERENCE_MASK
from exchange.journal.config import NoneJournalConfig
from exchange.matching.digest import state_digest
from exchange.messages import (
    ALL_SYMBOLS,
    EVENT_STRUCT,
    RECORD_BYTES,
    Command,
    CommandKind,
    Event,
    EventKind,
    SymbolState,
)
from exchange.native import load_int64
from exchange.recovery.twin import make_snapshot
from exchange.settings import Settings
from exchange.simulation.chance import Chance, Teller, Trace
from exchange.simulation.client import SimulatedClient
from exchange.simulation.dialects import Ouch42
from exchange.simulation.disk import SimulatedDisk
from exchange.simulation.faults import (
    Announcements,
    change_room,
    end_faults,
    fail_sync,
    hearing,
    hindered,
    keep_journals,
)
from exchange.simulation.invariants import (
    BrokenInvariant,
    Expectations,
    LimitsKept,
    Texts,
    broken,
    open_orders,
)
from exchange.simulation.network import Line
from exchange.simulation.oracle import ShardTwin
from exchange.simulation.plan import PROFILE, Plan, draw_plan
from exchange.simulation.refusals import room_from
from exchange.simulation.rest import check_at_rest, check_cancels, check_tables
from exchange.simulation.restart import KILL, POWER_CUT, end_and_restart
from exchange.simulation.venue import START_NS, Made, SimulatedVenue, SteppedAgent

TURNS_PER_ACTION_MAX: Final = 400
"""So many turns pass at most until the clients have acted as often as planned."""

ROUNDS_TO_REST_MAX: Final = 3_000
"""In a round of the end every line, agent and client has its turn once."""

QUIET_ROUNDS: Final = 3
ROUND_NS: Final = 500_000
CRASHES_MAX: Final = 4
MEMORY_FOLDER: Final = Path("/dev/shm")

DIGEST_EVERY: Final = 64
"""After so many steps of shards their books are held against the twins' books."""


class Outcome(NamedTuple):
    """What came of a seed: ``failure`` is None, or what is wrong, and ``trace`` the traceback of an exception."""

    seed: int
    digest: str
    steps: int
    messages: int
    commands: int
    failure: str | None
    trace: str = ""


def simulate(
    seed: int,
    profile: str = PROFILE,
    overrides: Sequence[str] = (),
    actions: int = 0,
    tell: Teller | None = None,
    folder: Path | None = None,
) -> Outcome:
    """Run a seed.

    Args:
        seed: decides everything.
        profile: the exchange to simulate.
        overrides: TABLE.KEY=VALUE texts, which the seed leaves alone.
        actions: how often clients act; 0 is the usual.
        tell: is told each step.
        folder: under which the journal is kept; it is gone afterwards.

    Raises:
        UserError: a profile that cannot be simulated.
    """
    plan = draw_plan(seed, profile, overrides, actions)
    steps = Trace(tell)
    failure, trace = None, ""
    with fresh_folder(folder) as place, hearing(steps) as announcements:
        simulation = Simulation(seed, plan, steps, place, announcements)
        try:
            simulation.run()
        except BrokenInvariant as error:
            failure = str(error)
        except Exception as error:
            failure, trace = f"{type(error).__name__}: {error}", traceback.format_exc()
        finally:
            simulation.close()
    messages = sum(len(client.told) for client in simulation.clients)
    commands = sum(twin.sequence for twin in simulation.twins)
    return Outcome(
        seed, simulation.trace.digest(), simulation.trace.steps, messages, commands, failure, trace
    )


@contextmanager
def fresh_folder(folder: Path | None = None) -> Iterator[Path]:
    """A folder under the one given, gone at the end; in memory, if none is given and the machine has such a place."""
    where = folder or (MEMORY_FOLDER if MEMORY_FOLDER.is_dir() else None)
    with TemporaryDirectory(prefix="exchange-simulation-", dir=where) as path:
        yield Path(path)


class Simulation:
    """An exchange, its clients and the world between them.

    Args:
        seed: decides everything.
        plan: what it has decided so far.
        trace: where steps are noted.
        folder: where the disk is.
        announcements: what the exchange says of it.
    """

    def __init__(
        self, seed: int, plan: Plan, trace: Trace, folder: Path, announcements: Announcements
    ) -> None:
        self.plan: Final = plan._replace(settings=_kept_in(plan.settings, folder / "journal"))
        self.trace: Final = trace
        self.announcements: Final = announcements
        self.time: Final = ManualTime(START_NS)
        self._chance: Final = Chance.of(seed, "turns")
        self._network: Final = Chance.of(seed, "network")
        self.fault_chance: Final = Chance.of(seed, "faults")
        self.disk: Final = SimulatedDisk(folder, Chance.of(seed, "disk"), trace)
        self.failed_stream = ""
        """The stream whose sync has failed, until the exchange has ended of it."""
        settings, book = plan.settings, plan.settings.book
        symbols = settings.gateway.symbols
        self.twins: Final = [
            ShardTwin(len(symbols), book.capacity_orders, book.price_min_ticks, book.price_max_ticks)
            for _ in range(settings.shards.count)
        ]
        self.clients: Final = [
            SimulatedClient(user.name, dialect, symbols, habits, seed, trace)
            for user, dialect, habits in zip(plan.users.users, plan.dialects, plan.habits, strict=True)
        ]
        self.limits: Final = LimitsKept(settings.risk, len(self.clients))
        self._lines: list[Line] = []
        self._texts: Texts = {}
        self._shard_steps = 0
        self.crashes = 0
        self.build_venue()
        self.expect_anew()
        self.disk.note_synced()

    def build_venue(self) -> None:
        """Build the exchange, which recovers if there is a journal. Raises UserError."""
        self.announcements.complaints.clear()
        with room_from(self.disk.ask_for_room, self.now_ns):
            self.venue = SimulatedVenue(self.plan.settings, self.plan.users, self.time, self.trace)
        self._agents = {agent.name: agent for agent in self.venue.agents}

    def now_ns(self) -> int:
        """The simulation's time."""
        return load_int64(self.time.clock.address)

    def may_crash(self) -> bool:
        """Whether the exchange may end once more. It counts as one if it may."""
        if self.crashes == CRASHES_MAX:
            return False
        self.crashes += 1
        return True

    def give_room(self) -> None:
        """The disk is not full any more."""
        if self.disk.is_full:
            self.disk.is_full = False
            self.trace.note("disk has room")

    def end_venue(self, *, arrives: bool, closes: bool) -> None:
        """End the exchange: its connections are closed, and its memory is gone.

        What it has sent and may have to take back does not arrive any more; else it does. ``closes`` says whether it
        still gets to close its journals.
        """
        if closes:
            self.venue.close_journals()
            self._note_synced()
        for line in self._lines:
            line.far.close()
            if not arrives:
                line.cut(0)
        self.venue.close()
        del self.venue
        self._agents = {}

    def expect_anew(self) -> None:
        """Nothing has happened yet that somebody would have to be told of."""
        midnight_ns, shards = self.venue.transport.midnight_ns, self.plan.settings.shards.count
        self.expectations = Expectations(len(self.clients), shards, midnight_ns, self._texts)

    def run(self) -> None:
        """Everything until the exchange is at rest. Raises BrokenInvariant."""
        acted, turns, turn_of = 0, 0, self.plan.turns
        while acted < self.plan.actions and turns < self.plan.actions * TURNS_PER_ACTION_MAX:
            turns += 1
            whose = turn_of.draw(self._chance)
            agent = self._agents.get(whose)
            if agent is not None:
                self._step(agent)
            elif whose == "client":
                acted += self._act(self._chance.pick(self.clients))
            else:
                getattr(self, "_turn_" + whose)()
        self._end_faults()
        self._come_to_rest()
        check_at_rest(self)
        self._end_all_connections()

    def close(self) -> None:
        """Give all sockets and memory back."""
        for line in self._lines:
            line.close()
        if hasattr(self, "venue"):
            self.venue.close()

    # Turns.

    def step_agent(self, name: str) -> None:
        """A turn of the agent with that name."""
        self._step(self._agents[name])

    def _step(self, agent: SteppedAgent) -> int:
        is_full = self.disk.is_full
        refused = self.venue.refused_count(agent) if is_full else 0
        if is_full and self.plan.refuses_writes:
            with hindered(self, agent):
                done, made = self.venue.step(agent)
        else:
            done, made = self.venue.step(agent)
        if done:
            self.trace.note(agent.name, done)
            if agent.name == JOURNAL_AGENT:
                self._note_synced()
        if is_full and self.venue.refused_count(agent) > refused:
            self.trace.note("refused", agent.name)
        if made is not None:
            self._follow(made)
        return done

    def _follow(self, made: Made) -> None:
        """A shard has made events: its twin must make the same ones of the same records."""
        twin = self.twins[made.shard]
        self.trace.note("sequenced", made.shard, twin.sequence, *_shown(made.records))
        events = twin.apply(made.records)
        if events != made.events:
            raise broken(
                "books are a function of the stream",
                f"shard {made.shard} made {made.events.hex()}, the textbook {events.hex()}",
            )
        if twin.is_crossed():
            raise broken("the book is never crossed", f"shard {made.shard} at record {twin.sequence}")
        self._note_refused(events)
        self.expectations.add(made.shard, events)
        self._check_limits(events)
        self._shard_steps += 1
        if self._shard_steps % DIGEST_EVERY == 0:
            self.compare_books()

    def _check_limits(self, events: bytes) -> None:
        """The sessions that a step was about must have no more in the books than they may."""
        books = [twin.book for twin in self.twins]
        heads = (events[place + 6 : place + 8] for place in range(0, len(events), RECORD_BYTES))
        for session_id in sorted({int.from_bytes(head, "little") for head in heads}):
            self.limits.check(self.clients[session_id].name, session_id, open_orders(books, session_id))

    def _note_refused(self, events: bytes) -> None:
        """Take down what clients with tokens call the orders that a book refuses; the event does not say it."""
        for event in map(Event._make, EVENT_STRUCT.iter_unpack(events)):
            if event.kind == EventKind.REJECTED and isinstance(self.plan.dialects[event.session_id], Ouch42):
                is_replace = event.command_kind == CommandKind.REPLACE
                number = (event.other_order_id if is_replace else event.order_id) & USER_REFERENCE_MASK
                text = self.venue.client_order_id(event.session_id, number)
                if text:
                    self._texts[event.session_id, number] = text

    def _act(self, client: SimulatedClient) -> bool:
        """A client's turn; whether it did something as a user who is logged on."""
        had, was_logged_on = client.line, client.is_logged_on
        client.act(self.venue.control.session_name)
        if client.line is not None and client.line is not had:
            self._lines.append(client.line)
            self.venue.connect(client.line)
        return was_logged_on

    def _turn_up(self) -> None:
        under_way = [line for line in self._lines if line.upward and not line.is_cut]
        if under_way:
            self._carry_up(self._network.pick(under_way), self._draw_bytes())

    def _turn_down(self) -> None:
        self._carry_down(self._network.pick(self.clients), self._draw_bytes())

    def _draw_bytes(self) -> int:
        """How much a turn of the network carries: mostly what there is."""
        return 1 << 16 if self._network.happens(0.7) else self._network.number(1, self.plan.bytes_max)

    def _turn_door(self) -> None:
        self.venue.look_at_door(self._network.number(0, 100))

    def _turn_time(self) -> None:
        duration_ns = self._network.number(1, self.plan.time_ns)
        self.trace.note("time", duration_ns)
        self.time.advance(duration_ns)

    def _note_synced(self) -> None:
        for stream in self.venue.newly_synced():
            self.disk.note_synced(stream)

    def _turn_keeper(self) -> None:
        keep_journals(self)

    def _turn_room(self) -> None:
        change_room(self)

    def _turn_failure(self) -> None:
        fail_sync(self)

    def _turn_snapshot(self) -> None:
        """What the process beside the exchange does: it reads the journal, and reads only."""
        path = make_snapshot(self.disk.folder / "journal")
        self.trace.note("snapshot", "none" if path is None else path.name)

    def _turn_crash(self) -> None:
        if self.may_crash():
            end_and_restart(self, self._network.pick((KILL, POWER_CUT)))

    def _turn_cut(self) -> None:
        client = self._network.pick(self.clients)
        if client.line is not None and not client.line.is_cut:
            kept = self._network.number(0, len(client.line.downward))
            self.trace.note("cut", client.line.name, kept)
            client.line.cut(kept)

    def _turn_command(self) -> None:
        """The operator halts a symbol, lets it trade again, or cancels all orders of a session."""
        symbol_id = self._network.number(0, len(self.plan.settings.gateway.symbols) - 1)
        state = self._network.pick((SymbolState.HALTED, SymbolState.TRADING, SymbolState.TRADING))
        command = Command(CommandKind.TRADING_STATE, symbol_id=symbol_id, quantity_lots=state)
        if self._network.happens(0.2):
            session_id = self._network.number(0, len(self.clients) - 1)
            command = Command(CommandKind.MASS_CANCEL, symbol_id=ALL_SYMBOLS, session_id=session_id)
        self.trace.note("command", *command)
        self.venue.command(command)

    def _carry_up(self, line: Line, most: int) -> int:
        carried = line.carry_up(most)
        if carried:
            self.trace.note("up", line.name, carried)
        return carried

    def _carry_down(self, client: SimulatedClient, most: int) -> int:
        """Bring bytes to a client, and tell it when its line has ended."""
        line = client.line
        if line is None or not client.is_reading:
            return 0
        moved = line.carry_down(most)
        data = line.take(most)
        if data:
            self.trace.note("hears", line.name, len(data), crc32(data))
            client.hear(data)
            self._note_told(client)
        elif (line.is_cut or line.has_ended) and not line.downward:
            self.trace.note("line ended", line.name)
            client.lose_line()
            moved += 1
        return moved + len(data)

    def _note_told(self, client: SimulatedClient) -> None:
        speaks_ouch42 = isinstance(client.dialect, Ouch42)
        session_id = self.clients.index(client)
        for told in client.new:
            shard = self.expectations.hear(session_id, told, speaks_ouch42=speaks_ouch42)
            client.told_by.append(shard)
        client.new.clear()

    # The end.

    def _end_faults(self) -> None:
        self.trace.note("no more faults")
        end_faults(self)
        for client in self.clients:
            client.be_careful()

    def _end_all_connections(self) -> None:
        """Clients hang up for good, or the exchange is killed, or both: it must cancel what it is to cancel."""
        resting = self.open_orders()
        if self.plan.hangs_up_first:
            self.trace.note("all hang up")
            for line in self._lines:
                line.cut(0)
            self._come_to_rest(has_clients=False)
            check_cancels(self, resting)
        if self.plan.has_journal:
            end_and_restart(self, KILL)
            check_tables(self)
            self._come_to_rest(has_clients=False)
            check_cancels(self, resting)
        check_tables(self)

    def open_orders(self) -> list[dict[int, int]]:
        """For each session its open lots by the orders' numbers, as the books have them."""
        books = [twin.book for twin in self.twins]
        return [open_orders(books, session_id).lots for session_id in range(len(self.clients))]

    def _come_to_rest(self, *, has_clients: bool = True) -> None:
        """Go on until nothing moves, and all clients are connected, or none is."""
        clients = self.clients if has_clients else []
        quiet, decoded = 0, b""
        for _round in range(ROUNDS_TO_REST_MAX):
            moved = 0
            for client in clients:
                self._act(client)
            for line in self._lines:
                moved += self._carry_up(line, 1 << 16)
            self.venue.look_at_door(0)
            moved += sum(self._step(agent) for agent in self.venue.agents)
            self._turn_keeper()
            moved += sum(self._carry_down(client, 1 << 16) for client in clients)
            self.time.advance(ROUND_NS)
            before, decoded = decoded, self.venue.input_words()
            connected = [client.is_logged_on for client in clients] or [not self.venue.control.connections]
            is_quiet = moved == 0 and decoded == before and all(connected)
            quiet = quiet + 1 if is_quiet and self.venue.waiting() == 0 else 0
            if quiet == QUIET_ROUNDS:
                return
        raise broken("it comes to rest", f"it has not after {ROUNDS_TO_REST_MAX} rounds without faults")

    def compare_books(self) -> None:
        """The books of the shards must be those of their twins."""
        expected = state_digest([twin.book for twin in self.twins], self.venue.exchange.shard_of_symbol)
        found = self.venue.exchange.digest()
        self.trace.note("books", found)
        if found != expected:
            raise broken(
                "books are a function of the stream", f"the digest is {found}, the textbook's {expected}"
            )


def _kept_in(settings: Settings, folder: Path) -> Settings:
    """The settings with the journal in that folder, if there is one."""
    if isinstance(settings.journal, NoneJournalConfig):
        return settings
    return structs.replace(settings, journal=structs.replace(settings.journal, directory=str(folder)))


def _shown(records: bytes) -> list[str]:
    """For each record its kind and its session, and a digest of them all."""
    heads = [records[place : place + 8] for place in range(0, len(records), RECORD_BYTES)]
    named = [f"{CommandKind(head[0]).name.lower()}:{int.from_bytes(head[6:8], 'little')}" for head in heads]
    return [*named, str(crc32(records))]
