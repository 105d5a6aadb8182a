"""The table [risk] of a profile: what single sessions and symbols are given, and what is wrong with it."""

from pathlib import Path

import pytest

from exchange.errors import UserError
from exchange.risk import build_risk
from exchange.risk.limits import LimitsMemory
from exchange.settings import load_profile

USERS, SYMBOLS = ["ALICE", "BOB"], ("AAPL", "BRK.A")


def built(*overrides: str) -> LimitsMemory:
    settings = load_profile("serve", ["gateway.symbols=['AAPL', 'BRK.A']", *overrides])
    memory = build_risk(settings.risk, USERS, settings.gateway.symbols)
    assert isinstance(memory, LimitsMemory)
    return memory


def test_nothing_is_limited_unless_somebody_says_so() -> None:
    memory = built()
    for session_id in range(2):
        limits = dict(memory.session_limits(session_id))
        assert limits.pop("orders_burst") == 100
        assert not any(limits.values())
    assert not any(memory.symbol_limits(1).values())
    assert memory.reference_price(0) is None


def test_a_session_has_its_own_in_place_of_the_tables_and_a_symbol_has_its_own() -> None:
    memory = built(
        "risk.order_lots_max=100",
        "risk.collar_basis_points=500",
        "risk.sessions=['alice:order_lots_max=900', 'BOB:exposure_max=7']",
        "risk.symbols=['BRK.A:collar_basis_points=50', 'BRK.A: order_lots_max = 5']",
    )
    alice, bob = (memory.session_limits(session_id) for session_id in range(2))
    assert (alice["order_lots_max"], alice["exposure_max"]) == (900, 0)
    assert (bob["order_lots_max"], bob["exposure_max"]) == (100, 7)
    aapl, brk = (memory.symbol_limits(symbol_id) for symbol_id in range(2))
    assert (aapl["order_lots_max"], aapl["collar_basis_points"]) == (0, 500)
    assert (brk["order_lots_max"], brk["collar_basis_points"]) == (5, 50)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("risk.symbols=['NOPE:order_lots_max=1']", "names a symbol that gateway.symbols does not have"),
        (
            "risk.symbols=['AAPL:exposure_max=1']",
            "exposure_max is no limit; allowed: order_lots_max, order_notional",
        ),
        ("risk.symbols=['AAPL']", "must be OWNER:LIMIT=NUMBER, with one of order_lots_max"),
        ("risk.symbols=['AAPL:order_lots_max=-1']", "must be OWNER:LIMIT=NUMBER"),
        (
            "risk.sessions=['ALICE:order_lots_max=1000000']",
            "out of range; must be an integer from 0 to 999999",
        ),
        (
            "risk.sessions=['ALICE:collar_basis_points=1']",
            "collar_basis_points is no limit; allowed: order_lots_max",
        ),
        ("risk.orders_burst=0", "must be an integer from 1 to 1000000"),
    ],
)
def test_a_mistake_names_the_key_and_what_is_allowed(override: str, told: str) -> None:
    with pytest.raises(UserError) as caught:
        built(override)
    message = str(caught.value)
    assert override.split("=")[0] in message
    assert told in message
    assert "\n" not in message


def test_a_user_that_is_not_there_is_told_when_the_exchange_is_built() -> None:
    with pytest.raises(
        UserError, match=r'risk.sessions: "carol:order_lots_max=1" names a user that the users'
    ):
        built("risk.sessions=['carol:order_lots_max=1']")


def test_the_example_of_the_page_is_a_profile(tmp_path: Path) -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "layers" / "risk.md"
    example = page.read_text(encoding="utf-8").split("```toml\n")[1].split("```")[0]
    (tmp_path / "mine.toml").write_text(f'extends = "serve"\n{example}')
    settings = load_profile(tmp_path / "mine.toml")
    memory = build_risk(settings.risk, USERS, settings.gateway.symbols)
    assert isinstance(memory, LimitsMemory)
    assert memory.session_limits(0)["order_lots_max"] == 50_000
    assert memory.session_limits(1)["exposure_max"] == 2_000_000_000
    tsla = settings.gateway.symbols.index("TSLA")
    assert [memory.symbol_limits(one)["collar_basis_points"] for one in (0, tsla)] == [1000, 500]
