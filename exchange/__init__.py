"""A small stock exchange that teaches high-performance computing by letting anyone run it.

::

    transport ─ ingress ─┬─► [inbox] ─► shard 0: sequence, books, events ─► [outbox] ─┬─ egress ─ transport
                         └─► [inbox] ─► shard 1: ...                     ─► [outbox] ─┘
               routes by symbol

Commands come in over a *transport*, go through a *queue* to the *shard* that owns their symbol (one thread,
one core, its own order books), and what happened goes out again as events. Each of these is a *layer* with a
textbook baseline and fast variants beside it; a *profile* (a TOML file) picks one of each.

Read in this order: :mod:`exchange.messages` (the vocabulary), :mod:`exchange.assembly` (how it is put
together), :mod:`exchange.matching.shard` (the heart), :mod:`exchange.book.naive` (the rules), then any layer.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("hpc-exchange")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+unknown"
