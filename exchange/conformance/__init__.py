"""A book of ours behind somebody else's protocol, so that somebody else can test it.

The book tests of this project compare our books with each other and with rules that we wrote down. All of
that could share one misreading. So here a book is put before a tester from outside: ``tracebook-conformance``
makes up order flow, plays it to a reference engine of its own and to a *candidate* process, and compares
after every event what was accepted, who traded with whom, and every order that rests, in its place in the
queue. This package is the candidate::

    python -m exchange.conformance --book ladder

* :mod:`~exchange.conformance.wire` - what the tester sends: one JSON object a line, checked before use
* :mod:`~exchange.conformance.units` - decimal prices and quantities as ticks and lots, and back
* :mod:`~exchange.conformance.translation` - events of the tester as commands of 64 bytes, and what the book
  says back
* :mod:`~exchange.conformance.server` - the conversation, from ``hello`` to ``complete``

Rules: the book decides. An adapter that knew the rules would be tested in the book's stead, so this one
keeps no orders: what it must know of an order (owner, open quantity) it reads from the book's own export. Nothing here
imports the tester; it depends on us and not the other way round. The protocol is version 1 of
``tracebook.conformance``; ``docs/conformance.md`` says what it covers and what it does not.
"""
