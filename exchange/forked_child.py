"""A child that is forked from this process: it does one task, with the same memory at the same addresses, and ends.

A forked child has all that its parent has at that moment: compiled code, states full of plain addresses, and the
memory behind them that was made in a :func:`~exchange.native.shared_with_children` block. It takes no time to start
and nothing has to be told to it. Why not a fresh interpreter that attaches to named memory is told in decision 29.

**What it must not have** it lets go of before its task begins: every descriptor but the standard ones (a client's
socket that the parent closes has to be closed), the signals of the terminal and of whoever ends the service (the parent
is told by them, and tells its children), and Python's garbage collector (what it would collect is the parent's).

**It never outlives its parent.** The kernel kills it when the *thread* that forked it ends, however that ends, so a
child is forked by a thread that stays; and since memory that is shared this way has no name, nothing is left behind.

**Other threads.** A fork copies only the calling thread, and what locks the others hold stays locked in the child. So
:class:`~exchange.agent.ThreadGroup` forks before it starts any thread of its own; the task takes no lock of Python's
that another thread may hold: it is compiled code, or reads and writes files of its own. The C library and Python look
after their own locks. Python warns of forking nevertheless where it sees a thread; here that is silenced.

Rules: :meth:`ForkedChild.take_result` or :meth:`ForkedChild.forget` is called once, when the child has ended."""

import ctypes
import gc
import json
import os
import select
import signal
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, NoReturn

from exchange.errors import UserError

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NAME: Final = 15
_PARENTS_SIGNALS: Final = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
_FIRST_DESCRIPTOR: Final = 3
_KIND: Final = "kind"
_libc: Final = ctypes.CDLL(None, use_errno=True)


class ChildDied(UserError):
    """A child was ended by somebody else: by hand, or by a kernel that had no memory left."""


class ForkedChild:
    """A child of this process. It has been started when this is there.

    Args:
        name: what ``top`` calls it; up to 15 characters of it.
        task: what the child does. It returns something that JSON can say, in 64 KiB.
        keep: descriptors that it keeps, beside the standard ones.

    Attributes:
        pid: its process id.

    Raises:
        UserError: the system has no room for another process.
    """

    def __init__(self, name: str, task: Callable[[], object], keep: Collection[int] = ()) -> None:
        self.name: Final = name
        self._said, saying = os.pipe2(os.O_CLOEXEC)
        parent = os.getpid()
        try:
            with _signals_blocked() as before:
                pid = _fork()
                if pid == 0:
                    _live(name, task, parent, saying, keep, before)
        except OSError as error:
            os.close(self._said)
            raise UserError(f"{name}: no process can be started for it: {error.strerror}") from error
        finally:
            os.close(saying)
        self.pid: Final = pid
        self._ending = os.pidfd_open(pid)

    def wait(self, seconds: float) -> bool:
        """Wait until the child has ended, so long at most; whether it has."""
        poll = select.poll()
        poll.register(self._ending, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def kill(self) -> None:
        """End it at once."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._ending, signal.SIGKILL)

    def forget(self) -> None:
        """Wait for the end of a child that was killed; what it has to say is not wanted."""
        os.waitpid(self.pid, 0)
        os.close(self._ending)
        os.close(self._said)

    def take_result(self) -> Any:
        """What the task of the child, which has ended, returned.

        Raises:
            ChildDied: a signal ended it.
            UserError: the task raised one.
            RuntimeError: the task raised something else.
        """
        with os.fdopen(self._said, "rb") as pipe:
            said = pipe.read()
        _, status = os.waitpid(self.pid, 0)
        os.close(self._ending)
        if os.WIFSIGNALED(status):
            by = signal.Signals(os.WTERMSIG(status)).name
            raise ChildDied(f"{self.name}: its process {self.pid} was ended by {by}")
        answer = json.loads(said)
        if answer[_KIND] == "result":
            return answer["result"]
        told = f"{self.name}: {answer['text']}"
        raise UserError(told) if answer[_KIND] == "user" else RuntimeError(told)


@contextmanager
def _signals_blocked() -> Iterator[set[int]]:
    """Signals of the parent wait: a child must not run the parent's handlers. What was blocked before is told."""
    before: set[int] = signal.pthread_sigmask(signal.SIG_BLOCK, _PARENTS_SIGNALS)
    try:
        yield before
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _fork() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # see above, other threads
        return os.fork()


def _live(
    name: str,
    task: Callable[[], object],
    parent: int,
    saying: int,
    keep: Collection[int],
    blocked: set[int],
) -> NoReturn:
    """The child's life. Nothing of the parent's is cleaned up at its end."""
    status = 1
    try:
        _let_go(name, parent, (saying, *keep), blocked)
        answer: dict[str, object] = {_KIND: "result", "result": task()}
        status = 0
    except UserError as error:
        answer = {_KIND: "user", "text": str(error)}
    except BaseException as error:
        answer = {_KIND: "fault", "text": f"{type(error).__name__}: {error}"}
    try:
        os.write(saying, json.dumps(answer).encode())
    finally:
        os._exit(status)


def _let_go(name: str, parent: int, keep: Collection[int], blocked: set[int]) -> None:
    gc.disable()
    _libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # it ended before the kernel was asked to tell
        os._exit(1)
    _libc.prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()[:15]), 0, 0, 0)
    signal.set_wakeup_fd(-1)  # the other end is the parent's event loop
    for number in _PARENTS_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    begin = _FIRST_DESCRIPTOR
    for descriptor in sorted(keep):
        os.closerange(begin, descriptor)
        begin = max(begin, descriptor + 1)
    os.closerange(begin, os.sysconf("SC_OPEN_MAX"))
