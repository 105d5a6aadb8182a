"""NASDAQ's protocols, byte by byte: one module for each specification, and one table for each message.

=================================== ===================================================== =====================
module                              what it carries                                       travels in
=================================== ===================================================== =====================
:mod:`~exchange.wire.soupbintcp`    sessions: log in, numbered messages, heartbeats       TCP
:mod:`~exchange.wire.ouch50`        orders and their answers, today's version             SoupBinTCP U and S
:mod:`~exchange.wire.ouch42`        the same, the older version                           SoupBinTCP U and S
:mod:`~exchange.wire.itch50`        the feed: orders, trades, halts, for everyone         MoldUDP64, SoupBinTCP S
:mod:`~exchange.wire.moldudp64`     numbered messages for everyone, and asking again      UDP
:mod:`~exchange.wire.glimpse`       the state of all books, for who joins late            SoupBinTCP S
:mod:`~exchange.wire.soupbinudp`    our own: SoupBinTCP's packets in numbered datagrams   UDP
=================================== ===================================================== =====================

A message is a class whose annotations are the specification's table (:mod:`~exchange.wire.layout`, with the kinds of
fields in :mod:`~exchange.wire.fields`). Everything else is derived from that table: decoding and encoding, the
checks, the numpy dtype, the offsets that compiled code reads and writes with, and the tables of the documentation.
So a field is written down once.

Rules: bytes come from outside and may be anything. Whatever they are, a parser of this folder answers with a message
or with :class:`~exchange.wire.fields.WireError`, in bounded time and memory. Nothing here opens a socket or reads a
clock."""
