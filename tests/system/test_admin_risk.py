"""Risk through the admin interface, over real HTTP: limits that change, and the kill switch."""

from pathlib import Path
from typing import Any

import pytest

from exchange.wire.ouch50 import OrderAccepted, OrderCanceled, Rejected, RejectReason
from tests.gateway_driver import BareClient, eventually, order, run
from tests.system.test_admin import administered, get, log_on, statistics

SESSION, SYMBOL = "/sessions/alice/limits", "/symbols/AAPL/limits"
TOO_MANY, TOO_MUCH, TOO_FAR = (
    RejectReason.RISK_MAXIMUM_QUANTITY_EXCEEDED,
    RejectReason.RISK_AGGREGATE_EXPOSURE_EXCEEDED,
    RejectReason.RISK_FAT_FINGER,
)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "field", "allowed"),
    [
        ("POST", "/sessions/carol/kill", b"", 404, "user", "must be a user of the exchange"),
        ("PUT", SESSION, b'{"limit": "speed", "value": 1}', 422, "limit", "order_lots_max, order"),
        ("PUT", SESSION, b'{"limit": "order_lots_max", "value": 1000000}', 422, "order_lots_max",
         "out of range; must be an integer from 0 to 999999"),
        ("PUT", SESSION, b'{"limit": "collar_basis_points", "value": 1}', 422, "limit", "exposure_max"),
        ("PUT", SYMBOL, b'{"limit": "collar_basis_points", "value": -1}', 422, "collar_basis_points",
         "an integer from 0 to 1000000"),
        ("PUT", "/symbols/NONE/limits", b'{"limit": "collar_basis_points", "value": 1}', 404, "symbol", "AAPL, MSFT"),
        ("PUT", "/symbols/AAPL/reference-price", b'{"price_ticks": 0}', 422, "price_ticks", "a price of the book, 1"),
    ],
)  # fmt: skip
def test_a_mistake_names_field_value_and_what_is_allowed(
    tmp_path: Path, method: str, path: str, body: bytes, status: int, field: str, allowed: str
) -> None:
    async def scenario() -> None:
        async with administered(tmp_path) as (_server, client):
            before = await get(client, "/risk")
            answer = await client.request(method, path, content=body)
            assert answer.status_code == status, answer.text
            error = answer.json()["error"]
            assert error["field"] == field
            assert allowed in error["allowed"]
            assert await get(client, "/risk") == before

    run(scenario())


async def refused_for(client: BareClient, number: int, **changes: Any) -> RejectReason:
    """What an order is refused for."""
    await client.request(order(number, **changes))
    refused = await client.answer()
    assert isinstance(refused, Rejected), refused
    assert refused.user_reference_number == number
    return RejectReason(refused.reason)


def test_a_killed_session_has_nothing_and_gets_nothing_until_it_is_revived(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with administered(tmp_path, "alice", "bob") as (server, admin):
            alice, bob = [await log_on(server, name) for name in ("alice", "bob")]
            await alice.request(order(1), order(2, symbol="MSFT"))
            await bob.request(order(1))
            await alice.answers(2)
            await bob.answer()
            killed = (await admin.post("/sessions/alice/kill")).json()
            assert killed == {"user": "ALICE", "session": 0, "action": "kill"}
            canceled = await alice.answers(2)
            assert {(type(one), one.user_reference_number, one.reason) for one in canceled} == {
                (OrderCanceled, 1, "S"),
                (OrderCanceled, 2, "S"),
            }
            assert await refused_for(alice, 3) == RejectReason.FIRM_NOT_AUTHORIZED
            assert (await statistics(admin)).risk[0].refused == {"killed": 1}
            await alice.close()
            await eventually(lambda: server.control.connected == 1)
            again = await BareClient.log_on(server, "alice", sequence=7)
            await again.packet()
            assert await refused_for(again, 4) == RejectReason.FIRM_NOT_AUTHORIZED
            await bob.request(order(2))
            assert isinstance(await bob.answer(), OrderAccepted)
            assert [one["is_killed"] for one in await get(admin, "/sessions")] == [True, False]
            assert (await statistics(admin)).gateway.sessions_killed == 1
            assert (await admin.post("/sessions/alice/revive")).json()["action"] == "revive"
            assert (await statistics(admin)).gateway.sessions_killed == 0
            await again.request(order(5))
            assert isinstance(await again.answer(), OrderAccepted)
            for client in (again, bob):
                await client.close()

    run(scenario())


def test_limits_of_sessions_and_symbols_are_changed_and_told(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with administered(tmp_path, "alice", "bob") as (server, admin):
            alice = await log_on(server, "alice")
            await alice.request(order(1, quantity=100), order(2, quantity=50, symbol="MSFT"))
            await alice.answers(2)
            first, second = (await get(admin, "/risk"))["sessions"]
            assert (first["open_orders"], first["exposure"]) == (2, 150 * 100_0000)
            assert (second["open_orders"], second["exposure"], second["refused"]) == (0, 0, {})
            cases = (
                ("/sessions/alice", "order_lots_max", 60, {"quantity": 61}, TOO_MANY),
                ("/symbols/MSFT", "order_lots_max", 20, {"quantity": 21, "symbol": "MSFT"},
                 TOO_MANY),
                ("/symbols/AAPL", "collar_basis_points", 100, {"quantity": 1, "price": 101_0001}, TOO_FAR),
                ("/sessions/alice", "open_orders_max", 2, {"quantity": 1}, TOO_MUCH),
            )  # fmt: skip
            for number, (path, limit, value, changes, reason) in enumerate(cases, 10):
                given = await admin.put("/symbols/AAPL/reference-price", json={"price_ticks": 100_0000})
                assert given.json()["symbols"][0]["reference_price_ticks"] == 100_0000
                changed = (await admin.put(f"{path}/limits", json={"limit": limit, "value": value})).json()
                kind, name = path.strip("/").split("/")
                held = [one["limits"][limit] for one in changed[kind] if name.upper() in one.values()]
                assert held == [value]
                assert await refused_for(alice, number, **changes) == reason
            told = {(one.user, *one.refused.items()) for one in (await statistics(admin)).risk}
            assert told == {("ALICE", ("lots", 2), ("collar", 1), ("open_orders", 1))}
            metrics = (await admin.get("/metrics")).text
            assert 'exchange_risk_refused_total{reason="lots",user="ALICE"} 2.0' in metrics
            assert 'exchange_session_open_orders{user="ALICE"} 2.0' in metrics
            await alice.close()

    run(scenario())


def test_without_limits_there_is_still_the_kill_switch(tmp_path: Path) -> None:
    overrides = ("risk.kind=none",)

    async def scenario() -> None:
        async with administered(tmp_path, overrides=overrides) as (server, admin):
            limit = {"limit": "order_lots_max", "value": 1}
            refused = await admin.put("/sessions/alice/limits", json=limit)
            assert (refused.status_code, refused.json()["error"]["field"]) == (409, "risk.kind")
            assert (await statistics(admin)).risk == []
            alice = await log_on(server, "alice")
            assert (await admin.post("/sessions/alice/kill")).status_code == 200
            assert await refused_for(alice, 1) == RejectReason.FIRM_NOT_AUTHORIZED
            await alice.close()

    run(scenario(), overrides)
