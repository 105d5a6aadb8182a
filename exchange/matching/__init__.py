"""The matching layer: the agents between the queues.

* :mod:`~exchange.matching.ingress` - from a transport's source to the inbox of the shard that owns the symbol
* :mod:`~exchange.matching.shard` - sequence, apply, publish: the single writer of its books
* :mod:`~exchange.matching.egress` - from the shards' outboxes to a transport's sink
* :mod:`~exchange.matching.digest` - one number for the state of all books
"""
