"""Ports: where datagrams come in and go out, with or without a kernel in between.

* :mod:`~exchange.datagrams.protocol`: what a port promises;
* :mod:`~exchange.datagrams.port`: who owns one, and how one is used by hand;
* :mod:`~exchange.datagrams.kernel_socket`: a socket as a port;
* :mod:`~exchange.datagrams.posting`: how plain Python has a datagram sent while the egress runs.
"""
