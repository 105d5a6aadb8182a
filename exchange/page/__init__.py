"""The live page: an exchange in a browser, to be watched and to be traded on by a person.

``exchange page`` is a process of its own, and to the exchange nothing but a client: it hears the feed as any
subscriber (:mod:`exchange.page.market`), asks the admin interface for statistics
(:mod:`exchange.page.statistics_reader`), and logs people on with OUCH (:mod:`exchange.page.trader`). What fifty
browsers want to see costs the order path therefore no more than one listener of its feed: a group has any number of
them, and the sender does not know how many.

Between the market and the browsers stands one rule: **state, not events**. A browser is never sent what happened since
the last time, but how things are now, at most fifteen times a second. So any number of messages may be *conflated* into
one, a browser that is slow misses some states and has no backlog, and one that reconnects needs nothing else. Each
state is encoded once, for all browsers that look at it.

The page itself is in ``static``: HTML, CSS and JavaScript as they are, without a build, and uPlot for the charts.
"""
