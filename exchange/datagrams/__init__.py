"""Ports: where datagrams come in and go out, with or without a kernel in between.

* :mod:`~exchange.datagrams.protocol`: what a port promises;
* :mod:`~exchange.datagrams.port`: who owns one, and how one is used by hand;
* :mod:`~exchange.datagrams.kernel_socket`: a socket as a port;
* :mod:`~exchange.datagrams.blocking_socket`: one as a textbook uses it, to measure against;
* :mod:`~exchange.datagrams.opening`: a port opened from what a profile or a command says of it;
* :mod:`~exchange.dpdk.port`: a queue pair of a card, polled through DPDK;
* :mod:`~exchange.afxdp.port`: rings that are shared with the kernel, which fills them before its network stack;
* :mod:`~exchange.datagrams.frames`: what these two have in common;
* :mod:`~exchange.datagrams.neighbours`: finding a peer's card;
* :mod:`~exchange.datagrams.interfaces`: which interface of the kernel's must not be taken;
* :mod:`~exchange.datagrams.posting`: how plain Python has a datagram sent while the egress runs;
* :mod:`~exchange.datagrams.batch`: room for datagrams that are received or sent together;
* :mod:`~exchange.datagrams.reflector`: what a port is worth by itself.
"""
