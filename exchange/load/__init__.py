"""Load from the network: many clients' requests at fixed times, and how long each took to be answered.

``exchange bench`` measures an exchange from inside its own process. Here the exchange is on the other side of a socket,
and anything that speaks SoupBinTCP 3.00 and OUCH 5.0 can be measured, or the same in the exchange's own datagrams; what
is seen is what a client would see.

* :mod:`~exchange.load.plan` - what a load is to do
* :mod:`~exchange.load.logins` - who logs on, and the passwords, which never stand on a command line
* :mod:`~exchange.load.requests` - the seeded flow: every byte that will be sent, and when
* :mod:`~exchange.load.sessions` - what happens once for each session: connect, log on, log out
  (:mod:`~exchange.load.tcp_session`, :mod:`~exchange.load.udp_session`)
* :mod:`~exchange.load.loops` - the compiled loop: send what is due, read what came, account for it
* :mod:`~exchange.load.protocol` - what carries the bytes meanwhile, a type that the loop is compiled for
  (:mod:`~exchange.load.tcp_line`, :mod:`~exchange.load.udp_line`)
* :mod:`~exchange.load.words` - the memory that loop and line have in common
* :mod:`~exchange.load.moving` - sessions that lose their line find another, each by itself
  (:mod:`~exchange.load.seeking`), or all together over a card (:mod:`~exchange.load.resuming`);
  :mod:`~exchange.load.watching` sees which lines are silent, and a :mod:`loss <exchange.load.losses>` is what is kept
* :mod:`~exchange.load.generator` - one run after the other
* :mod:`~exchange.load.measured` - what was measured, as ``exchange bench`` writes it;
  :mod:`~exchange.load.timeline` - what happened when
"""
