"""The deterministic simulator: the real exchange, stepped by hand through what a network and a disk can do to it.

``exchange simulate`` runs it. One number, the *seed*, decides everything that happens: how the exchange is laid out,
what its clients do, when each agent gets its turn, what the network does to bytes and the disk to sectors, when the
machine dies. So a failure is a number, and the same number shows the same failure again, step by step.

What is real: sessions, order entry, shards, books, queues, journal and recovery, the very same compiled code that
``exchange serve`` runs. What is simulated: time, threads (each turn of an agent is a call), the line between a client
and its socket, the disk, and the clients.

=========================== ==================================================================
:mod:`~.plan`               what a seed decides before anything happens
:mod:`~.chance`             chance and the record of what happened, both by the seed
:mod:`~.network`            the lines: late, torn, dropped
:mod:`~.dialects`           OUCH 5.0 and 4.2 as the clients speak them
:mod:`~.client`             a client: what it does, and what it has been told
:mod:`~.venue`              the exchange, its agents and the door at which clients log on
:mod:`~.oracle`             what the shards should have made of the stream, in plain Python
:mod:`~.disk`               the sectors that a power cut leaves, and whether there is room
:mod:`~.refusals`           how the kernel is made to refuse what a disk would
:mod:`~.faults`             a disk that is full or fails, and what the exchange has to make of it
:mod:`~.invariants`         what must hold at every moment
:mod:`~.rest`               what must hold when nothing moves any more
:mod:`~.restart`            the end without notice, and what must be there afterwards
:mod:`~.simulator`          one seed from the beginning to the end
:mod:`~.campaign`           many of them, in several processes
=========================== ==================================================================

Sources: W. Wilson, "Testing Distributed Systems w/ Deterministic Simulation" (Strange Loop 2014, FoundationDB); the
simulator of TigerBeetle (VOPR); A. Groce et al., "Swarm Testing" (ISSTA 2012), for seeds that leave things out."""
