"""The backup's side: the memory that a primary writes into, and what comes of it.

::

    received = ReceivedStreams(config, names, idle)
    offer = received.offer(primary_facts)        # goes to the primary, which connects and answers
    received.accept(answer)
    received.begin(starts, epoch)                # where the primary has attached
    while received.poll(timeout_ns) or not received.failure:
        for stream in range(len(names)):
            ...received.frames(stream)...
            received.acknowledge(stream, applied_sequence)
    received.close()                             # the fence: from here on the memory is ours alone
    while received.poll(0):
        ...                                      # what had arrived wholly

One of these serves one link; whoever begins anew makes another. One thread uses it, and any may ask for
:attr:`~ReceivedStreams.failure`. If both sides are in one process, neither is closed before the link is detached:
libfabric's shared memory is then one memory, and gone for both.

**The fence.** A primary that was cut off may go on writing, for it does not know. After :meth:`~ReceivedStreams.close`
the memory is not registered any more, or the socket is closed: nothing that it writes can change what is read. Frames
that had arrived wholly stay, and a torn one stays torn."""

import secrets
import socket
from collections.abc import Sequence
from typing import Any, Final, assert_never

import numpy as np
from numpy.typing import NDArray

from exchange.errors import UserError
from exchange.journal.frames import FRAME_PLACE_DTYPE, StreamName
from exchange.logs import log_event
from exchange.native import (
    Arena,
    address_of,
    load_acquire,
    load_int64,
    monotonic_ns,
    store_int64,
    store_release,
)
from exchange.native.datagram_headers import write_message_header
from exchange.replication.config import ActiveReplicationConfig, RdmaReplicationConfig, TcpReplicationConfig
from exchange.replication.polling import PLACES, Receiver, poll_frames
from exchange.replication.protocol import StreamStart
from exchange.replication.providers import HostFacts, choose_provider, host_facts
from exchange.replication.rdma import HANDLE, LINK_BYTES, RING_OFFSET, RdmaReceiver
from exchange.replication.tcp import DESCRIPTOR, SEND_HEADER, SEND_VECTORS, SOCKET_BYTES, TcpReceiver
from exchange.replication.words import (
    APPLIED,
    BEGUN,
    CONSUMED,
    EPOCH,
    FAILED,
    FOUND,
    IS_EAGER,
    IS_OPEN,
    JOURNAL_ID,
    LINE_BYTES,
    POLLED_NS,
    POSITION,
    PRIMARY_HEARD_NS,
    RECEIVED,
    RECEIVER_BYTES,
    RECEIVER_STREAM_BYTES,
    SEQUENCE,
    STREAM_NUMBER,
    TOLD_APPLIED,
    TOLD_CONSUMED,
    TOLD_NS,
    TOLD_RECEIVED,
    failure_in_words,
)

CONNECT_SECONDS: Final = 5.0
"""How long either side waits for the other while a link is made."""
TOKEN_BYTES: Final = 16


