"""AF_XDP: frames of an interface in memory that is shared with the kernel, before its network stack has seen them.

* :mod:`~exchange.afxdp.libraries`: libbpf and libxdp, which make what there is to make;
* :mod:`~exchange.afxdp.program`: what the kernel runs for each frame, to tell ours from its own;
* :mod:`~exchange.afxdp.rings`: the four rings, of which the kernel has the other ends;
* :mod:`~exchange.afxdp.port`: them as a port (:mod:`exchange.datagrams.protocol`);
* :mod:`~exchange.afxdp.card`: who makes all this for a queue of an interface, and takes it apart.

Rules: nothing here is imported unless a profile asks for it; the libraries need not be installed otherwise.
"""
