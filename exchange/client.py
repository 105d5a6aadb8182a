"""A client of the exchange: log on, place, replace, cancel, and read the answers. asyncio, and small.

::

    async with await Client.connect("127.0.0.1", 9005, "alice", "secret") as client:
        number = await client.place("AAPL", Side.BUY, 100, price_ticks=187_3000)
        async for answer in client:
            ...

It speaks SoupBinTCP 3.00 and OUCH 5.0 (:mod:`exchange.wire`), so it can talk to any exchange that does; with
``transport="udp"`` the same in our own datagrams (:mod:`exchange.wire.soupbinudp`). Answers are the
message classes of :mod:`exchange.wire.ouch50`, in sequence; iteration ends with the session.

**A broken line is not an event.** The client logs on again by itself, asks for the next message that it has not seen,
and sends again what has not been answered: OUCH ignores a number that it has taken already, so an order can neither be
lost nor be placed twice. The messages that come out of the iteration have no gap and no repetition. After
``reconnect_seconds`` without success the iteration raises ConnectionError.

**An exchange may move.** With ``backups`` the client asks them as well whenever a line is lost, all at a time
(:mod:`exchange.address_search`), and goes on with whoever lets it in. A line that has fallen silent is given up
(:mod:`exchange.liveness`). End of Session is the end, wherever it is said.

Rules: one event loop; one task reads the answers, any may send. Prices are ticks of 1/10,000 dollar, quantities shares.
A reader that falls behind by :data:`ANSWERS_MAX` messages makes the client stop receiving, so TCP slows the exchange's
sending down, and in the end the exchange disconnects it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from exchange.address_search import CONNECT_SECONDS, LOGON_SECONDS, AddressSearch, LogonTurns, find
from exchange.errors import UserError
from exchange.line import Carrier, Line, LineOpener, open_line
from exchange.liveness import ANSWER_SECONDS, Liveness, check_limits
from exchange.unanswered import Key, Unanswered
from exchange.wire import soupbinudp
from exchange.wire.fields import WireError
from exchange.wire.layout import Message
from exchange.wire.ouch50 import (
    OUTBOUND_MESSAGES,
    AccountQuery,
    AccountQueryResponse,
    CancelOrder,
    CrossType,
    Display,
    EnterOrder,
    OrderAccepted,
    OrderCanceled,
    OrderReplaced,
    Rejected,
    ReplaceOrder,
    TimeInForce,
)
from exchange.wire.ouch_codes import Capacity, Side, YesOrNo
from exchange.wire.soupbintcp import (
    HEARTBEAT_INTERVAL_SECONDS,
    SERVER_PACKETS,
    SILENCE_SECONDS_MAX,
    ClientHeartbeat,
    EndOfSession,
    LoginAccepted,
    LoginRejected,
    LoginRejectReason,
    SequencedData,
    UnsequencedData,
)

__all__ = ["Client", "LoginRefused", "Side", "TimeInForce"]

ANSWERS_MAX: Final = 65_536
QUERY_SECONDS: Final = 10.0
"""How long an answer to an Account Query may take."""
LOOKS: Final = 4
"""So often in the shortest time limit it is looked whether the line is silent."""
HELD_UP_SECONDS: Final = 0.1
"""An event loop that comes so late has not had the time to hear anything."""


class LoginRefused(UserError):
    """The exchange did not let us in; trying again will not help."""


class Client:
    """A session of one user. Make it with :meth:`connect`.

    Attributes:
        session: the exchange's name for the session.
        next_sequence: the number of the next message that has not been received.
        next_user_reference: the UserRefNum that the next order will get.
        reconnections: how often the line was lost and found again.
        address: where the exchange was found last.
        taken_back: messages that had been received, and of which an exchange that we came back to knows nothing.
    """

    def __init__(
        self,
        addresses: Sequence[tuple[str, int]],
        username: str,
        password: str,
        *,
        reconnect_seconds: float,
        silence_seconds: float,
        answer_seconds: float,
        returns: bool,
        transport: Carrier | LineOpener = "tcp",
    ) -> None:
        check_limits(("silence_seconds", "answer_seconds"), silence_seconds, answer_seconds)
        self._addresses, self._transport = tuple(addresses), transport
        self._username, self._password = username, password
        self._reconnect_seconds, self._returns = reconnect_seconds, returns
        self._silence_seconds, self._answer_seconds = silence_seconds, answer_seconds
        self.session = ""
        self.next_sequence = 1
        self.next_user_reference = 1
        self.reconnections = 0
        self.taken_back = 0
        self._first_new_sequence = 1
        self._place = 0
        self._is_suspect = False
        self._refusal: LoginRefused | None = None
        self._turns = LogonTurns()
        self._line: Line | None = None
        self._connected = asyncio.Event()
        self._answers: asyncio.Queue[Message | BaseException | None] = asyncio.Queue(ANSWERS_MAX)
        self._unanswered = Unanswered()
        self._account: asyncio.Future[int] | None = None
        self._sent_at = 0.0
        self._liveness = Liveness(silence_seconds, answer_seconds, 0.0)
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def connect(
        cls,
        host: str,
        port: int,
        username: str,
        password: str,
        *,
        backups: Sequence[tuple[str, int]] = (),
        session: str = "",
        sequence: int = 1,
        reconnect_seconds: float = 30.0,
        silence_seconds: float = SILENCE_SECONDS_MAX,
        answer_seconds: float | None = None,
        returns: bool = True,
        transport: Carrier | LineOpener = "tcp",
    ) -> Self:
        """Log on.

        Args:
            host: the exchange's address.
            port: its TCP or UDP port.
            username: up to six characters.
            password: up to ten characters.
            backups: other addresses and ports where the same exchange may be, now or later.
            session: the session to go on with, or the one that is active now.
            sequence: the first message wanted; 1 has the whole day sent again, 0 only what is new.
            reconnect_seconds: how long to try, when the line is lost; 0 for not at all.
            silence_seconds: a line is given up on which nothing has come for so long; 15 at most.
            answer_seconds: the same while a request is unanswered; by default, 1.5 with ``backups``, and
                ``silence_seconds`` without. Below a second, a cancel of an order that is gone may cost a new logon, for
                nothing else may come for so long.
            returns: whether to go back to where a line was lost. Who logs on to a session takes it from whoever had it,
                so of two programs that both came back each would take it from the other for ever.
            transport: what the exchange's profile has as ``transport.kind``, "tcp" or "udp"; for "dpdk" the
                :meth:`~exchange.card_line.ClientCard.open` of a card.

        Raises:
            LoginRefused: name, password or session are not right.
            OSError: nobody lets us in there, nor at a backup; a TimeoutError if nobody answers.
        """
        default = min(ANSWER_SECONDS, silence_seconds) if backups else silence_seconds
        client = cls(
            ((host, port), *backups),
            username,
            password,
            reconnect_seconds=reconnect_seconds,
            silence_seconds=silence_seconds,
            answer_seconds=default if answer_seconds is None else answer_seconds,
            returns=returns,
            transport=transport,
        )
        client.session = session
        try:
            line = await client._begin(sequence)
        except BaseException:
            await client._hang_up()
            raise
        client._task = asyncio.create_task(client._run(line))
        return client

    @property
    def address(self) -> tuple[str, int]:
        """Where the exchange was found last: host and port."""
        return self._addresses[self._place]

    async def place(
        self,
        symbol: str,
        side: Side,
        quantity: int,
        *,
        price_ticks: int,
        time_in_force: TimeInForce = TimeInForce.DAY,
        client_order_id: str = "",
    ) -> int:
        """Place an order; returns its UserRefNum, by which all answers name it."""
        number = self._take_number()
        order = EnterOrder(
            number, side, quantity, symbol, price_ticks, time_in_force, Display.VISIBLE, Capacity.PRINCIPAL,
            YesOrNo.NO, CrossType.CONTINUOUS, client_order_id,
        )  # fmt: skip
        await self._request(("order", number), order)
        return number

    async def replace(
        self, number: int, quantity: int, *, price_ticks: int, client_order_id: str = ""
    ) -> int:
        """Give an order another price or size; returns the UserRefNum of the order that takes its place.

        ``quantity`` is the total of the order and all that it replaced, executions included.
        """
        replacement = self._take_number()
        request = ReplaceOrder(
            number, replacement, quantity, price_ticks, TimeInForce.DAY, Display.VISIBLE, YesOrNo.NO,
            client_order_id,
        )  # fmt: skip
        await self._request(("order", replacement), request)
        return replacement

    async def cancel(self, number: int, quantity: int = 0) -> None:
        """Cut an order down so that no more than ``quantity`` are executed in total; 0 cancels all that is left."""
        await self._request(("cancel", number), CancelOrder(number, quantity))

    async def synchronize(self) -> None:
        """Wait until the exchange has taken in all that was sent so far; what it answers may still be on its way.

        It is an Account Query, which a gateway answers in its turn, and is sent again when the line was lost. Raises
        TimeoutError if no answer comes.
        """
        key = ("account", 0)
        self._account = asyncio.get_running_loop().create_future()
        try:
            await self._request(key, AccountQuery())
            await asyncio.wait_for(self._account, QUERY_SECONDS)
        finally:
            self._unanswered.answered(key)

    async def close(self) -> None:
        """Log out. The session and its orders stay; connect again to go on."""
        if self._task is None:
            return
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self._task = None
        await self._hang_up(logout=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def __aiter__(self) -> AsyncIterator[Message]:
        """The answers in sequence, as they come, until the session ends.

        Raises:
            ConnectionError: the line was lost and could not be had again.
            LoginRefused: the exchange that we found again does not know us.
        """
        with suppress(EOFError):
            while True:
                yield await self.next_answer()

    async def next_answer(self) -> Message:
        """The next answer; as one step of the iteration. Raises EOFError when the session has ended."""
        answer = await self._answers.get()
        if answer is None:
            raise EOFError("the session has ended")
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _take_number(self) -> int:
        number = self.next_user_reference
        self.next_user_reference += 1
        return number

    async def _request(self, key: Key, message: Message) -> None:
        packet, is_sent = UnsequencedData(message.encode()).encode(), self._connected.is_set()
        self._unanswered.put(key, packet, is_sent=is_sent)
        if is_sent:
            await self._send_request(packet)  # otherwise it goes out with the others, when the line is back

    async def _send_again(self) -> None:
        """On a new line: what has no answer, before anything else."""
        self._unanswered.begin_again()
        while packets := self._unanswered.next_unsent():
            for packet in packets:
                await self._send_request(packet)
        self._connected.set()

    async def _send_request(self, packet: bytes) -> None:
        if self._line is not None:
            self._liveness.heard(self._line.heard_at)
            self._liveness.asked(asyncio.get_running_loop().time())
        await self._send(packet)

    async def _send(self, packet: bytes) -> None:
        line = self._line
        if line is None:
            return
        self._sent_at = asyncio.get_running_loop().time()
        with suppress(OSError):  # a broken line is found by the reader, which mends it
            await line.send(packet)

    async def _query_at_end(self, line: Line) -> int:
        """Which number is free, as long as nobody else reads. The answer is kept from the caller, also sent again."""
        self._account = asyncio.get_running_loop().create_future()
        await self._send(UnsequencedData(AccountQuery().encode()).encode())
        async with asyncio.timeout(QUERY_SECONDS):
            while not self._account.done():
                packets = await line.receive()
                if not packets or await self._take_packets(packets):
                    raise ConnectionError("the exchange has ended the connection")
        return self._account.result()

    async def _begin(self, sequence: int) -> Line:
        """A new line, logged on to get messages from ``sequence`` on.

        First at the end of what there is, to ask there which number is free. Behind all messages of a day the answer
        would come late, and only when somebody takes from the queue what comes before it, which nobody does yet.
        """
        self.next_sequence = 0
        line = await self._log_on(None)
        self._first_new_sequence = end = self.next_sequence
        self.next_user_reference = await self._query_at_end(line)
        if sequence in (0, end):
            return line
        await self._hang_up(logout=True)
        self._answers = asyncio.Queue(ANSWERS_MAX)  # what came with the answer comes once more
        self.next_sequence = sequence
        return await self._log_on(None)

    async def _log_on(self, give_up_at: float | None, avoided: int | None = None) -> Line:
        """A new line to whoever lets us in, logged on. OSError if nobody does."""
        now, suspect = asyncio.get_running_loop().time(), self._place if self._is_suspect else None
        search = AddressSearch(len(self._addresses), now, suspect, avoided=avoided)
        wanted = self.next_sequence
        self._place, (line, answer) = await find(search, self._ask, _let_go, give_up_at)
        self._line, self._is_suspect, self._refusal = line, False, None
        self._liveness = Liveness(self._silence_seconds, self._answer_seconds, line.heard_at)
        self.session, self.next_sequence = answer.session, answer.sequence_number
        self.taken_back += max(wanted - self.next_sequence, 0)
        return line

    async def _ask(self, place: int) -> "tuple[Line, _Accepted]":
        """Try to log on at one of the addresses."""
        async with asyncio.timeout(LOGON_SECONDS):
            async with asyncio.timeout(CONNECT_SECONDS):
                line = await open_line(self._transport, *self._addresses[place])
            try:
                async with self._turns.turn():
                    answer = await line.log_on(
                        self._username, self._password, self.session, self.next_sequence
                    )
                if not isinstance(answer, LoginRejected | soupbinudp.LoginRejected):
                    return line, answer
            except WireError as error:
                await line.close()
                raise ConnectionResetError(str(error)) from error
            except BaseException:
                await line.close()
                raise
        await line.close()
        reason = answer.reject_reason_code
        refusal = LoginRefused(f"login of {self._username} refused: {reason}")
        if reason == LoginRejectReason.SESSION_NOT_AVAILABLE and len(self._addresses) > 1:
            self._refusal = refusal  # which another address may know
            raise ConnectionRefusedError(str(refusal))
        raise refusal

    async def _run(self, line: Line) -> None:
        """Read until the session ends, and mend the line when it breaks."""
        try:
            while True:
                tasks = [
                    asyncio.create_task(one) for one in (self._send_again(), self._beat(), self._watch(line))
                ]
                try:
                    if await self._read(line):
                        await self._answers.put(None)
                        return
                except (OSError, UserError):
                    pass
                finally:
                    self._connected.clear()
                    for task in tasks:
                        task.cancel()
                await self._hang_up()
                line = await self._mend()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            await self._answers.put(error)

    async def _mend(self) -> Line:
        give_up_at = asyncio.get_running_loop().time() + self._reconnect_seconds
        try:
            line = await self._log_on(give_up_at, None if self._returns else self._place)
        except OSError as error:
            raise self._refusal or ConnectionError("the line to the exchange is lost") from error
        self.reconnections += 1
        return line

    async def _read(self, line: Line) -> bool:
        """Take packets until the line breaks (False) or the session ends (True)."""
        while packets := await line.receive():
            if await self._take_packets(packets):
                return True
        return False

    async def _take_packets(self, packets: list[bytes]) -> bool:
        """Whether the session has ended."""
        for packet in packets:
            decoded = SERVER_PACKETS.decode(packet)
            if isinstance(decoded, EndOfSession):
                return True
            if isinstance(decoded, SequencedData):
                self.next_sequence += 1
                await self._take(OUTBOUND_MESSAGES.decode(decoded.message))
        return False

    async def _take(self, answer: Message) -> None:
        match answer:
            case OrderAccepted() | OrderReplaced() | Rejected():
                self._unanswered.answered(("order", answer.user_reference_number))
            case OrderCanceled():
                self._unanswered.canceled(answer.user_reference_number)
            case AccountQueryResponse() if self.next_sequence > self._first_new_sequence:
                if self._account is not None and not self._account.done():
                    self._account.set_result(answer.next_user_reference_number)
                return  # also when it is sent again, or was asked for again
        await self._answers.put(answer)

    async def _watch(self, line: Line) -> None:
        """Give the line up when it has been silent for too long; whoever waits on it then finds it broken."""
        loop, liveness = asyncio.get_running_loop(), self._liveness
        while True:
            liveness.heard(line.heard_at)
            now, gives_up_at = loop.time(), liveness.gives_up_at(len(self._unanswered) > 0)
            if now >= gives_up_at:
                break
            wakes_at = min(gives_up_at, now + self._answer_seconds / LOOKS)
            await asyncio.sleep(wakes_at - now)
            if self._answers.full() or loop.time() > wakes_at + HELD_UP_SECONDS:
                liveness.heard(loop.time())  # it was us who did not listen
        self._is_suspect = True
        await line.close()

    async def _beat(self) -> None:
        """A heartbeat whenever nothing else has been sent for a second."""
        loop, packet = asyncio.get_running_loop(), ClientHeartbeat().encode()
        while True:
            await asyncio.sleep(max(0.0, self._sent_at + HEARTBEAT_INTERVAL_SECONDS - loop.time()))
            if loop.time() - self._sent_at >= HEARTBEAT_INTERVAL_SECONDS:
                await self._send(packet)

    async def _hang_up(self, *, logout: bool = False) -> None:
        line, self._line = self._line, None
        if line is not None:
            await line.close(logout=logout)


_Accepted = LoginAccepted | soupbinudp.LoginAccepted


async def _let_go(found: tuple[Line, _Accepted]) -> None:
    await found[0].close()