class ReceivedStreams:
    """Owner of the backup's rings, and of its end of a link.

    Raises UserError if libfabric is wanted and missing.

    Args:
        config: the [replication] table of a profile.
        names: what the frames of each stream must say.
        idle: how the polling thread waits (:func:`exchange.agent.build_idle`).

    Attributes:
        reason: why the provider was chosen that was; nothing before the offer, or for TCP.
        receiver: the state that compiled code polls.
    """

    def __init__(self, config: ActiveReplicationConfig, names: Sequence[StreamName], idle: Any) -> None:
        self.config: Final = config
        self.names: Final = tuple(names)
        self.reason = ""
        self._idle: Final = idle
        count = len(names)
        rings_bytes = RING_OFFSET + count * config.ring_bytes
        words_bytes = (
            RECEIVER_BYTES + count * (RECEIVER_STREAM_BYTES + 2 * LINE_BYTES) + SOCKET_BYTES + LINK_BYTES
        )
        self._arena: Final = Arena.private(rings_bytes + words_bytes + (1 << 14), huge_pages="never")
        self._target: Final = self._arena.allocate(rings_bytes, 4096)
        self._target_bytes: Final = rings_bytes
        self._source: Final = self._arena.allocate(max(count * LINE_BYTES, 4096), 4096)
        self._lines: Final = self._arena.allocate(count * LINE_BYTES)
        self._control: Final = self._arena.allocate(RECEIVER_BYTES)
        self._streams: Final = self._arena.allocate(count * RECEIVER_STREAM_BYTES)
        self._socket: Final = self._arena.allocate(SOCKET_BYTES + count * LINE_BYTES)
        self._link_words: Final = self._arena.allocate(LINK_BYTES)
        self._arena.touch(self._target, rings_bytes)
        self._places: Final[NDArray[np.void]] = np.zeros((count, PLACES), FRAME_PLACE_DTYPE)
        self._token = b""
        self._listener: socket.socket | None = None
        self._connection: socket.socket | None = None
        self._fabric: Any = None
        self.receiver: Final = self._build_receiver()
        for stream, name in enumerate(names):
            store_int64(self._words(stream) + JOURNAL_ID, name.journal_id)
            store_int64(self._words(stream) + STREAM_NUMBER, name.stream_number)

    def _build_receiver(self) -> Receiver:
        rings, ring_bytes, count = self._target + RING_OFFSET, self.config.ring_bytes, len(self.names)
        link: Any
        if isinstance(self.config, RdmaReplicationConfig):
            from exchange.replication.fabric import load_fabric

            load_fabric()
            link = RdmaReceiver(self._link_words, self._source)
        else:
            link = TcpReceiver(self._socket, rings, ring_bytes, self._streams, count, self._control)
        return Receiver(
            link=link,
            control=self._control,
            streams=self._streams,
            rings=rings,
            ring_bytes=ring_bytes,
            stream_count=count,
            beat=self._target,
            places=address_of(self._places),
            lines=self._lines,
            silence_ns=self.config.backup_timeout_ns,
            idle=self._idle,
        )

    @property
    def memory(self) -> tuple[int, int]:
        """Address and size of what the primary writes into."""
        return self._target, self._target_bytes

    def compile(self) -> None:
        """Compile what polls, or load it from disk. To be called before there is a link, which would be silent."""
        poll_frames(self.receiver, 0)

    def offer(self, primary: HostFacts) -> dict[str, Any]:
        """Make our end of a link; what the primary's ``connect`` takes.

        Raises:
            UserError: it cannot be made: the address is not ours, or libfabric is missing or has no such provider.
        """
        self.compile()
        told: dict[str, Any] = {"streams": len(self.names)} | shared_settings(self.config)
        match self.config:
            case TcpReplicationConfig():
                return told | self._offer_tcp()
            case RdmaReplicationConfig():
                return told | self._offer_rdma(self.config, primary)
            case _:
                assert_never(self.config)

    def _offer_tcp(self) -> dict[str, Any]:
        try:
            self._listener = socket.create_server((self.config.address, 0))
        except OSError as error:
            raise UserError(f"replication.address = {self.config.address}: {error.strerror}") from error
        self._listener.settimeout(CONNECT_SECONDS)
        self._token = secrets.token_bytes(TOKEN_BYTES)
        address, port = self._listener.getsockname()[:2]
        return {"kind": "tcp", "address": address, "port": port, "token": self._token.hex()}

    def _offer_rdma(self, config: RdmaReplicationConfig, primary: HostFacts) -> dict[str, Any]:
        from exchange.replication.opening import open_fabric  # compiles the shim

        provider, self.reason = choose_provider(config, host_facts(), primary)
        source, target = (
            (self._source, max(len(self.names) * LINE_BYTES, 4096)),
            (self._target, self._target_bytes),
        )
        self._fabric = open_fabric(provider, config.address, source, target)
        done = "delivered" if self._fabric.delivers else "sent"
        log_event("replication-provider", provider=provider, reason=self.reason, done_means=done)
        store_int64(self._link_words + HANDLE, self._fabric.handle)
        return {"kind": "rdma", "provider": provider, "description": self._fabric.description.hex()}

    def accept(self, answer: dict[str, Any]) -> None:
        """Take the link into use: what the primary's link has answered.

        Raises:
            UserError: nobody has come, or the answer is none.
        """
        if isinstance(self.config, TcpReplicationConfig):
            self._accept_tcp()
        else:
            try:
                description = bytes.fromhex(answer["description"])
            except (KeyError, TypeError, ValueError) as error:
                raise UserError("replication: the primary does not say where its memory is") from error
            self._fabric.connect(description)
        store_int64(self._control + IS_EAGER, int(answer.get("gate") == "applied"))
        now_ns = monotonic_ns()
        for word in (POLLED_NS, TOLD_NS, PRIMARY_HEARD_NS):
            store_int64(self._control + word, now_ns)
        store_release(self._control + IS_OPEN, 1)

    def _accept_tcp(self) -> None:
        assert self._listener is not None, "offer() comes first"
        try:
            while self._connection is None:
                connection, _ = self._listener.accept()
                connection.settimeout(CONNECT_SECONDS)
                told = connection.recv(TOKEN_BYTES, socket.MSG_WAITALL)
                if secrets.compare_digest(told, self._token):
                    self._connection = connection
                else:
                    connection.close()
        except OSError as error:
            raise UserError(
                f"replication: the primary has not connected within {CONNECT_SECONDS:g} s"
            ) from error
        finally:
            self._listener.close()
        prepare_socket(self._connection, self._socket)
        store_int64(self._socket + DESCRIPTOR, self._connection.fileno())

    def begin(self, starts: Sequence[StreamStart], epoch: int) -> None:
        """Where the primary has attached, and the epoch that frames have. They are given from now on."""
        for stream, start in enumerate(starts):
            words = self._words(stream)
            for word in (POSITION, CONSUMED, RECEIVED, TOLD_CONSUMED, TOLD_RECEIVED):
                store_int64(words + word, start.position)
            store_int64(words + SEQUENCE, start.next_sequence)
            store_int64(words + TOLD_APPLIED, -1)
        store_int64(self._control + EPOCH, epoch)
        store_release(self._control + BEGUN, 1)

    def poll(self, timeout_ns: int) -> int:
        """Wait for frames, without the interpreter lock, up to so long; how many are new in all streams.

        They are what :meth:`frames` gives until the next poll. Has to be called again and again: it is this that lets
        the link go on. After the link has failed or was closed it gives what is there, without waiting.
        """
        return int(poll_frames(self.receiver, timeout_ns))

    def frames(self, stream: int) -> NDArray[np.void]:
        """The frames of a stream that the last poll has found, as rows of ``FRAME_PLACE_DTYPE``.

        Their records lie in the ring until they are acknowledged; the rows are overwritten by the next poll.
        """
        return self._places[stream, : load_int64(self._words(stream) + FOUND)]

    def next_sequence(self, stream: int) -> int:
        """The sequence behind the last frame that was found."""
        return load_int64(self._words(stream) + SEQUENCE)

    def acknowledge(self, stream: int, applied_sequence: int) -> None:
        """All frames given so far are done with, and their memory may be written again; and records are journaled and
        applied up to a sequence, of which the primary is told by the next poll."""
        words = self._words(stream)
        store_int64(words + APPLIED, applied_sequence)
        store_release(words + CONSUMED, load_int64(words + POSITION))

    @property
    def failure(self) -> str:
        """Why the link is of no use any more; nothing as long as it is."""
        return failure_in_words(load_acquire(self._control + FAILED))

    def silent_ns(self) -> int:
        """For how long nothing was heard of the primary."""
        return max(monotonic_ns() - load_acquire(self._control + PRIMARY_HEARD_NS), 0)

    def close(self) -> None:
        """Revoke: from now on nobody but us changes the memory. May be called again; no poll runs meanwhile."""
        store_release(self._control + IS_OPEN, 0)
        if self._fabric is not None:
            self._fabric.close()
        for one in (self._listener, self._connection):
            if one is not None:
                one.close()

    def _words(self, stream: int) -> int:
        return self._streams + stream * RECEIVER_STREAM_BYTES


def shared_settings(config: ActiveReplicationConfig) -> dict[str, int]:
    """What both sides must have set alike: where things lie, and how often each has to be heard of."""
    return {"ring_bytes": config.ring_bytes, "backup_timeout_ns": config.backup_timeout_ns}


def prepare_socket(connection: socket.socket, words: int) -> None:
    """Make a connected socket one that compiled loops use, with these words."""
    connection.setblocking(False)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    write_message_header(words + SEND_HEADER, 0, words + SEND_VECTORS)
