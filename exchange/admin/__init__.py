"""The admin interface of a served exchange: JSON over HTTP on this machine, for whoever has the token.

It runs in the event loop of the control plane, beside logons, and reads words that the agents write anyway; nothing in
it is called by an agent. What it wants done to orders or symbols becomes commands, which go through the order path like
a client's and stand in the sequence. So an exchange with somebody looking at it does what it does without.

====================================== ==========================================================================
module                                 what it is about
====================================== ==========================================================================
:mod:`~exchange.admin.config`          the settings
:mod:`~exchange.admin.access`          the token
:mod:`~exchange.admin.readings`        documents about a running exchange: sessions, limits, symbols, statistics
:mod:`~exchange.admin.actions`         halt, resume, disconnect, cancel, change a limit
:mod:`~exchange.admin.app`             which address answers with what
:mod:`~exchange.admin.metrics`         the statistics for Prometheus
:mod:`~exchange.admin.listening`       the app in the event loop of the exchange
:mod:`~exchange.admin.client`          the other end, for ``exchange admin``
====================================== ==========================================================================
"""
