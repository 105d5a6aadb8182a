"""Asks an address over an ordinary socket and prints how many answers came.

``kernel_client.py INTERFACE ADDRESS PORT``, run in a network namespace, and alone: it imports nothing of this project.
Without address and port it asks nobody, and prepares the interface for other clients.
The kernel leaves the checksum of UDP to the card, and a cable that is none has no card to do it; whoever reads its
frames would find them damaged. So that is switched off first, as ``ethtool -K INTERFACE tx off`` would.
"""

import array
import fcntl
import json
import socket
import struct
import sys
import time

SIOCETHTOOL = 0x8946
SET_TRANSMIT_CHECKSUM = 0x17
PATIENCE_SECONDS = 60
QUESTIONS = 50


def compute_checksums(interface: str) -> None:
    """Leave no checksum to the card."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as telling:
        off = array.array("B", struct.pack("II", SET_TRANSMIT_CHECKSUM, 0))
        fcntl.ioctl(telling, SIOCETHTOOL, struct.pack("16sP", interface.encode(), off.buffer_info()[0]))


def main(address: str, port: int) -> None:
    """Ask, and print."""
    answered, deadline = 0, time.monotonic() + PATIENCE_SECONDS
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.connect((address, port))
        asking.settimeout(1)
        while answered < QUESTIONS and time.monotonic() < deadline:
            question = b"question %d" % answered
            asking.send(question)
            try:
                answered += asking.recv(2048) == question
            except TimeoutError:
                continue
    print(json.dumps({"answered": answered}))


if __name__ == "__main__":
    compute_checksums(sys.argv[1])
    if len(sys.argv) > 2:
        main(sys.argv[2], int(sys.argv[3]))
