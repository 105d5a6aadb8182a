"""Chance and its record: where a seed's randomness comes from, and the digest of all that came of it.

Each part of the simulation draws from a stream of its own, named after the part. So a change to what clients do leaves
alone what the network does, and a failing seed stays a failing seed for longer.

The *trace* is every step with its outcome. It is hashed as it grows and kept only for who wants to read it: two runs
of a seed must give the same digest, which a test holds against the simulator itself. Nothing may go into it that
another run would have otherwise: no address, no descriptor, no time of the machine."""

import random
from bisect import bisect_right
from collections.abc import Callable, Sequence
from hashlib import blake2b
from itertools import accumulate
from typing import Final, Self

Teller = Callable[[str], None]
"""Told each step in a line, for who wants to see them."""


class Chance(random.Random):
    """A stream of randomness."""

    @classmethod
    def of(cls, seed: int, part: str) -> Self:
        """The stream of a part under a seed."""
        return cls(f"{seed} {part}")

    def happens(self, probability: float) -> bool:
        """True with that probability."""
        return self.random() < probability

    def pick[T](self, among: Sequence[T]) -> T:
        """One of them, each as likely."""
        return among[int(self.random() * len(among))]

    def number(self, least: int, most: int) -> int:
        """A whole number, both ends included."""
        return least + int(self.random() * (most - least + 1))


class Weights[T]:
    """Outcomes with a weight each, to draw from; a weight of 0 never comes."""

    def __init__(self, weights: dict[T, float]) -> None:
        self._outcomes: Final = list(weights)
        self._sums: Final = list(accumulate(weights.values()))

    def draw(self, chance: random.Random) -> T:
        """One of the outcomes."""
        place = bisect_right(self._sums, chance.random() * self._sums[-1])
        return self._outcomes[min(place, len(self._outcomes) - 1)]


class Trace:
    """The steps of a run: hashed, counted, and told to ``tell`` if there is one."""

    def __init__(self, tell: Teller | None = None) -> None:
        self._hasher = blake2b(digest_size=8)
        self._tell = tell
        self.steps = 0

    def note(self, what: str, *details: object) -> None:
        """A step happened; ``details`` are texts and numbers."""
        self.steps += 1
        line = " ".join([what, *map(str, details)])
        self._hasher.update(line.encode() + b"\n")
        if self._tell is not None:
            self._tell(f"{self.steps:>7} {line}")

    def digest(self) -> str:
        """Hexadecimal digest of all steps so far."""
        return self._hasher.hexdigest()
