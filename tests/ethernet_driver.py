"""Frames given to the compiled reader and taken from the compiled writer, from Python."""

from typing import Any

import numpy as np

from exchange.ethernet import (
    HEADERS_BYTES,
    FrameKind,
    Local,
    note_peer,
    parse_frame,
    write_arp_reply,
    write_arp_request,
    write_datagram_headers,
)
from exchange.ethernet.layout import FRAME_BYTES_MAX, PEER_BYTES
from exchange.native import address_of, kernel, view_bytes

GUARD = 0xA5


@kernel
def parsed(frame: int, size_bytes: int, local: Local) -> tuple[int, int, int]:
    return parse_frame(frame, size_bytes, local)


@kernel
def noted_peer(frame: int, payload: int, peer: int) -> None:
    note_peer(frame, payload, peer)


@kernel
def written(frame: int, local: Local, port: int, peer: int, payload_bytes: int) -> int:
    return write_datagram_headers(frame, local, port, peer, payload_bytes)


@kernel
def written_reply(frame: int, request: int, local: Local) -> int:
    return write_arp_reply(frame, request, local)


@kernel
def written_request(frame: int, local: Local, address: int) -> int:
    return write_arp_request(frame, local, address)


def plain(function: Any) -> Any:
    """The twin of a kernel that is not compiled."""
    return getattr(function, "py_func", function)


def read(frame: bytes, local: Local, *, is_plain: bool = False) -> tuple[FrameKind, bytes]:
    """What a frame is, and the payload if it is a datagram. It lies at an odd place, with a guard around it."""
    memory = np.full(len(frame) + 64, GUARD, np.uint8)
    memory[33 : 33 + len(frame)] = np.frombuffer(frame, np.uint8)
    begin = address_of(memory) + 33
    kind, payload, payload_bytes = (plain(parsed) if is_plain else parsed)(begin, len(frame), local)
    if kind != FrameKind.DATAGRAM:
        assert (payload, payload_bytes) == (0, 0)
        return FrameKind(kind), b""
    assert begin <= payload <= payload + payload_bytes <= begin + len(frame)
    return FrameKind(kind), bytes(view_bytes(payload, payload_bytes)) if payload_bytes else b""


def peer_of(frame: bytes, local: Local) -> bytes:
    """Who sent a datagram."""
    memory, peer = np.frombuffer(frame, np.uint8).copy(), np.zeros(PEER_BYTES, np.uint8)
    kind, payload, _ = parsed(address_of(memory), len(frame), local)
    assert kind == FrameKind.DATAGRAM
    noted_peer(address_of(memory), payload, address_of(peer))
    return peer.tobytes()


def write(payload: bytes, source: Local, peer: bytes, *, is_plain: bool = False) -> bytes:
    """The frame of a datagram."""
    memory, to = np.full(FRAME_BYTES_MAX + 8, GUARD, np.uint8), np.frombuffer(peer, np.uint8).copy()
    memory[HEADERS_BYTES : HEADERS_BYTES + len(payload)] = np.frombuffer(payload, np.uint8)
    function = plain(written) if is_plain else written
    size_bytes = function(address_of(memory), source, source.port_first, address_of(to), len(payload))
    assert (memory[size_bytes:] == GUARD).all()
    return memory[:size_bytes].tobytes()
