"""The gateway: clients' sessions, from the bytes of their connection to the commands of the exchange and back.

::

                 control plane (asyncio, Python): accept, log on, close
                          │ a socket with its session, handed over
    ┌─────────────────────▼─────────────────────────────────────────────────────┐
    │ ingress (compiled)  bytes ─ packets ─ requests ─► commands ─► shards        │
    │                                      └► the gateway's own answers ─┐        │
    │ egress (compiled)   socket ◄─ session log ◄─ reports ◄─ events ◄───┴ shards │
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
:mod:`~exchange.gateway.requests`          OUCH in: a message to a command
:mod:`~exchange.gateway.options`           the options of a request
:mod:`~exchange.gateway.reports`           OUCH out: an event to messages
:mod:`~exchange.gateway.session_log`       sequenced messages, for sending and for sending again
:mod:`~exchange.gateway.control`           accept, log on, close
:mod:`~exchange.gateway.udp_control`       the same over UDP
:mod:`~exchange.gateway.server`            an exchange with a gateway, from its start to its end
========================================== ==================================================================

Which sockets carry it is the transport's business: :mod:`exchange.transport.tcp`, :mod:`exchange.transport.udp`."""
