"""The transport layer: how commands come in and events go out.

========== ========================================== ===================================================
variant    what it is                                 what it is good for
========== ========================================== ===================================================
memory     commands in memory, due at their time      tests; measuring everything but the network
tcp        SoupBinTCP sessions with OUCH 5.0          clients: ``exchange serve``
udp        the same packets in numbered datagrams     many clients at little cost; no need of a kernel
dpdk       the datagrams of udp without a kernel      what a system call costs; cards that are polled
========== ========================================== ===================================================

What all of them promise stands in :mod:`exchange.transport.protocol`; the settings in
:mod:`exchange.transport.config`. :mod:`~exchange.transport.tee` gives the same events to two sinks. A transport is
built by whoever has its other end: a memory transport by whoever has the commands (the benchmark runner, the
replay), a network transport by the server that accepts connections."""
