"""What the two of a pair say to each other beside the frames of their link: messages over one TCP connection.

::

    +0   kind   1 byte
    +1   size   4 bytes, little-endian
    +5   size bytes

============ ======================================================================================================
kind         what follows
============ ======================================================================================================
``J``        a message: one of :data:`Message`, as JSON
``F``        frames of a stream that follow each other, as a journal has them; before them its number, 4 bytes
``C``        a piece of the file that the last :class:`CopyFile` has named
============ ======================================================================================================

A splitter takes what a socket gave and gives whole messages. It believes nothing that it reads: a kind that there is
not, a size beyond its bound, JSON that is no message are :class:`WireTrouble`, and then the connection is of no use any
more. Who has not shown that it knows the pair's secret may say very little (:meth:`MessageSplitter.trust`).

What is said in which order is told in :mod:`exchange.replication.primary` and :mod:`exchange.replication.backup`."""

import struct
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from msgspec import Meta, Struct

from exchange import limits
from exchange.messages import RECORD_BYTES

PROTOCOL_VERSION: Final = 2

MESSAGE: Final = ord("J")
FRAMES: Final = ord("F")
CHUNK: Final = ord("C")

_HEADER: Final = struct.Struct("<BI")
_STREAM: Final = struct.Struct("<I")
STRANGER_BYTES_MAX: Final = 1024
"""How long what somebody says may be who has not shown that it knows the secret."""
MESSAGE_BYTES_MAX: Final = 1 << 16
PIECE_BYTES: Final = 1 << 18
"""How much of frames or of a file is sent at a time."""
PIECE_BYTES_MAX: Final = PIECE_BYTES + RECORD_BYTES * (2 * limits.BATCH_COMMANDS_MAX + 2)
"""A piece ends behind a frame, so the largest one may stand out: a batch, each command with its details."""
NONCE_BYTES: Final = 32
FILES_MAX: Final = 16

_Name = Annotated[str, Meta(max_length=limits.NODE_CHARACTERS_MAX)]
_Hex = Annotated[str, Meta(min_length=2 * NONCE_BYTES, max_length=2 * NONCE_BYTES, pattern="^[0-9a-f]*$")]
_Text = Annotated[str, Meta(max_length=4096)]
_Count = Annotated[int, Meta(ge=0, le=(1 << 62))]
_Streams = Annotated[tuple["StreamEnd", ...], Meta(max_length=limits.SHARDS_MAX + 1)]
_Sequences = Annotated[tuple[_Count, ...], Meta(max_length=limits.SHARDS_MAX + 1)]


class WireTrouble(Exception):
    """The other side says what it cannot say."""


class Hello(Struct, frozen=True, tag="hello"):
    """Whoever connects: ``nonce`` is random, ``purpose`` is what for."""

    version: int
    node: _Name
    purpose: Annotated[str, Meta(max_length=16)]
    nonce: _Hex


class Challenge(Struct, frozen=True, tag="challenge"):
    """Whoever was connected to."""

    version: int
    node: _Name
    nonce: _Hex


class Proof(Struct, frozen=True, tag="proof"):
    """That one knows the secret: first the one that connects, then the other."""

    proof: _Hex


class Refused(Struct, frozen=True, tag="refused"):
    """No, and why; then the connection ends. ``is_final``: asking again is of no use as things are."""

    reason: _Text
    is_final: bool = False


class StreamEnd(Struct, frozen=True):
    """Where a stream of the backup ends: the sequence of the next record, and of the last one the epoch and the
    CRC32C."""

    next_sequence: Annotated[int, Meta(ge=1, le=(1 << 62))]
    epoch: _Count = 0
    checksum: Annotated[int, Meta(ge=0, lt=(1 << 32))] = 0


class Join(Struct, frozen=True, tag="join"):
    """A backup wants to follow. ``identity_digest`` is of its journal, ``streams`` its ends."""

    journal_id: int
    identity_digest: int
    sessions_digest: _Hex
    streams: _Streams
    control_address: Annotated[str, Meta(max_length=limits.ADDRESS_CHARACTERS_MAX)]


