"""The settings of the transports: one frozen struct per variant, chosen by ``kind`` in a profile's
[transport] table.

A transport brings clients' bytes to the ingress and takes reports away. Importing this module loads no
transport.
"""

from typing import Annotated

from msgspec import Meta, Struct

from exchange import limits

IngressLanes = Annotated[
    int,
    Meta(
        ge=1,
        le=limits.INGRESS_LANES_MAX,
        description="ingress agents, each a producer into every shard's inbox",
    ),
]


class MemoryTransportConfig(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="memory"):
    """Commands and events stay in this process's memory: everything is measured but the network."""

    ingress_lanes: IngressLanes = 1


TransportConfig = MemoryTransportConfig
"""A union of the variants; so far there is one."""
