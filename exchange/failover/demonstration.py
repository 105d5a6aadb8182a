"""The run of a demonstration: start a pair, let clients trade, strike the primary, let it come back, end, reckon up.

::

    store, a (primary), b (its backup)  ->  in sync
        clients trade ... strike ... clients go on at the other one        } for each
        the old primary comes back as the backup of the new one, in sync   } failover
    end in order  ->  replay the survivor's journal, compare digests, account

The clients run in this process, on a core of their own if there is one, and everything else in children, whose files
are in one folder. However a demonstration ends, with a result, a mistake or Ctrl-C, the children have ended.

Rules: on the main thread. What happens is told as it happens (:class:`~exchange.failover.narrator.Narrator`).
"""

import random
import secrets
import signal
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from exchange.bench.host import describe_host
from exchange.bench.wording import duration
from exchange.errors import UserError
from exchange.failover.account import Replayed, replay_journal
from exchange.failover.evidence import Evidence, failover_of
from exchange.failover.log_lines import LogLine
from exchange.failover.moments import in_order
from exchange.failover.narrator import Narrator, told_of
from exchange.failover.nodes import HOST, Node, NodePlace, status_text
from exchange.failover.plan import ANSWER_SECONDS, FailoverPlan, check_plan, shown_settings
from exchange.failover.results import CAUGHT_UP, FIRST_ACKNOWLEDGEMENT, LINE_LOST, FailoverResult
from exchange.failover.strike import DONE, Strike
from exchange.gateway.credentials import User, write_user
from exchange.load.generator import SENDING, compile_loop, run_once
from exchange.load.logins import Endpoint, Login
from exchange.load.measured import Measured
from exchange.load.plan import LoadPlan
from exchange.load.plan import check_plan as check_load_plan
from exchange.market_data.feed_sink import feed_sink
from exchange.replication.config import EMBEDDED_STORE, NoneReplicationConfig
from exchange.replication.control_line import make_pair_secret
from exchange.replication.lease_store import TOKEN_VARIABLE
from exchange.replication.store_process import StoreProcess
from exchange.settings import load_profile

START_SECONDS: Final = 900.0
"""On a machine that has never run an exchange everything is compiled first."""
SERVE_SECONDS: Final = 30.0
SYNC_SECONDS: Final = 120.0
BUCKET_NS: Final = 10_000_000
ENDED_STATUS: Final = {"kill": -signal.SIGKILL, "stop": 3, "promote": 0}
"""How a primary ends, by what was done to it."""


