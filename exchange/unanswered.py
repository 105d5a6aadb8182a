"""What a client has asked for and not been answered: to be sent again, in the same order, on the next line.

An exchange takes user reference numbers that grow, and ignores one that is not above the last. So nothing is done twice
if everything is sent again; but a request that overtakes an older one on a new line makes the exchange ignore the older
one. :meth:`Unanswered.next_unsent` therefore gives the oldest first, those that are made meanwhile behind them.

Of a cancel, which has no number of its own, the last of its order is kept until as many answers have come as cancels
were sent. OUCH does not answer a cancel that comes too late: such a one stays, and sent again it does nothing.

Rules: the oldest of more than :data:`UNANSWERED_MAX` is forgotten. No clock and no line.
"""

from typing import Final

UNANSWERED_MAX: Final = 65_536

Key = tuple[str, int]
"""What is asked for (``order``, ``cancel``, ``account``), and the number that an answer names."""


class Unanswered:
    """Requests in the order in which they were made."""

    def __init__(self) -> None:
        self._packets: Final[dict[Key, bytes]] = {}
        self._cancels: Final[dict[int, int]] = {}
        self._sent: Final[dict[Key, bytes]] = {}

    def __len__(self) -> int:
        return len(self._packets)

    def put(self, key: Key, packet: bytes, *, is_sent: bool) -> None:
        """Remember a request that is sent now, or that waits for a line. One with the same key takes its place."""
        if len(self._packets) >= UNANSWERED_MAX and key not in self._packets:
            self.answered(next(iter(self._packets)))
        if key[0] == "cancel":
            self._cancels[key[1]] = self._cancels.get(key[1], 0) + 1
        if not is_sent:
            self._packets.pop(key, None)  # it goes out last
        self._packets[key] = packet
        if is_sent:
            self._sent[key] = packet

    def answered(self, key: Key) -> None:
        """An answer has come, or nobody waits for it any more."""
        self._packets.pop(key, None)
        self._sent.pop(key, None)
        self._cancels.pop(key[1] if key[0] == "cancel" else 0, None)

    def canceled(self, number: int) -> None:
        """An order was cancelled, or cut down: one of its cancels has its answer."""
        left = self._cancels.get(number, 1) - 1
        if left > 0:
            self._cancels[number] = left
        else:
            self.answered(("cancel", number))

    def begin_again(self) -> None:
        """There is a new line: nothing has been sent on it."""
        self._sent.clear()

    def next_unsent(self) -> list[bytes]:
        """What has not been sent on this line, the oldest first, and counts as sent now; nothing if all has been."""
        found = [(key, one) for key, one in self._packets.items() if self._sent.get(key) is not one]
        self._sent.update(found)
        return [one for _, one in found]
