"""Frames put into a card as they are, without a port in between: how tests send what nobody should."""

from exchange.datagrams.frames import BURST_FRAMES
from exchange.dpdk.calls import allocate_buffers, free_buffers, send_burst
from exchange.dpdk.port import DpdkPort
from exchange.native import load_int64, load_uint16, store_uint16, store_uint32, view_bytes


def inject(port: DpdkPort, frames: list[bytes]) -> int:
    """Send up to :data:`~exchange.datagrams.frames.BURST_FRAMES` frames; how many the card took."""
    assert len(frames) <= BURST_FRAMES
    assert allocate_buffers(port.pool, port.sending, len(frames)) == 0
    for index, frame in enumerate(frames):
        buffer = load_int64(port.sending + 8 * index)
        place = load_int64(buffer + port.data_address) + load_uint16(buffer + port.data_offset)
        if frame:
            view_bytes(place, len(frame))[:] = frame
        store_uint16(buffer + port.data_length, len(frame))
        store_uint32(buffer + port.frame_length, len(frame))
    sent = send_burst(port.device, 0, port.sending, len(frames))
    free_buffers(port.sending + 8 * sent, len(frames) - sent)
    return sent