class Demonstration:
    """A pair on this machine, its clients, and what is done to it.

    Args:
        plan: what to do.
        folder: for all files; it is empty.
        narrator: is told what happens.

    Raises:
        UserError: the plan is not possible.
    """

    def __init__(self, plan: FailoverPlan, folder: Path, narrator: Narrator) -> None:
        self._plan: Final = plan
        self._settings, self._config = check_plan(plan)
        self._folder: Final = folder
        self._narrator: Final = narrator
        self._chance: Final = random.Random(plan.seed)
        self._strike: Strike | None = None
        password = secrets.token_hex(5)
        self._logins: Final = tuple(Login(f"USER{index}", password) for index in range(1, plan.sessions + 1))
        check_load_plan(self._load_plan(Endpoint(HOST, 1), Endpoint(HOST, 2)))

    def run(self, command_line: str) -> FailoverResult:
        """All of it.

        Raises:
            UserError: something does not start or end, or the primary was replaced before anybody struck it.
        """
        with ExitStack() as stack:
            primary, backup = self._start_pair(stack)
            found: list[Evidence] = []
            for number in range(1, self._plan.kills + 1):
                found.append(self._fail_over(number, primary, backup))
                primary, backup = backup, primary
                self._come_back(primary, backup)
            digests = self._end(primary, backup)
        replayed = self._replay(primary)
        digests[f"replay of {primary.name}'s journal"] = replayed.digest
        failovers = tuple(failover_of(one, replayed) for one in found)
        return FailoverResult(
            created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
            command_line=command_line,
            host=describe_host(),
            profile=self._settings.name,
            settings=shown_settings(self._settings, self._config),
            load=self._shown_load(),
            failovers=failovers,
            digests=digests,
            warnings=tuple(dict.fromkeys(text for one in found for text in one.warnings())),
        )

    # The beginning and the end.

    def _start_pair(self, stack: ExitStack) -> tuple[Node, Node]:
        """The store, a primary and a backup in sync; they have ended when the stack is closed."""
        config, tell = self._config, self._narrator.tell
        tell(
            f"starting a and b: profile {self._settings.name}, gate {config.gate}, a lease of"
            f" {duration(config.lease_ns)}"
        )
        tell("the first time on a machine everything is compiled, which takes a minute or two")
        primary, backup = self._make_nodes(stack)
        primary.start()
        backup.start(primary)
        compile_loop()
        primary.wait("listening", START_SECONDS, backup)
        tell(f"a is primary; clients reach it at {primary.place.endpoint}")
        primary.wait("backup in sync", START_SECONDS, backup)
        tell("b is in sync: it has all that a has told anybody")
        return primary, backup

    def _make_nodes(self, stack: ExitStack) -> tuple[Node, Node]:
        users, group = self._folder / "users", f"failover-demo-{secrets.token_hex(6)}"
        for login in self._logins:
            write_user(users, User.create(login.name, login.password))
        store, environment = self._start_store(stack)
        overrides = (*self._plan.both(stack.enter_context(feed_sink())), *store)
        nodes = [
            Node(
                NodePlace.choose(name, self._folder, group), self._plan.profile, overrides, users, environment,
                self._heard,
            )
            for name in ("a", "b")
        ]  # fmt: skip
        for node in nodes:
            stack.callback(node.close)
        make_pair_secret(nodes[0].place.secret_file)
        return nodes[0], nodes[1]

    def _start_store(self, stack: ExitStack) -> tuple[tuple[str, ...], dict[str, str]]:
        """A store of leases, unless the settings name one; the settings and the environment with which it is reached.

        It is what ``embedded`` stands for, but for its end: it ends with us.
        """
        if self._config.lease_store != EMBEDDED_STORE:
            return (), {}
        token = secrets.token_urlsafe(24)
        store = StoreProcess(self._folder / "leases", HOST, 0, token)
        stack.callback(store.close)
        store.start()
        return (f"replication.lease_store=nats://{store.address}:{store.port}",), {TOKEN_VARIABLE: token}

    def _end(self, primary: Node, backup: Node) -> dict[str, str | None]:
        """An end in order of both; the digests of their books, as their logs have them."""
        self._narrator.tell(f"{primary.name} ends in order, and {backup.name} with it")
        primary.signal(signal.SIGTERM)
        digests = {}
        for node in (primary, backup):
            status = node.end()
            if status != 0:
                raise UserError(f"exchange {node.name} ended with {status_text(status)}: {node.last_word()}")
            line = node.log.find("ended")
            digests[f"log of {node.name}"] = None if line is None else line.fields.get("digest")
        return digests

    def _replay(self, primary: Node) -> Replayed:
        self._narrator.tell(
            f"replaying {primary.name}'s journal in the textbook's books, and looking for each acknowledged request"
        )
        return replay_journal(primary.place.journal)

    # A failover.

    def _load_plan(self, first: Endpoint, second: Endpoint) -> LoadPlan:
        plan = self._plan
        load = LoadPlan(
            endpoint=first,
            backups=(second,),
            logins=self._logins,
            rates=(plan.rate,),
            seconds=plan.load_seconds(self._config),
            warmup_seconds=0.0,
            arrivals="constant",
            symbols=self._settings.gateway.symbols[:1],
            seed=plan.seed,
            sleeps=True,
            bucket_ns=BUCKET_NS,
            keeps_orders=True,  # so that there is something in the books that digests can differ by
            keeps_requests=True,
        )
        return load._replace(answer_s=ANSWER_SECONDS) if plan.how == "stop" else load

    def _shown_load(self) -> dict[str, object]:
        load = self._load_plan(Endpoint(HOST, 1), Endpoint(HOST, 2))
        return {
            "requests_per_second": self._plan.rate,
            "sessions": len(load.logins),
            "seconds": load.seconds,
            "arrivals": load.arrivals,
            "orders": load.orders,
            "answer_timeout_s": load.answer_s,
        }

    def _fail_over(self, number: int, primary: Node, backup: Node) -> Evidence:
        """Have clients trade, and strike the primary meanwhile."""
        plan = self._plan
        config = load_profile(plan.profile, primary.overrides).replication
        assert not isinstance(config, NoneReplicationConfig)
        strike = Strike(primary, config, plan.how, self._chance, self._struck)
        self._strike = strike
        measured = self._trade(number, primary, backup, strike)
        self._check_struck(primary, backup, strike)
        status = self._end_of_old(primary)
        found = Evidence(
            number,
            plan,
            primary,
            backup,
            strike,
            measured,
            backup.log.all(),
            status,
            primary.log.all(),
        )
        self._strike = None
        self._tell_of_clients(found)
        return found

    def _trade(self, number: int, primary: Node, backup: Node, strike: Strike) -> Measured:
        plan, tell = self._plan, self._narrator.tell

        def detail(text: str) -> None:
            if text == SENDING:
                tell(
                    f"{plan.sessions} clients send {plan.rate:,.0f} requests/s, each when it is due, answered or not"
                )
                strike.begin()

        load = self._load_plan(primary.place.endpoint, backup.place.endpoint)
        try:
            measured = run_once(load, plan.rate, number - 1, detail)
        except UserError as error:
            strike.call_off()
            words = "; ".join(f"{one.name}: {one.last_word()}" for one in (primary, backup))
            raise UserError(f"the clients could not go on: {error} ({words})") from error
        except BaseException:
            strike.call_off()
            raise
        strike.join()
        return measured

    def _struck(self, strike: Strike) -> None:
        """The primary has been struck. On the thread of the strike."""
        self._narrator.tell(f"{DONE[self._plan.how]} {strike.node.name} (process {strike.node.process_id}):")

    def _heard(self, node: Node, line: LogLine) -> None:
        """A line of an exchange's log; what belongs to a failover is told at once. On a thread of the log's."""
        strike = self._strike
        if strike is None or node is strike.node or not 0 < strike.unix_ns <= line.time_ns:
            return
        if (text := told_of(node.name, line)) is not None:
            self._narrator.tell_after(line.time_ns - strike.unix_ns, text)

    def _check_struck(self, primary: Node, backup: Node, strike: Strike) -> None:
        """The other one has taken over, and for no other reason than the strike."""
        if strike.error is not None:
            raise strike.error
        replaced = primary.log.find("replaced")
        if strike.unix_ns == 0 or (replaced is not None and replaced.time_ns < strike.unix_ns):
            raise UserError(
                f"{primary.name} was replaced before anything was done to it: the machine is so busy that its lease of"
                f" {duration(self._config.lease_ns)} ran out by itself; --set replication.lease_ns=... makes it longer"
            )
        backup.wait("listening", SERVE_SECONDS)

    def _end_of_old(self, old: Node) -> int:
        """The old primary's end; its status."""
        how = self._plan.how
        if how == "stop":
            self._narrator.tell(f"SIGCONT to {old.name}: it wakes up, and finds that it was replaced")
            old.signal(signal.SIGCONT)
        status = old.end()
        if status != ENDED_STATUS[how]:
            raise UserError(f"exchange {old.name} ended with {status_text(status)}: {old.last_word()}")
        if how != "kill":
            self._narrator.tell(f"{old.name} has ended with {status_text(status)}: {old.last_word()}")
        return status

    def _tell_of_clients(self, found: Evidence) -> None:
        moments = found.moments()
        texts = {
            LINE_LOST: "clients: the first has noticed that its line is gone",
            FIRST_ACKNOWLEDGEMENT: "clients: the FIRST ACKNOWLEDGEMENT of a request that came due after it",
            CAUGHT_UP: "clients: everything that had become due meanwhile is answered",
        }
        for moment in in_order({name: moments[name] for name in texts}):
            if moment.after_ns is not None:
                self._narrator.tell_after(moment.after_ns, texts[moment.name])

    def _come_back(self, primary: Node, old: Node) -> None:
        self._narrator.tell(f"{old.name} is started again, as the backup of {primary.name}")
        old.start(primary)
        primary.wait("backup in sync", SYNC_SECONDS, old)
        self._narrator.tell(f"{old.name} is in sync, and could take over")
