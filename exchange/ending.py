"""How a process of the command line ends: in order, and then at once.

When Python ends, it takes itself apart object by object. With a compiler in memory that is half a second of processor
time in which a person has pressed Ctrl-C and sees nothing happen, and several times as much on a machine that is busy.
None of it is of use: a command has closed what it opened before it returns, and the kernel takes memory back by itself.
So :func:`end_process` does what is of use, which is to write out what is buffered and to run what was registered for
the exit, and leaves.

On its way there a Ctrl-C can be lost. Python throws away what is raised where nobody could catch it: in a ``__del__``,
in a callback from C. :func:`keep_ctrl_c` has it come once more, and :func:`was_ctrl_c_lost` tells an error that comes
of it (a compiler whose callback was broken off) from a fault of ours. And a library in C may not bear that one of its
calls is cut off in the middle: :func:`ctrl_c_postponed` lets Ctrl-C wait for the end of a block.

Rules: threads that still run are cut off, so a command joins its own. An exception that nobody caught does not come
here: it is a fault of ours, and Python prints it.
"""

import atexit
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final, NoReturn

BROKEN_PIPE_STATUS = 141
"""As a shell has it: 128 and the number of SIGPIPE."""


def end_process(status: int) -> NoReturn:
    """End the process with an exit status, after all that is registered for it and buffered has been done."""
    atexit._run_exitfuncs()
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            status = BROKEN_PIPE_STATUS
        except (OSError, ValueError):  # it is closed, or the disk is full
            status = status or 1
    os._exit(status)


RAISED_AGAIN_SECONDS: Final = 0.01
"""After this a Ctrl-C that was lost is raised again: by then the ``__del__`` that had no use for it has ended."""


_again: list[threading.Timer] = []


def keep_ctrl_c() -> None:
    """From now on, raise a KeyboardInterrupt that would be ignored once more, until somebody gets it."""
    before = sys.unraisablehook

    def hook(ignored: "sys.UnraisableHookArgs") -> None:
        if ignored.exc_type is KeyboardInterrupt:
            # To the main thread: the timer's own would take it, and the main one wait on in the call that it is in.
            main = (threading.main_thread().ident, signal.SIGINT)
            _again.append(threading.Timer(RAISED_AGAIN_SECONDS, signal.pthread_kill, main))
            _again[-1].start()
        else:
            before(ignored)

    sys.unraisablehook = hook


def was_ctrl_c_lost() -> bool:
    """Whether Python has ignored a Ctrl-C, so that an error may come of what it broke off. It does not come again."""
    for timer in _again:
        timer.cancel()
    return bool(_again)


@contextmanager
def ctrl_c_postponed() -> Iterator[None]:
    """Let Ctrl-C wait until the block has ended. It does nothing in other threads than the main one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    was_pressed = False

    def remember(_number: int, _frame: FrameType | None) -> None:
        nonlocal was_pressed
        was_pressed = True

    before = signal.signal(signal.SIGINT, remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if was_pressed:
            signal.raise_signal(signal.SIGINT)


def end_with_parent() -> None:
    """From now on, end this process by SIGTERM as soon as its standard input, a pipe of its parent's, is closed.

    The kernel closes it however the parent has ended.
    """

    def watch() -> None:
        with suppress(OSError):
            while os.read(0, 4096):
                pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()


class _Terminated(BaseException):
    """SIGTERM has come."""


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C would, cleaning up included, and go on behind it. Main thread only."""

    def end(_number: int, _frame: FrameType | None) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        with suppress(_Terminated):
            yield
    finally:
        signal.signal(signal.SIGTERM, before)
