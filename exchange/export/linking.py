"""From numba's functions to a shared library that needs neither numba nor Python.

numba compiles a kernel to LLVM's intermediate representation (IR) and that to machine code in memory. Here the
IR is taken instead:

1. For each C function a small one is written that has C's name and types. It calls numba's, which has a calling
   convention of its own: the result comes back through a pointer, and the return value says whether there was
   an exception (kernels never raise, so nobody looks).
2. All IR is linked into one module. Everything but the C functions becomes internal to it, so that the optimiser
   may merge the kernels into them, and everything that only Python would call falls away.
3. The module is optimised again and turned into position-independent machine code for the chosen processor.
4. The C compiler's linker makes the library. It is told that whatever is left undefined must be in the C
   library: a kernel that would need Python cannot be linked.

``numba.cfunc`` and ``pycc`` do not serve: what they make needs Python's runtime.
"""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types

from exchange.errors import UserError
from exchange.export.c_api import CFunction

NATIVE: Final = "native"
COMPILERS: Final = ("cc", "gcc", "clang")
INSTALL_COMPILER: Final = "sudo apt-get install gcc libc6-dev"

_INT32, _INT64, _POINTER = ir.IntType(32), ir.IntType(64), ir.IntType(8).as_pointer()
_C_TYPES: Final = {
    "int32_t": _INT32,
    "uint32_t": _INT32,
    "int64_t": _INT64,
    "size_t": _INT64,
    "void": ir.VoidType(),
}
_LINKER_OPTIONS: Final = (
    "-shared", "-nostartfiles", "-nodefaultlibs", "-Wl,--no-undefined", "-Wl,-z,noexecstack", "-Wl,-z,relro,-z,now",
)  # fmt: skip
_LIST_PROCESSORS: Final = """
import llvmlite.binding as llvm
llvm.initialize_native_target()
llvm.initialize_native_asmprinter()
llvm.Target.from_default_triple().create_target_machine(cpu="help")
"""


def find_c_compiler() -> tuple[str, ...]:
    """The words of the command that compiles C: ``$CC`` if that is set, else the first compiler that is found.

    Raises:
        UserError: there is none.
    """
    asked = shlex.split(os.environ.get("CC", ""))
    for command in [asked] if asked else [[name] for name in COMPILERS]:
        if shutil.which(command[0]):
            return tuple(command)
    looked_for = f"CC = {' '.join(asked)}" if asked else ", ".join(COMPILERS)
    raise UserError(f"no C compiler was found ({looked_for}); install one: {INSTALL_COMPILER}")


def check_processor(cpu: str) -> None:
    """Refuse a processor that LLVM does not know for this architecture.

    Raises:
        UserError: naming what is allowed.
    """
    if cpu == NATIVE:
        return
    listed = subprocess.run(
        [sys.executable, "-c", _LIST_PROCESSORS], capture_output=True, text=True, check=True
    )
    table = listed.stderr.partition("Available features")[0]
    known = {line.split()[0] for line in table.splitlines() if " - Select the " in line}
    if cpu not in known:
        levels = sorted(name for name in known if name == "generic" or name.startswith("x86-64"))
        raise UserError(
            f"--cpu {cpu}: not a processor of {llvm.get_process_triple()}; allowed are {NATIVE}, "
            f"{', '.join(levels)}, or a name that LLVM has for one, such as {llvm.get_host_cpu_name()}"
        )


def link_library(
    functions: Sequence[CFunction],
    constants: Mapping[str, int],
    cpu: str,
    library: Path,
    compiler: Sequence[str],
) -> None:
    """Make the shared library ``library``.

    Args:
        functions: what it exports.
        constants: names of further functions that return nothing but a number, as ``uint32_t``.
        cpu: ``"native"``, or a name for which :func:`check_processor` had no objection.
        library: the file to write.
        compiler: the command that compiles C, and links.

    Raises:
        UserError: the compiler has no C library to link with.
        RuntimeError: the linker failed for another reason, which is a fault of ours.
    """
    module = _linked_module(functions, constants)
    machine = _target_machine(cpu)
    module.data_layout = str(machine.target_data)
    _keep_only(module, {function.name for function in functions} | set(constants))
    _optimise(module, machine)
    module.verify()
    with tempfile.TemporaryDirectory() as folder:
        object_file = Path(folder, "book.o")
        object_file.write_bytes(machine.emit_object(module))
        name = f"-Wl,-soname,{library.name}"
        command = [*compiler, *_LINKER_OPTIONS, name, "-o", str(library), str(object_file), "-lc"]
        linked = subprocess.run(command, capture_output=True, text=True, check=False)
        if "cannot find -lc" in linked.stderr:
            raise UserError(f"{compiler[0]} finds no C library to link with; install it: {INSTALL_COMPILER}")
        if linked.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {linked.stderr}")


