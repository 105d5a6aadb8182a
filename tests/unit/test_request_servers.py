"""Whom a receiver of a feed asks for what it has lost."""

from exchange.market_data.request_servers import PATIENCE_NS, RequestServers

PRIMARY, BACKUP, STRANGER = ("10.0.0.1", 9007), ("10.0.0.2", 9007), ("10.0.0.9", 1)


def test_unnamed_it_is_where_the_feed_came_from_last() -> None:
    servers = RequestServers(())
    assert servers.to_ask(0) == ()
    servers.heard(PRIMARY, is_answer=False)
    assert servers.to_ask(0) == (PRIMARY,)
    servers.heard(STRANGER, is_answer=True)
    assert servers.to_ask(100 * PATIENCE_NS) == (PRIMARY,)
    servers.heard(BACKUP, is_answer=False)  # another machine goes on with it
    assert servers.to_ask(100 * PATIENCE_NS) == (BACKUP,)


def test_of_several_the_one_that_answered_last_is_asked_and_all_when_it_does_not() -> None:
    servers = RequestServers([PRIMARY, BACKUP])
    servers.heard(STRANGER, is_answer=False)
    assert servers.to_ask(0) == (PRIMARY,)
    assert servers.to_ask(PATIENCE_NS - 1) == (PRIMARY,)
    assert servers.to_ask(PATIENCE_NS) == (PRIMARY, BACKUP)
    servers.heard(BACKUP, is_answer=True)
    assert servers.to_ask(2 * PATIENCE_NS) == (BACKUP,)
    assert servers.to_ask(3 * PATIENCE_NS) == (PRIMARY, BACKUP)


def test_the_only_one_is_asked_again_and_again() -> None:
    servers = RequestServers([PRIMARY])
    assert servers.to_ask(0) == servers.to_ask(100 * PATIENCE_NS) == (PRIMARY,)
