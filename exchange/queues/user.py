"""A queue from a file outside the package: ``kind = "file:./my_queue.py:MyQueue"``.

The file is ordinary Python that imports what it needs from ``exchange``; ``docs/layers/queues.md`` and the
first tutorial show one. Its class is called with ``capacity_slots, producers, consumers`` and has the methods
of :class:`exchange.queues.protocol.Queue`; the three operations are supplied with ``@implements``.

Everything that can be missing is looked for here, before a thread starts, and named. The file takes part in
the digest that names the cache of compiled code, so an edited queue never runs stale."""

import hashlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from exchange.errors import UserError
from exchange.native import is_implemented
from exchange.native.cache import include_source
from exchange.queues.config import UserQueueConfig
from exchange.queues.protocol import Queue, poll_batch, try_push, try_push_batch


def load_user_queue(config: UserQueueConfig, producers: int, consumers: int) -> Queue:
    """Import the file, build its class, and check that nothing is missing.

    Raises:
        UserError: naming the file and what it lacks.
    """
    path = Path(config.path)
    where = f"queue file {path}"
    queue_class = getattr(_import_file(path), config.name, None)
    if not isinstance(queue_class, type):
        raise UserError(f"{where}: it has no class {config.name!r}; kind is 'file:PATH:CLASS'")
    missing = [
        name for name in ("producer", "consumer", "back_pressure_count") if not hasattr(queue_class, name)
    ]
    if missing:
        raise UserError(f"{where}: class {config.name} lacks the method(s) {', '.join(missing)}")
    try:
        queue: Any = queue_class(config.capacity_slots, producers, consumers)
        producer, consumer = queue.producer(0), queue.consumer(0)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{where}: building {config.name} failed: {type(error).__name__}: {error}") from error
    for operation, handle, role in (
        (try_push, producer, "producer"),
        (try_push_batch, producer, "producer"),
        (poll_batch, consumer, "consumer"),
    ):
        if not is_implemented(operation, type(handle)):
            raise UserError(
                f"{where}: {operation.__name__} is missing; write it with "
                f"@implements({operation.__name__}, {type(handle).__qualname__}) for the {role} handle"
            )
    return queue  # type: ignore[no-any-return]


def _import_file(path: Path) -> ModuleType:
    """Import ``path`` once for each content it has; the module's name carries the digest."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"queue file {path}: {error.strerror}") from error
    digest = hashlib.sha256(str(path.resolve()).encode() + content).hexdigest()[:12]
    name = f"exchange_user_{path.stem}_{digest}"
    include_source(path, content)
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"queue file {path}: must be a Python file ending in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: numba and pickle look classes up by module name
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise UserError(f"queue file {path}: {type(error).__name__}: {error}") from error
    return module
