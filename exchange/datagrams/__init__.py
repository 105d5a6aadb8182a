"""Ports: where datagrams come in and go out, with or without a kernel in between.

* :mod:`~exchange.datagrams.protocol`: what a port promises;
* :mod:`~exchange.datagrams.kernel_socket`: a socket.
"""
