"""The transport layer: how commands come in and events go out.

========== ========================================== ===================================================
variant    what it is                                 what it is good for
========== ========================================== ===================================================
memory     commands in memory, due at their time      tests; measuring everything but the network
========== ========================================== ===================================================

What all of them promise stands in :mod:`exchange.transport.protocol`; the settings in
:mod:`exchange.transport.config`. A memory transport is built by whoever has the commands (the benchmark
runner, the replay), since they are part of it."""
