"""Where scaling stops, and why: sentences that follow from what was measured.

A *point* is one number of shards in one variant, as medians over rounds. From one point to the next the throughput of a
shard may fall, and what the loops counted says why:

* they had no core, though they never sleep: something else runs on this machine;
* the feed was busy all the time and shards were idle: they waited for it;
* shards were busy as ever and a command took longer than with one shard: the cores hold each other up. If arithmetic,
  which needs no memory, got slower in the same way, it is the cores themselves; if not, it is what lies behind them,
  caches and memory;
* or none of that, and then it says so.

Nothing else is claimed. The functions are pure: points in, sentences out."""

from typing import Final, NamedTuple

STILL_SCALES: Final = 0.9
"""A shard that does so much of what it does alone has lost nothing worth explaining."""
WITHOUT_CORE_PERCENT: Final = 5.0
SATURATED_PERCENT: Final = 95.0
IDLE_PERCENT: Final = 10.0


class Point(NamedTuple):
    """Medians of one number of shards.

    ``efficiency`` is the throughput of a shard against that at the fewest shards. ``command_ns`` is a shard's time for
    a command, of which it was busy ``shards_busy_percent``; ``feed_busy_percent`` is None where every shard feeds
    itself. ``without_core_percent`` of the time of all loops, which never sleep, they had no core. Pushes are refused
    ones, per thousand commands. ``arithmetic_ns`` is a step of arithmetic on as many cores at once.
    """

    shards: int
    units: tuple[int, ...]
    per_second: float
    efficiency: float
    command_ns: float
    shards_busy_percent: float
    feed_busy_percent: float | None
    without_core_percent: float
    inbox_refused: float
    outbox_refused: float
    arithmetic_ns: float


class Variation(NamedTuple):
    """The points of a variant, fewest shards first, and why other numbers of shards are missing.

    ``cores``: how many the machine has, if that is too few for one shard more than the last point has; else None.
    """

    name: str
    points: tuple[Point, ...]
    missing: dict[int, str]
    cores: int | None


def findings(variation: Variation) -> list[str]:
    """What there is to say of a variant."""
    name, points = variation.name, variation.points
    if not points:
        return [f"{name}: not measured: {_missing(variation)}."]
    first, last = points[0], points[-1]
    found = [f"{name}: {'; '.join(_described(point, first) for point in points)}."]
    limited = next((point for point in points if point.efficiency < STILL_SCALES), None)
    if limited is not None:
        found.append(
            f"{name}: with {limited.shards} shards each does less than alone: {reason(limited, first)}."
        )
    elif variation.cores is not None:
        found.append(
            f"{name}: nothing stops it up to {_counted(last.shards)}; then the cores are used up, of which there are"
            f" {variation.cores}."
        )
    elif len(points) > 1:
        found.append(f"{name}: nothing stops it up to {_counted(last.shards)}.")
    if variation.missing:
        found.append(f"{name}: not measured: {_missing(variation)}.")
    return found


def _counted(shards: int) -> str:
    return "1 shard" if shards == 1 else f"{shards} shards"


def _missing(variation: Variation) -> str:
    return "; ".join(f"{_counted(shards)}, {why}" for shards, why in variation.missing.items())


def _described(point: Point, first: Point) -> str:
    units = ", ".join(map(str, point.units))
    where = f"{'unit' if len(point.units) == 1 else 'units'} {units}"
    rate = f"{_counted(point.shards)} on {where}, {point.per_second / 1e6:.3g} M commands/s"
    if point is first:
        return rate
    speed_up = point.efficiency * point.shards / first.shards
    return f"{rate} (× {speed_up:.2f}, {100 * point.efficiency:.0f} % of a shard alone)"


def reason(point: Point, first: Point) -> str:
    """Why a shard of ``point`` does less than one of ``first``, in words with the figures they rest on."""
    if point.without_core_percent > WITHOUT_CORE_PERCENT:
        waited = f"for {point.without_core_percent:.0f} % of the time its loops had no core"
        return f"{waited}, because something else runs on this machine"
    idle, feed = 100 - point.shards_busy_percent, point.feed_busy_percent
    if feed is not None and feed >= SATURATED_PERCENT and idle >= IDLE_PERCENT:
        return (
            f"the loop that feeds them all was busy {feed:.0f} % of the time, and they were idle {idle:.0f} %, with"
            f" {point.inbox_refused:.2g} pushes refused in a thousand commands: the feed is saturated"
        )
    slower = point.command_ns * point.shards_busy_percent / (first.command_ns * first.shards_busy_percent)
    arithmetic = point.arithmetic_ns / first.arithmetic_ns
    if slower * STILL_SCALES > 1:
        told = f"a command keeps a shard busy × {slower:.2f} as long, and arithmetic alone takes × {arithmetic:.2f}"
        if arithmetic - 1 >= (slower - 1) / 2:
            return (
                f"{told}: the cores themselves hold each other up (shared units, a lower clock, a hypervisor)"
            )
        return f"{told}: they wait for each other's caches or for memory"
    told = f"shards were busy {point.shards_busy_percent:.0f} % of the time"
    if feed is not None:
        told += f", the feed {feed:.0f} %"
    return (
        f"{told}; in a thousand commands inboxes refused {point.inbox_refused:.2g} pushes and outboxes"
        f" {point.outbox_refused:.2g}; none of that is enough to say why"
    )
