"""The record in the store that says who is primary: one for each group of exchanges that stand in for each other.

It is the only thing that nodes agree about, and it is changed in one way: by compare-and-set on its revision, which the
store gives it (:mod:`exchange.replication.lease_store`). In the store it is JSON, so that an operator can read it with
the store's own tools.

Rules: a record is never changed but replaced by one that differs. Who reads one that no exchange has written gets
``ValueError``, whatever it contains.
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from exchange import limits

RECORD_BYTES_MAX: Final = 4096
"""Two names, two addresses and a few numbers are a tenth of it."""

_Name = Annotated[str, Meta(max_length=limits.NODE_CHARACTERS_MAX)]


class LeaseRecord(Struct, frozen=True, forbid_unknown_fields=True):
    """Who is primary, and who may be the next.

    ``holder`` names the process: a node that is started again is another holder, and has to wait for the lease of the
    one before like everybody else. ``renewal`` counts what a holder has tried to write in its epoch: by it a holder
    knows its own write again whose answer it never got. ``lease_ns`` is what this holder goes by, so that nodes with
    different settings agree. ``link`` is by what the backup is in sync: a word that the backup has made up for the
    memory that frames come into. One that was started again, or has joined anew, has another. Times are not in it:
    nobody has the same.
    """

    epoch: Annotated[int, Meta(ge=1, le=limits.EPOCH_MAX)]
    primary: Annotated[str, Meta(min_length=1, max_length=limits.NODE_CHARACTERS_MAX)]
    primary_address: Annotated[str, Meta(max_length=limits.ADDRESS_CHARACTERS_MAX)]
    holder: Annotated[str, Meta(min_length=1, max_length=64)]
    lease_ns: Annotated[int, Meta(ge=limits.LEASE_NS_MIN, le=limits.LEASE_NS_MAX)]
    renewal: Annotated[int, Meta(ge=0, le=(1 << 62))] = 0
    backup: _Name = ""
    in_sync: bool = False
    link: Annotated[str, Meta(max_length=limits.LINK_CHARACTERS_MAX)] = ""
    handing_over: bool = False
    ended: bool = False

    def __post_init__(self) -> None:
        if self.in_sync and not self.backup:
            raise ValueError("in_sync: there is no backup that could be")
        if self.handing_over and not self.in_sync:
            raise ValueError("handing_over: there is nobody in sync who could take over")

    def encode(self) -> bytes:
        """The record as JSON.

        Raises:
            ValueError: it could not be read again; a name is too long, for instance.
        """
        content = msgspec.json.encode(self)
        self.decode(content)
        return content

    @classmethod
    def decode(cls, content: bytes) -> "LeaseRecord":
        """The record of some JSON.

        Raises:
            ValueError: it is not one, in words.
        """
        if len(content) > RECORD_BYTES_MAX:
            raise ValueError(f"{len(content)} bytes; a lease has {RECORD_BYTES_MAX} at most")
        try:
            return _DECODER.decode(content)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f"no lease: {error}") from error


_DECODER: Final = msgspec.json.Decoder(LeaseRecord)
