"""Generic functions: one name, one implementation for each type of state, chosen before anything runs.

A layer declares its operations once, in its ``protocol.py``::

    @generic
    def try_push(producer, record_address): '''the contract'''

and each variant supplies them for its own state, a ``NamedTuple`` of int64 addresses and constants::

    @implements(try_push, SpscProducer)
    def _try_push(producer, record_address): ...

A kernel that calls ``try_push(queue, record)`` is compiled once for each type of ``queue``, with the right
body merged in: it costs nothing, as a C++ template costs nothing. Called from plain Python, the same name
finds the same implementation by the type of its first argument (``functools.singledispatch``), compiled if all parts of
that argument are. So a loop that
is written once runs compiled over compiled variants, and interpreted over any mixture with plain-Python ones.

A state whose class is a ``NamedTuple`` is compiled; any other class is plain Python.
"""

from collections.abc import Callable
from functools import singledispatch
from typing import Any

from numba import types
from numba.core.typing.templates import AbstractTemplate, infer, infer_global

from exchange.native.cache import inlined, kernel

_implementations: dict[Any, dict[type, Callable[..., Any]]] = {}
_python_bodies: dict[tuple[Any, type], Callable[..., Any]] = {}
_named: dict[str, type] = {}


def generic[F: Callable[..., Any]](declaration: F) -> F:
    """Make ``declaration`` (a signature and its contract; the body is never run) an operation of a layer."""

    def missing(state: Any, *_arguments: Any) -> Any:
        raise TypeError(f"{type(state).__qualname__} does not implement {declaration.__name__}()")

    missing.__name__ = declaration.__name__
    missing.__doc__ = declaration.__doc__
    missing.__module__ = declaration.__module__
    operation: Any = singledispatch(missing)
    table: dict[type, Callable[..., Any]] = {}
    _implementations[operation] = table

    _type_calls(operation, table)
    return operation  # type: ignore[no-any-return]


def _type_calls(operation: Any, table: dict[type, Callable[..., Any]]) -> None:
    """Have numba take a call of the operation inside a kernel as a call of the compiled body, and nothing else.

    ``numba.extending.overload`` would do, with a function that forwards to the body. That function would be compiled,
    and all that the body consists of optimized once more, for each operation and each type.
    """
    compiled: dict[Any, Any] = {}

    def signature_of(template: Any, args: Any, kws: Any) -> Any:
        body = table.get(getattr(args[0], "instance_class", type(None)))
        if body is None:
            return None
        dispatcher = types.Dispatcher(body)
        signature = dispatcher.get_call_type(template.context, args, kws)
        compiled[signature.args] = dispatcher.get_overload(signature)
        return signature

    def body_of(_template: Any, signature: Any) -> Any:
        return compiled[signature.args]

    choice = type(
        "Choice",
        (AbstractTemplate,),
        {"key": operation, "generic": signature_of, "get_impl_key": body_of},  # as numba calls them
    )
    infer(choice)
    infer_global(operation, types.Function(choice))


def implements[F: Callable[..., Any]](
    operation: Any, state_type: type, *, inline: bool = True
) -> Callable[[F], F]:
    """Decorate the body of ``operation`` for states of ``state_type``.

    Args:
        operation: a function made by :func:`generic`.
        state_type: a ``NamedTuple`` class (the body is compiled) or any other class (it stays Python).
        inline: merge the body into its callers; False keeps it a function of its own, compiled and cached once,
            which is right for large bodies that are called once for a batch.
    """

    def register(function: F) -> F:
        _python_bodies[operation, state_type] = function
        if issubclass(state_type, tuple):
            _tell_apart(state_type)
            compiled = inlined(function) if inline else kernel(function)
            _implementations[operation][state_type] = compiled
            operation.register(
                state_type, _either(function, compiled) if _is_composed(state_type) else compiled
            )
        else:
            operation.register(state_type, function)
        return function

    return register


def _is_composed(state_type: type) -> bool:
    """Whether a state has parts that may be of any variant, and so may be plain Python."""
    return any(kind not in (int, "int") for kind in state_type.__annotations__.values())


def _either(function: Callable[..., Any], compiled: Callable[..., Any]) -> Callable[..., Any]:
    """For calls from Python: the compiled body if all parts of the state are compiled, else the source."""

    def choose(state: Any, *arguments: Any) -> Any:
        return (compiled if is_compiled(state) else function)(state, *arguments)

    return choose


def _tell_apart(state_type: type) -> None:
    """Give the class another ``__name__`` if a different state has the same one already.

    numba chooses the compiled function for an argument by the *name* of its NamedTuple and the types of its fields. Two
    classes of one name would run each other's code: a user's queue that began as a copy of ``spsc.py``, or that same
    queue before and after an edit.
    """
    name = state_type.__name__
    place = 1
    while _named.setdefault(state_type.__name__, state_type) is not state_type:
        place += 1
        state_type.__name__ = f"{name}_{place}"


def is_implemented(operation: Any, state_type: type) -> bool:
    """Whether a variant supplies ``operation`` for ``state_type``: used to name what a user's layer lacks."""
    return state_type in operation.registry


def body_for(operation: Any, state: Any) -> Callable[..., Any]:
    """What to call from Python for this very state: compiled code if all its parts are compiled, else the source.

    A state may be a ``NamedTuple`` that holds a plain-Python part (a shard with a textbook book): its body then runs
    interpreted, and the operations that it calls on compiled parts still run compiled.
    """
    if is_compiled(state):
        return _implementations[operation][type(state)]
    return _python_bodies[operation, type(state)]


def is_compiled(state: Any) -> bool:
    """Whether every part of a state can be passed to a kernel (nested tuples of integers), down to the leaves."""
    if isinstance(state, tuple):
        return all(is_compiled(part) for part in state)
    return isinstance(state, int)
