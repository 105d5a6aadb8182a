"""Ports: where datagrams come in and go out, with or without a kernel in between.

* :mod:`~exchange.datagrams.protocol`: what a port promises;
* :mod:`~exchange.datagrams.kernel_socket`: a socket;
* :mod:`~exchange.dpdk.port`: a queue pair of a card, polled through DPDK;
* :mod:`~exchange.datagrams.batch`: room for datagrams that are received or sent together;
* :mod:`~exchange.datagrams.reflector`: what a port is worth by itself.
"""
