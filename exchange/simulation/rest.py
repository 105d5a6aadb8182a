"""What must hold when the faults have ended and nothing moves any more.

Everything has been told, every order has had its answer, and the four places that know of an order agree: the books,
the session's table, what its owner knows, and the counters of its limits. An order that is in one of them and not in
another is one that was lost or forgotten, which would be noticed much later otherwise."""

from typing import TYPE_CHECKING

from exchange.simulation.dialects import Ouch42
from exchange.simulation.faults import check_no_complaints
from exchange.simulation.invariants import broken, open_orders

if TYPE_CHECKING:
    from exchange.simulation.client import SimulatedClient
    from exchange.simulation.simulator import Simulation


def check_at_rest(simulation: "Simulation") -> None:
    """Hold books, clients, logs, tables and queues against each other. Raises BrokenInvariant."""
    venue = simulation.venue
    simulation.compare_books()
    simulation.expectations.check_all_told()
    check_no_complaints(simulation)
    levels = venue.exchange.queue_levels()
    if any(level.waiting for level in levels.values()) or venue.pending_events():
        raise broken("nothing waits at rest", f"{levels}")
    check_tables(simulation)
    for session_id, client in enumerate(simulation.clients):
        _check_log(simulation, session_id, client)
        _check_orders(simulation, session_id, client)


def check_cancels(simulation: "Simulation", before: list[dict[int, int]]) -> None:
    """Every connection has ended: who asked for it has no order left, and of the others all are there.

    ``before`` has what :meth:`~exchange.simulation.simulator.Simulation.open_orders` gave then.
    """
    for user, had, has in zip(simulation.plan.users.users, before, simulation.open_orders(), strict=True):
        expected = {} if user.cancels_on_disconnect else had
        if has != expected:
            raise broken(
                "orders are cancelled on disconnect, if their owner wants it",
                f"{user.name} had {had}, should have {expected}, and has {has}",
            )


def check_tables(simulation: "Simulation") -> None:
    """The tables of the sessions have the orders of the books and no others, and these are counted right."""
    for session_id, client in enumerate(simulation.clients):
        in_table = simulation.venue.table_numbers(session_id)
        in_books = open_orders([twin.book for twin in simulation.twins], session_id)
        if in_table != set(in_books.lots):
            raise broken(
                "no order is left in a table",
                f"{client.name} has {sorted(in_books.lots)} in books, and in its table {sorted(in_table)}",
            )
        counted = simulation.venue.exposure(session_id)
        if counted is not None and counted != (len(in_books.lots), in_books.value):
            raise broken(
                "exposure is counted right",
                f"{client.name} has {len(in_books.lots)} orders of {in_books.value}, counted {counted}",
            )


def _check_log(simulation: "Simulation", session_id: int, client: "SimulatedClient") -> None:
    """A session's log is what its client has."""
    venue = simulation.venue
    if venue.lost_messages(session_id):
        raise broken(
            "no message is lost", f"{client.name}: {venue.lost_messages(session_id)} found the log full"
        )
    logged = venue.logged_messages(session_id)
    told = [client.told.get(sequence) for sequence in range(1, len(client.told) + 1)]
    if logged != told or venue.log_messages(session_id) != len(told):
        raise broken(
            "the log is what the client has", f"{client.name}: {len(logged)} messages, it has {len(told)}"
        )


def _check_orders(simulation: "Simulation", session_id: int, client: "SimulatedClient") -> None:
    """Every order has had one answer, and is in the book as its owner knows it, or is over."""
    unanswered = [number for number, answers in client.entered.items() if answers != 1]
    if unanswered and not client.has_lost and not _may_ignore(simulation, client):
        raise broken("one answer for each order", f"{client.name} never heard of its orders {unanswered}")
    numbers = simulation.expectations.numbers_of(session_id)
    alive = {
        numbers.get(number, number): order.open for number, order in client.orders.items() if order.is_live
    }
    in_books = open_orders([twin.book for twin in simulation.twins], session_id).lots
    if alive != in_books:
        raise broken(
            "each order is in the book or its end was told", f"{client.name} has {alive}, the book {in_books}"
        )


def _may_ignore(simulation: "Simulation", client: "SimulatedClient") -> bool:
    """Whether a request that was on its way when the exchange ended may be taken for a repetition.

    With several shards, a later one of the same session may have been sequenced by another shard, and so used the
    number up. Tokens are not in any order.
    """
    return simulation.crashes > 0 and len(simulation.twins) > 1 and not isinstance(client.dialect, Ouch42)
