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


def __getattr__(name: str) -> str:
    """``__version__``, when somebody asks for it: to find it takes longer than all the rest of this file."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("hpc-exchange")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "0+unknown"
