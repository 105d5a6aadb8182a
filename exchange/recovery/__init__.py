"""From a journal back to an exchange: what a restart does, a snapshot is made by, and a replay shows.

================================================= ===============================================================
module                                            what it is about
================================================= ===============================================================
:mod:`~exchange.recovery.replaying`               compiled: frames through shards, and what they lead to
:mod:`~exchange.recovery.replayer`                streams through a replica, in the order of the merge stream
:mod:`~exchange.recovery.opening`                 where each stream ends, and readers from a position on
:mod:`~exchange.recovery.following`               an exchange brought to where its journal is, in one go or step by step
:mod:`~exchange.recovery.kept`                    a served exchange and its journal: from the folder to where it was
:mod:`~exchange.recovery.twin`                    a second one of an exchange, made of its journal alone
:mod:`~exchange.recovery.snapshots`               which snapshots there are, and which one a restart begins with
:mod:`~exchange.recovery.snapshot_process`        snapshots of a running exchange, by a process beside it
:mod:`~exchange.recovery.inspecting`              what is in a journal, without an exchange
================================================= ===============================================================

One rule carries it: nothing here decides what a record means. The shard applies it by the code that applied it first
(:func:`exchange.matching.shard.apply_batch`), and the gateway and the publisher say of its events what they said then.
So what comes back is what was, or there is a fault in how it was written down.
"""
