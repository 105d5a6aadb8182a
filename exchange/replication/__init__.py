"""Replication: a second machine has what this one has acknowledged, before anybody hears of it.

======= ======================================== ==============================================================
variant what it is                               what it trades
======= ======================================== ==============================================================
none    nothing                                  nothing is on the path; what the machine knows dies with it
tcp     frames over the kernel's sockets         works everywhere; a system call for each batch on both sides
rdma    one-sided writes into the other's memory no system call where the hardware, or shared memory, can
======= ======================================== ==============================================================

What all of them promise stands in :mod:`exchange.replication.protocol`.

* :mod:`~exchange.replication.ring` - the frame ring, which lies in the same form in both machines' memory
* :mod:`~exchange.replication.writer` - the journal of a shard that also copies each frame into its ring
* :mod:`~exchange.replication.replicator` - the agent that ships what is new, and learns how far the backup is
* :mod:`~exchange.replication.streams` - the primary's side: who owns all that, and what may be asked of it
* :mod:`~exchange.replication.receiving` - the backup's side
* :mod:`~exchange.replication.tcp`, :mod:`~exchange.replication.rdma` - the two ways from one to the other
* :mod:`~exchange.replication.lease` - who of the two is the primary
* :mod:`~exchange.replication.lease_store`, :mod:`~exchange.replication.embedded_store` - where that is written down
"""
