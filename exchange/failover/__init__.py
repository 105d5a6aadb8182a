"""A failover that can be watched: a pair of exchanges under load, whose primary is killed, and what clients felt of it.

``exchange failover-demo`` shows a class what the pages on a second machine promise. It starts two exchanges on this
machine, which are a pair as two machines would be, has clients trade, kills the primary with SIGKILL, and draws what
happened from the run itself: nothing in the picture was there before it.

* :mod:`~exchange.failover.plan` - what is to happen, and what the profile's settings are for it
* :mod:`~exchange.failover.nodes` - one of the pair: its place on this machine, its process, and what its log says
* :mod:`~exchange.failover.log_lines` - a log of JSON lines, read while it is written
* :mod:`~exchange.failover.demonstration` - the run: start, load, strike, come back, end
* :mod:`~exchange.failover.strike` - what is done to the primary, and when, while the load runs
* :mod:`~exchange.failover.moments` - when what happened, on one clock, out of the logs and the clients' requests
* :mod:`~exchange.failover.account` - what was acknowledged, held against the journal of the survivor
* :mod:`~exchange.failover.results` - what was found, as JSON has it
* :mod:`~exchange.failover.summary` - what it comes to, in a line and in sentences
* :mod:`~exchange.failover.plot`, :mod:`~exchange.failover.page`, :mod:`~exchange.failover.terminal` - as people see it
"""