class GoOn(Struct, frozen=True, tag="go on"):
    """The backup's journal is the beginning of the primary's: what follows comes as frames."""

    epoch: _Count


class NeedsCopy(Struct, frozen=True, tag="needs copy"):
    """The backup's journal is of no use, and why."""

    reason: _Text


class WantCopy(Struct, frozen=True, tag="want copy"):
    """Send what a journal is begun with."""


class CopyFile(Struct, frozen=True, tag="copy file"):
    """A file follows, in pieces. ``path`` is in the journal's folder; ``checksum`` comes behind it."""

    path: Annotated[str, Meta(max_length=256, pattern="^[a-z0-9][a-z0-9.]*(/[a-z0-9][a-z0-9.]*)?$")]
    size_bytes: _Count


class CopyChecksum(Struct, frozen=True, tag="copy checksum"):
    """The CRC32C of the file that was just sent."""

    checksum: Annotated[int, Meta(ge=0, lt=(1 << 32))]


class CopyEnd(Struct, frozen=True, tag="copy end"):
    """That was all."""


class WantOffer(Struct, frozen=True, tag="want offer"):
    """The backup is near the end: how can its memory be reached? ``host`` is what the primary's machine has
    (:func:`exchange.replication.providers.host_facts`)."""

    host: dict[str, Any]


class Offer(Struct, frozen=True, tag="offer"):
    """What :meth:`~exchange.replication.receiving.ReceivedStreams.offer` says, and a word for that memory that no other
    has: by it the lease store names who is in sync."""

    offer: dict[str, Any]
    link: Annotated[str, Meta(min_length=1, max_length=limits.LINK_CHARACTERS_MAX)]


class Answer(Struct, frozen=True, tag="answer"):
    """What the primary's end of the link answers."""

    answer: dict[str, Any]


class Accepted(Struct, frozen=True, tag="accepted"):
    """The backup has accepted the answer."""


class Attached(Struct, frozen=True, tag="attached"):
    """From where on frames come by the link. What is before that still comes here."""

    positions: _Sequences
    next_sequences: _Sequences
    epoch: _Count


class Progress(Struct, frozen=True, tag="progress"):
    """The backup lives, and has journaled and applied each stream up to these sequences."""

    journaled: _Sequences
    applied: _Sequences


class InSync(Struct, frozen=True, tag="in sync"):
    """It stands in the lease store that the backup may take over, since the primary's write of that number."""

    renewal: _Count


class Leave(Struct, frozen=True, tag="leave"):
    """The backup ends in order, and wants the primary to go on alone."""


class Left(Struct, frozen=True, tag="left"):
    """The primary does."""


class Ended(Struct, frozen=True, tag="ended"):
    """The exchange has ended in order: so shall the backup."""


class HandingOver(Struct, frozen=True, tag="handing over"):
    """The primary has ended, so that the backup takes over."""


class WantStatus(Struct, frozen=True, tag="want status"):
    """How are you?"""


class StreamStatus(Struct, frozen=True):
    """How far a stream is: the last record written, and of a pair what the backup has, and has applied."""

    name: Annotated[str, Meta(max_length=32)]
    appended: _Count
    received: _Count = 0
    applied: _Count = 0


class NodeStatus(Struct, frozen=True, tag="status"):
    """What a node says of itself. ``state`` is a word or two; ``peer`` the control address of the other one, if it is
    known."""

    node: _Name
    role: Annotated[str, Meta(max_length=16)]
    epoch: _Count
    state: _Text
    is_in_sync: bool
    clients_address: Annotated[str, Meta(max_length=limits.ADDRESS_CHARACTERS_MAX)]
    peer: Annotated[str, Meta(max_length=limits.ADDRESS_CHARACTERS_MAX)]
    streams: Annotated[tuple[StreamStatus, ...], Meta(max_length=limits.SHARDS_MAX + 1)]
    heard_ns: Annotated[int, Meta(ge=-1)] = -1
    """For how long nothing was heard from the other one; -1 if there is none."""


