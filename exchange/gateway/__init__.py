"""The gateway: clients' sessions, from the bytes of their connection to the commands of the exchange and back.

::

                 control plane (asyncio, Python): accept, log on, close
                          │ a socket with its session, handed over
    ┌─────────────────────▼─────────────────────────────────────────────────────┐
    │ ingress (compiled)  bytes ─ packets ─ requests ─► commands ─► shards        │
    │                                      └► its own answers ─► shards           │
    │ egress (compiled)   socket ◄─ session log ◄─ reports ◄─ events ◄──── shards │
    └───────────────────────────────────────────────────────────────────────────┘

What it promises:

* After a client has logged on, no Python runs for a message: framing, decoding, checking, routing and encoding are
  compiled, and what a session needs lies in flat memory of its own.
* Every message that a client was sent is in its session's log, and can be had again from any sequence number. A broken
  line loses nothing that the exchange said.
* One client's trouble is its own: garbage, silence or a full socket end that connection and no other.
* Nothing waits and nothing grows: orders, logs and buffers have bounds (:mod:`exchange.gateway.config`), and running
  out is an answer.

========================================== ==================================================================
module                                     what it is about
========================================== ==================================================================
:mod:`~exchange.gateway.config`            the settings
:mod:`~exchange.gateway.credentials`       users and passwords
:mod:`~exchange.gateway.session_memory`    a session's words, and how a connection passes between the threads
:mod:`~exchange.gateway.symbol_table`      from a symbol to its number
:mod:`~exchange.gateway.order_table`       what the gateway knows of each order
:mod:`~exchange.gateway.offsets`           where a message's fields are, for compiled code
:mod:`~exchange.gateway.versions`          OUCH in: which version a message is of
:mod:`~exchange.gateway.requests`          OUCH 5.0 in: a message to a command
:mod:`~exchange.gateway.firm_requests`     what concerns all orders of a firm, and mass cancels
:mod:`~exchange.gateway.options`           the options of a request
:mod:`~exchange.gateway.requests42`        OUCH 4.2 in: a message to one of OUCH 5.0
:mod:`~exchange.gateway.token_index`       from an order token of OUCH 4.2 to a number
:mod:`~exchange.gateway.inbound`           what all of these share, and the gateway's own answers
:mod:`~exchange.gateway.details`           what a journal keeps of an order, and putting it back
:mod:`~exchange.gateway.reports`           OUCH out: an event to what it means, and to whom
:mod:`~exchange.gateway.reports50`         ... and to the messages of OUCH 5.0
:mod:`~exchange.gateway.reports42`         ... and to those of OUCH 4.2
:mod:`~exchange.gateway.outbound`          what these share
:mod:`~exchange.gateway.session_log`       sequenced messages, for sending and for sending again
:mod:`~exchange.gateway.control`           accept, log on, close
:mod:`~exchange.gateway.udp_control`       the same over UDP
:mod:`~exchange.gateway.server`            an exchange with a gateway, from its start to its end
========================================== ==================================================================

Which sockets carry it is the transport's business: :mod:`exchange.transport.tcp`, :mod:`exchange.transport.udp`."""
