"""What an exchange has to remember to go on after a restart, and how each part of it is put back.

A snapshot is one file of named sections (:mod:`~exchange.snapshot.sections`). It holds the state of an exchange as it
was after a certain command of each stream, which its header names; whoever has the commands behind them goes on from
there. All parts are taken at that one point, by a process that applies the streams and nothing else, so that no running
shard is stopped or looked into.

============================================== ================================================================
module                                         what it is about
============================================== ================================================================
:mod:`~exchange.snapshot.sections`             the file: written whole or not at all, and verified before it is used
:mod:`~exchange.snapshot.shards`               a shard: how far it is, its live orders, its symbols' trading states
:mod:`~exchange.snapshot.sessions`             the clients' sessions: numbers, orders, logs, order tokens
:mod:`~exchange.snapshot.feed`                 the feed: displayed orders, and the messages that can be asked for again
:mod:`~exchange.snapshot.parts`                all of it
============================================== ================================================================

The promise, for each part: what was saved and put back into fresh memory behaves from then on as what was saved from,
byte for byte. Where things lie in memory may differ, and no answer depends on it.

What is *not* in a snapshot belongs to a connection (sockets, bytes that have half arrived, what a client has been
sent), to the machine (queues, placement, compiled code) or to the settings, which an exchange is built from before
anything is put back. Of the settings that outcomes depend on, the header has a digest.

Rules: nothing runs while a part is saved or put back. Saving reads only. Putting back is done once, into memory that is
as it was built; if it fails half-way, that memory is of no use any more."""