def _linked_module(functions: Sequence[CFunction], constants: Mapping[str, int]) -> Any:
    shims = ir.Module("exchange_book")
    libraries = [_add_function(shims, function) for function in functions]
    for name, number in constants.items():
        constant = ir.Function(shims, ir.FunctionType(_INT32, []), name)
        ir.IRBuilder(constant.append_basic_block()).ret(_INT32(number))
    module = llvm.parse_assembly(str(shims))
    module.triple = llvm.get_process_triple()
    for library in libraries:
        # What numba links into other kernels: all functions of this one, under names that may occur twice.
        module.link_in(llvm.parse_bitcode(library._get_module_for_linking().as_bitcode()))
    return module


def _add_function(shims: ir.Module, function: CFunction) -> Any:
    """Write the C function that calls a kernel; returns numba's library with the kernel's IR."""
    dispatcher: Any = function.kernel
    signature = (types.int64,) * len(function.parameters)
    if not hasattr(dispatcher, "compile"):
        raise UserError("NUMBA_DISABLE_JIT = 1: nothing is compiled, so there is nothing to export; unset it")
    dispatcher.compile(signature)
    compiled = dispatcher.overloads[signature]
    assert compiled.signature.return_type == types.int64, function.name

    convention = ir.FunctionType(_INT32, [_POINTER, _POINTER, *[_INT64] * len(signature)])
    target = ir.Function(shims, convention, compiled.fndesc.llvm_func_name)
    result, *kinds = (_c_type(kind) for kind in (function.result, *(kind for kind, _ in function.parameters)))
    shim = ir.Function(shims, ir.FunctionType(result, kinds), function.name)
    builder = ir.IRBuilder(shim.append_basic_block())
    returned, exception = builder.alloca(_INT64), builder.alloca(_POINTER)
    words = [
        _to_word(builder, value, kind)
        for value, (kind, _) in zip(shim.args, function.parameters, strict=True)
    ]
    builder.call(target, [builder.bitcast(returned, _POINTER), builder.bitcast(exception, _POINTER), *words])
    if function.result == "void":
        builder.ret_void()
    elif function.result.endswith("*"):
        builder.ret(builder.inttoptr(builder.load(returned), _POINTER))
    else:
        word = builder.load(returned)
        builder.ret(word if result.width == 64 else builder.trunc(word, result))
    return compiled.library


def _c_type(kind: str) -> Any:
    return _POINTER if kind.endswith("*") else _C_TYPES[kind]


def _to_word(builder: Any, value: Any, kind: str) -> Any:
    """An argument of C's type as the int64 that kernels take."""
    if kind.endswith("*"):
        return builder.ptrtoint(value, _INT64)
    if value.type.width == 64:
        return value
    return builder.zext(value, _INT64) if kind.startswith("u") else builder.sext(value, _INT64)


def _target_machine(cpu: str) -> Any:
    features = ""
    if cpu == NATIVE:
        cpu, features = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
    target = llvm.Target.from_triple(llvm.get_process_triple())
    return target.create_target_machine(cpu=cpu, features=features, opt=3, reloc="pic", codemodel="default")


def _keep_only(module: Any, names: set[str]) -> None:
    for function in module.functions:
        if not function.is_declaration:
            outside = function.name in names
            function.linkage = llvm.Linkage.external if outside else llvm.Linkage.internal
    for variable in module.global_variables:
        if not variable.is_declaration:
            variable.linkage = llvm.Linkage.internal


def _optimise(module: Any, machine: Any) -> None:
    """The whole pipeline of ``-O3``: kernels are merged into the C functions, and what nothing calls is dropped."""
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))
    builder.getModulePassManager().run(module, builder)
