"""DPDK: a card, or what stands for one, polled from this process without the kernel.

* :mod:`~exchange.dpdk.building`: a little C, compiled against the DPDK that is installed;
* :mod:`~exchange.dpdk.devices`: the devices that there can be, and which interface must not be taken;
* :mod:`~exchange.dpdk.eal`: DPDK's environment in this process;
* :mod:`~exchange.dpdk.device`: a card, open;
* :mod:`~exchange.dpdk.port`: its queues as ports (:mod:`exchange.datagrams.protocol`);
* :mod:`~exchange.dpdk.calls`: what of DPDK compiled loops call.

Rules: nothing here is imported unless a profile asks for it; DPDK need not be installed otherwise.
"""
