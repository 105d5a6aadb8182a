"""The benchmark: run, count, compare, report.

* :mod:`~exchange.bench.runner` - profiles against each other: rounds, saturation, load points
* :mod:`~exchange.bench.player` - one run: a fresh exchange plays commands at their intended times
* :mod:`~exchange.bench.queue_bench`, ``stack_bench``, ``latest_value_bench``, ``journal_bench``, ``book_bench``,
  ``flow_bench`` - one layer alone; what they share is in :mod:`~exchange.bench.micro`
* :mod:`~exchange.bench.transport_bench` - the transports by themselves: ``transport_variants``, in processes of their
  own (``transport_processes``, ``transport_prober``), over a ``cable``; ``system_calls`` counts
* :mod:`~exchange.bench.histogram`, :mod:`~exchange.bench.statistics` - latencies in buckets, medians and
  intervals
* :mod:`~exchange.bench.host` - what the machine is; two results are compared only if it is the same
* :mod:`~exchange.bench.results` - the figures of a run and their JSON form; :mod:`~exchange.bench.compare`
  two of them
* :mod:`~exchange.bench.summary`, ``wording``, ``terminal``, ``plots``, ``markup``, ``report`` - from figures
  to what a person reads
* :mod:`~exchange.bench.flame` - where the threads of a profile spend their time

Importing this package loads nothing.
"""
