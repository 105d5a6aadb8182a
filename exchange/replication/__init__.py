"""Replication: a second exchange that has what this one has acknowledged, and who of the two may acknowledge.

Which of them is the primary is a lease (:mod:`exchange.replication.lease`).
"""
