"""Asks an address over an ordinary socket and prints how many answers came.

``kernel_client.py INTERFACE ADDRESS PORT``, run in a network namespace, and alone: it imports nothing of this project.
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


def main(interface: str, address: str, port: int) -> None:
    """Ask, and print."""
    answered, deadline = 0, time.monotonic() + PATIENCE_SECONDS
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        off = array.array("B", struct.pack("II", SET_TRANSMIT_CHECKSUM, 0))
        fcntl.ioctl(asking, SIOCETHTOOL, struct.pack("16sP", interface.encode(), off.buffer_info()[0]))
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
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
