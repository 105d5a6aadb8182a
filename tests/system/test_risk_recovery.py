"""What risk knows of sessions and symbols is there again after a restart, from the journal alone or from a snapshot."""

from pathlib import Path

from exchange.gateway.inbound import KILLED
from exchange.gateway.server import Server
from exchange.recovery.twin import make_snapshot
from exchange.risk.limits import LimitsMemory, SessionRisk
from exchange.wire.ouch50 import Rejected, RejectReason
from exchange.wire.ouch_codes import Side
from tests.gateway_driver import BareClient, order, replacement, run, serving
from tests.system.test_recovery import compile_recovery, copied, overrides, settled

NAMES = ("alice", "bob", "carol")
PRICE = 100_0000


def used(server: Server) -> tuple[list[SessionRisk], list[int | None]]:
    """What all sessions have open, and the symbols' reference prices; refusals are not kept."""
    risk = server.transport.risk
    assert isinstance(risk, LimitsMemory)
    sessions = [risk.read_session(number)._replace(refused={}) for number in range(len(NAMES))]
    return sessions, [risk.reference_price(symbol_id) for symbol_id in range(3)]


async def trade_and_kill(server: Server, alice: BareClient, bob: BareClient) -> None:
    """Orders that rest, trade and are replaced; then bob is stopped, whose orders stay as they are."""
    await alice.request(
        order(1, quantity=100), order(2, quantity=70, symbol="MSFT"), replacement(2, 3, 90, PRICE - 5)
    )
    await alice.answers(3)
    await bob.request(order(1, Side.SELL, 30), order(2, Side.SELL, 11, PRICE + 7))
    await bob.answers(3)
    server.transport.set_killed(1, is_killed=True)
    assert server.transport.note(KILLED, 1)


async def is_as_it_was(server: Server) -> None:
    """The limits hold for what there was, and bob may not ask for anything."""
    bob = await BareClient.log_on(server, "bob", sequence=0)
    await bob.packet()
    await bob.request(order(100))
    while not isinstance(answer := await bob.answer(), Rejected):
        pass
    assert answer.reason == RejectReason.FIRM_NOT_AUTHORIZED
    alice = await BareClient.log_on(server, "alice", sequence=0)
    await alice.packet()
    risk = server.transport.risk
    assert isinstance(risk, LimitsMemory)
    risk.limit_session(0, "exposure_max", risk.read_session(0).exposure + 1)
    await alice.request(order(100, quantity=1, price=2))
    while not isinstance(answer := await alice.answer(), Rejected):
        pass
    assert answer.reason == RejectReason.RISK_AGGREGATE_EXPOSURE_EXCEEDED
    for client in (alice, bob):
        await client.close()


def test_exposure_references_and_the_kill_switch_survive(tmp_path: Path) -> None:
    options = {"kind": "mapped", "gate": "synced", "shards": "one"}
    path = tmp_path / "journal"

    async def scenario() -> None:
        async with serving(*NAMES, overrides=overrides(path, **options), speak_ouch42=("carol",)) as server:
            clients = [await BareClient.log_on(server, name, sequence=2) for name in ("alice", "bob")]
            for client in clients:
                await client.packet()
            await trade_and_kill(server, *clients)
            await settled(server)
            before = used(server)
            assert before[0][0] == SessionRisk(2, 70 * PRICE + 90 * (PRICE - 5), {})
            assert before[0][1] == SessionRisk(1, 11 * (PRICE + 7), {})
            assert before[1] == [PRICE, None, None]
            async with copied(path, tmp_path / "from the start", *NAMES, **options) as again:
                assert used(again) == before
                await is_as_it_was(again)
            assert make_snapshot(path) is not None
            async with copied(path, tmp_path / "from a snapshot", *NAMES, **options) as again:
                assert used(again) == before
                await is_as_it_was(again)
            for client in clients:
                await client.close()

    compile_recovery(overrides(tmp_path / "compiling", **options))
    run(scenario(), overrides(tmp_path / "compiling", **options))
