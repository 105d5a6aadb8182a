"""Which agents an exchange has, and which of them share a thread.

Names are what a profile writes in ``shards.threads`` and what reports and pictures show. Rules: this module loads
nothing of any layer; :mod:`exchange.settings` checks what a profile says against it.
"""

from typing import TYPE_CHECKING, Final

from exchange.journal.config import NoneJournalConfig
from exchange.matching.config import ThreadLayout
from exchange.replication.config import NoneReplicationConfig

if TYPE_CHECKING:
    from exchange.settings import Settings

JOURNAL_AGENT: Final = "journal"
"""The agent that syncs the journal."""

REPLICATOR_AGENT: Final = "replicator"
"""The agent that ships frames to the backup."""

OPTIONAL_AGENTS: Final = (JOURNAL_AGENT, REPLICATOR_AGENT)
"""What a profile's list may leave out, and may name where there is none."""

EGRESS_AGENT: Final = "egress"


def agent_names(settings: "Settings") -> tuple[str, ...]:
    """Names of all agents of an exchange: ``ingress`` (or ``ingress.0`` ...), ``shard.0`` ..., ``replicator`` if there
    is replication, ``egress``, and ``journal`` if one is kept.
    """
    lanes = settings.transport.ingress_lanes
    ingress = tuple(ingress_agent(lane, lanes) for lane in range(lanes))
    shards = tuple(shard_agent(shard) for shard in range(settings.shards.count))
    replicator = () if isinstance(settings.replication, NoneReplicationConfig) else (REPLICATOR_AGENT,)
    journal = () if isinstance(settings.journal, NoneJournalConfig) else (JOURNAL_AGENT,)
    return (*ingress, *shards, *replicator, EGRESS_AGENT, *journal)


def ingress_agent(lane: int, lanes: int) -> str:
    """The name of the agent of an ingress lane, of so many."""
    return "ingress" if lanes == 1 else f"ingress.{lane}"


def shard_agent(shard: int) -> str:
    """The name of a shard's agent."""
    return f"shard.{shard}"


def thread_layout(settings: "Settings", cores: int) -> ThreadLayout:
    """Which agents share a thread on a machine with ``cores`` cores for us.

    ``threads = "auto"`` gives one thread to the clients' side (all ingress agents, the replicator and the egress) and
    one for each core that is left to the shards, neighbouring shards together; shards always have a thread that is not
    the clients'; a journal's agent, which waits for the disk, has one of its own. A list in the profile is taken as it
    stands, but for the agents that not every exchange has: they are left out where there is no such agent, and may be
    left out of the list. Then the replicator comes right before the egress, which waits for what it does.
    """
    agents = agent_names(settings)
    if settings.shards.threads != "auto":
        listed = [tuple(name for name in names if name in agents) for names in settings.shards.threads]
        named = {name for names in listed for name in names}
        if REPLICATOR_AGENT in agents and REPLICATOR_AGENT not in named:
            listed = [_before_egress(names) for names in listed]
        is_missing = JOURNAL_AGENT in agents and JOURNAL_AGENT not in named
        return (*filter(None, listed), *([(JOURNAL_AGENT,)] if is_missing else []))
    shards = [agent for agent in agents if agent.startswith("shard.")]
    journal = [(JOURNAL_AGENT,)] if JOURNAL_AGENT in agents else []
    clients_side = tuple(agent for agent in agents if agent not in (*shards, JOURNAL_AGENT))
    count = min(len(shards), max(1, cores - 1))
    bounds = [len(shards) * thread // count for thread in range(count + 1)]
    return (clients_side, *(tuple(shards[bounds[i] : bounds[i + 1]]) for i in range(count)), *journal)


def _before_egress(names: tuple[str, ...]) -> tuple[str, ...]:
    if EGRESS_AGENT not in names:
        return names
    place = names.index(EGRESS_AGENT)
    return (*names[:place], REPLICATOR_AGENT, *names[place:])
