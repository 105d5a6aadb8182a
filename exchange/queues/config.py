"""The settings of the queues: one frozen struct per variant, chosen by ``kind`` in a profile's [queue] table.

The queue of this table carries commands from the ingress to a shard and events from a shard to the egress.
Rules: ranges and descriptions stand on the fields themselves, for the settings check them and the reference
in ``docs/profiles.md`` prints them; the structs know nothing of the code that they choose, so importing them
is free.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from exchange import limits

CapacitySlots = Annotated[
    int,
    Meta(
        ge=limits.QUEUE_CAPACITY_SLOTS_MIN,
        le=limits.QUEUE_CAPACITY_SLOTS_MAX,
        description="records of 64 bytes that one queue holds before it reports full",
        extra={"power_of_two": True},
    ),
]

RingPages = Annotated[
    Literal["advise", "never"],
    Meta(description="whether the kernel is asked for huge pages for the ring's memory"),
]


class PythonQueueConfig(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="python"):
    """A deque under a Python lock: what one writes first."""

    capacity_slots: CapacitySlots = 65_536


class LockedQueueConfig(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="locked"):
    """A compiled ring under a pthread mutex."""

    capacity_slots: CapacitySlots = 65_536
    huge_pages: RingPages = "advise"


class SpscQueueConfig(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="spsc"):
    """Lanes: a lock-free ring of its own for each producer."""

    capacity_slots: CapacitySlots = 65_536
    huge_pages: RingPages = "advise"


class MpscQueueConfig(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="mpsc"):
    """One lock-free ring that any number of producers share."""

    capacity_slots: CapacitySlots = 65_536
    huge_pages: RingPages = "advise"


class DisruptorQueueConfig(
    Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="disruptor"
):
    """One ring whose consumers each see every record."""

    capacity_slots: CapacitySlots = 65_536
    huge_pages: RingPages = "advise"


class UserQueueConfig(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="file"):
    """A queue of your own: the class NAME of the Python file PATH."""

    # Absolute: whoever reads the profile has resolved it against the profile's folder.
    path: Annotated[str, Meta(extra={"from_kind": True})]
    name: Annotated[str, Meta(extra={"from_kind": True})]
    capacity_slots: CapacitySlots = 65_536


QueueConfig = (
    PythonQueueConfig
    | LockedQueueConfig
    | SpscQueueConfig
    | MpscQueueConfig
    | DisruptorQueueConfig
    | UserQueueConfig
)