class Promote(Struct, frozen=True, tag="promote"):
    """Have the backup take over."""


class Promoted(Struct, frozen=True, tag="promoted"):
    """It is done, or will be at once; what there is to say about it."""

    told: _Text


Message = (
    Hello | Challenge | Proof | Refused | Join | GoOn | NeedsCopy | WantCopy | CopyFile | CopyChecksum | CopyEnd
    | WantOffer | Offer | Answer | Accepted | Attached | Progress | InSync | Leave | Left | Ended | HandingOver
    | WantStatus | NodeStatus | Promote | Promoted
)  # fmt: skip
"""All that can be said in a message."""

_DECODER: Final = msgspec.json.Decoder(Message)
_OF_STRANGERS: Final = (Hello, Challenge, Proof, Refused)


class Frames(NamedTuple):
    """Frames of a stream, end to end, as they were received: not checked yet."""

    stream: int
    content: bytes


class Chunk(NamedTuple):
    """A piece of a file."""

    content: bytes


Received = Message | Frames | Chunk


def encode_message(message: Message) -> bytes:
    """A message, ready to be sent."""
    content = msgspec.json.encode(message)
    return _HEADER.pack(MESSAGE, len(content)) + content


def frames_header(stream: int, size_bytes: int) -> bytes:
    """What is sent before so many bytes of frames."""
    return _HEADER.pack(FRAMES, _STREAM.size + size_bytes) + _STREAM.pack(stream)


def chunk_header(size_bytes: int) -> bytes:
    """What is sent before a piece of a file."""
    return _HEADER.pack(CHUNK, size_bytes)


class MessageSplitter:
    """What a connection has said, taken apart. It holds no more than one message that is not whole yet."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._is_trusted = False

    def trust(self) -> None:
        """The other side has shown that it knows the secret."""
        self._is_trusted = True

    def feed(self, content: bytes) -> None:
        """Some more bytes have come."""
        self._held += content

    def take(self) -> Received | None:
        """The next message that is whole; None if there is none.

        Raises:
            WireTrouble: it is none.
        """
        if len(self._held) < _HEADER.size:
            return None
        kind, size_bytes = _HEADER.unpack_from(self._held)
        bound = self._bound(kind)
        if size_bytes > bound:
            raise WireTrouble(f"{size_bytes} bytes, and {bound} are allowed")
        if len(self._held) < _HEADER.size + size_bytes:
            return None
        content = bytes(memoryview(self._held)[_HEADER.size : _HEADER.size + size_bytes])
        del self._held[: _HEADER.size + size_bytes]
        if kind == CHUNK:
            return Chunk(content)
        return self._message(content) if kind == MESSAGE else _frames(content)

    def _bound(self, kind: int) -> int:
        if not self._is_trusted:
            if kind != MESSAGE:
                raise WireTrouble(f"kind {kind} of somebody who has not shown that it knows the secret")
            return STRANGER_BYTES_MAX
        if kind == MESSAGE:
            return MESSAGE_BYTES_MAX
        if kind not in (FRAMES, CHUNK):
            raise WireTrouble(f"there is no kind {kind}")
        return PIECE_BYTES_MAX

    def _message(self, content: bytes) -> Message:
        try:
            message = _DECODER.decode(content)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise WireTrouble(f"no message: {error}") from error
        if not self._is_trusted and not isinstance(message, _OF_STRANGERS):
            raise WireTrouble("somebody who has not shown that it knows the secret wants something")
        return message


def _frames(content: bytes) -> Frames:
    if len(content) < _STREAM.size:
        raise WireTrouble("frames of no stream")
    (stream,) = _STREAM.unpack_from(content)
    if stream > limits.SHARDS_MAX:
        raise WireTrouble(f"there is no stream {stream}")
    return Frames(stream, content[_STREAM.size :])
