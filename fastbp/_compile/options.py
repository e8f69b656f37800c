"""How every kernel is compiled and cached: one decorator, each option with its reason.

Numba stamps a cached function with the content of its *own* file only, although the machine
code also holds whatever that function inlined from other files.  Edit a helper, or install another
version of the package over this one, and stale code would run.  The cache below is therefore
stamped with the content of every file that can end up inside a kernel.

Numba's index file is not used either: a torn one stops every later process, and two processes that
fill it at once can give the same data file to two specialisations, so that float64 arrays run
float32 code.  Here a file's name is a digest of what it holds the code of.
"""

import gc
import hashlib
import operator
import os
import pickle
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import llvmlite
import llvmlite.binding as llvm
import numba
import numpy as np
from numba.core import cgutils, config, ir, serialize, types
from numba.core.analysis import compute_cfg_from_blocks
from numba.core.caching import CompileResultCacheImpl, FunctionCache, NullCache
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase
from numba.core.compiler_lock import global_compiler_lock
from numba.core.compiler_machinery import (
    FunctionPass,
    PassManager,
    pass_timings,
    register_pass,
)
from numba.core.ir_utils import build_definitions, get_definition, guard
from numba.core.lowering import Lower
from numba.core.registry import cpu_target
from numba.core.typed_passes import (
    IRLegalization,
    NativeLowering,
    NoPythonBackend,
    NoPythonSupportedFeatureValidation,
    NopythonTypeInference,
    PreLowerStripPhis,
)
from numba.core.typing.typeof import typeof
from numba.core.untyped_passes import (
    FixupArgs,
    GenericRewrites,
    IRProcessing,
    ReconstructSSA,
    TranslateByteCode,
)


def _source_stamp() -> str:
    """Digest of every file that may end up inside a kernel, and of the compiler's version."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__}".encode())
    for path in sorted(package.glob("**/*.py")):
        digest.update(path.relative_to(package).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


# Whether NUMBA_DISABLE_JIT=1 has all kernels run as plain Python
DISABLE_JIT = bool(config.DISABLE_JIT)

SOURCE_STAMP = _source_stamp()


class _CacheFiles:
    """One file for each specialisation: a digest of the content, then the pickled content."""

    def __init__(self, folder: str, kernel_name: str) -> None:
        self._folder = Path(folder)
        self._prefix = f"{kernel_name}.{SOURCE_STAMP[:16]}."
        self._every_version = f"{kernel_name}.*.nbc"

    def _path(self, key: object) -> Path:
        digest = hashlib.sha256(repr((SOURCE_STAMP, key)).encode()).hexdigest()
        return self._folder / f"{self._prefix}{digest[:32]}.nbc"

    def load(self, key: object) -> Any:
        try:
            content = self._path(key).read_bytes()
        except FileNotFoundError:
            return None
        digest, data = content[:32], content[32:]
        # A file torn by a crash is a miss: compile again.
        return pickle.loads(data) if hashlib.sha256(data).digest() == digest else None

    def save(self, key: object, content: object) -> None:
        data = serialize.dumps(content)
        with tempfile.NamedTemporaryFile(dir=self._folder, delete=False) as file:
            try:
                file.write(hashlib.sha256(data).digest() + data)
                file.close()
                os.replace(file.name, self._path(key))  # whole or not at all, whoever else writes
            except OSError:
                os.unlink(file.name)
                raise
        for path in self._folder.glob(self._every_version):
            if not path.name.startswith(self._prefix):
                path.unlink(missing_ok=True)  # code of an earlier source

    def flush(self) -> None:
        for path in self._folder.glob(self._every_version):
            path.unlink(missing_ok=True)


@contextmanager
def _without_collections() -> Iterator[None]:
    """Make what compiling and loading make: millions of objects, and next to no garbage.

    To look for garbage again and again takes a sixth of the time.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


class _KernelCacheImpl(CompileResultCacheImpl):  # type: ignore[misc]
    """What is cached of a kernel: as Numba does it, but for the class of its library."""

    def rebuild(self, target_context: Any, payload: Any) -> Any:
        codegen = target_context.codegen()
        with _replaced(codegen, "unserialize_library", partial(_KernelLibrary.load, codegen)):
            result = super().rebuild(target_context, payload)
        result.library.add_link(result.fndesc, result.signature.args)
        return result


class _FoundCache(FunctionCache):  # type: ignore[misc]
    """Numba's file cache, stale after an edit of any kernel file."""

    _impl_class = _KernelCacheImpl

    def __init__(self, py_func: Callable[..., Any]) -> None:
        super().__init__(py_func)
        self._cache_file = _CacheFiles(self.cache_path, self._impl.filename_base)

    def _index_key(self, sig: Any, codegen: Any) -> tuple[Any, ...]:
        # Numba leaves these out of its key, yet each of them changes the machine code.
        return (*super()._index_key(sig, codegen), config.BOUNDSCHECK, str(config.OPT))


class _KernelCache(NullCache):  # type: ignore[misc]
    """The cache of one kernel: looked for at the first compilation, and never fatal.

    To look for it at import would write a file for each kernel, only to see whether one can.
    """

    def __init__(self, py_func: Callable[..., Any]) -> None:
        self._py_func = py_func

    @cached_property
    def _found(self) -> Any:
        try:
            return _FoundCache(self._py_func)
        except (RuntimeError, OSError):
            return NullCache()  # read-only install and no home: compile once per process

    @property
    def cache_path(self) -> Any:
        return self._found.cache_path

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            with _without_collections():
                return self._found.load_overload(sig, target_context)
        except OSError:
            return None  # an unreadable file is a miss: compile again

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            self._found.save_overload(sig, data)
        except OSError:
            # A full or read-only disk costs the next process a compilation, no more.
            self._found = NullCache()

    def flush(self) -> None:
        self._found.flush()


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile ``function`` as a fastbp kernel.

    Compilation happens at the first call with a type: explicit signatures would compile at
    import and would refuse read-only arrays.
    """
    return _compiled(function, inline=False)


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile ``function`` as a part of kernels, always inlined: lanes stay in registers.

    Not callable from Python.
    """
    return _compiled(function, inline=True)


class _UnoptimisedLibrary(JITCodeLibrary):  # type: ignore[misc]
    """Code that is optimised as part of a kernel, once, and not also function by function."""

    _shared_module: Any

    def add_llvm_module(self, module: Any) -> None:
        module.data_layout = self._codegen._data_layout
        self._final_module.link_in(module)


class _PartLibrary(_UnoptimisedLibrary):
    """The code of a part: kept as it was written, to be optimised within the kernels that hold it.

    Numba would optimise it and turn it into machine code on its own, and again with everything that
    holds it, level by level.
    """

    def finalize(self) -> None:
        self._finalized = True

    def _get_module_for_linking(self) -> Any:
        # Linked into kernels alone, so it need not be kept: Numba would clone it first.
        for function in self._final_module.functions:
            if not function.is_declaration and function.linkage == llvm.Linkage.external:
                function.linkage = "linkonce_odr"
        return self._final_module


class _KernelLibrary(_UnoptimisedLibrary):
    """The code of a kernel, and of all parts that it holds.

    Code that calls a kernel is linked to its machine code, where the kernel is too large to be
    inlined: Numba would optimise and compile all of it again within each caller.
    """

    # LLVM inlines functions of 50 instructions or so.
    MOST_INLINED = 200

    # Whether another process finds the kernel by its name
    is_importable = False

    # What the machine code defines
    _symbols: tuple[str, ...] = ()

    def finalize(self) -> None:
        libraries = list(dict.fromkeys(self._linking_libraries))
        for library in libraries:  # grows
            if isinstance(library, _PartLibrary):
                libraries.extend(x for x in library._linking_libraries if x not in libraries)
        self._linking_libraries[:] = libraries
        super().finalize()
        self._symbols = tuple(function.name for function in self.get_defined_functions())

    def _optimize_final_module(self) -> None:
        # Numba's pipeline, without the cheap one before it, which is for functions that count
        # references, and without unrolling, which costs a sixth of the time: loops over registers
        # gain nothing by it.
        options = llvm.create_pipeline_tuning_options(config.OPT)
        options.loop_vectorization = config.LOOP_VECTORIZE
        options.slp_vectorization = config.SLP_VECTORIZE
        options.loop_unrolling = False
        builder = llvm.create_pass_builder(self._codegen._tm, options)
        passes = builder.getModulePassManager()
        passes.add_refprune_pass()
        with self._recorded_timings.record("Module passes", builder):
            passes.run(self._final_module, builder)

    def _get_module_for_linking(self) -> Any:
        self._ensure_finalized()
        if self._shared_module is None and self.is_importable and not self._is_inlined():
            nothing = str(self._codegen._create_empty_module(self.name))
            self._shared_module = llvm.parse_assembly(nothing)
        return super()._get_module_for_linking()

    def _is_inlined(self) -> bool:
        """Whether LLVM may inline the kernel into code that calls it."""
        instructions = (
            instruction
            for function in self.get_defined_functions()
            if not function.name.startswith("_ZN7cpython")  # for calls from Python
            for block in function.blocks
            for instruction in block.instructions
        )
        return next(islice(instructions, self.MOST_INLINED, None), None) is None

    def add_link(self, descriptor: Any, args: tuple[Any, ...]) -> None:
        """Have the kernel loaded wherever code that is linked to it is loaded from a cache."""
        link = _Link(descriptor.modname, descriptor.qualname, args, descriptor.mangled_name)
        self._reload_init.add(link)

    def serialize_using_object_code(self) -> Any:
        name, kind, data = super().serialize_using_object_code()
        return name, kind, (*data, self._symbols)

    @classmethod
    def load(cls, codegen: Any, serialized: Any) -> "_KernelLibrary":
        """Undo `serialize_using_object_code`."""
        name, _, (machine_code, shared, symbols) = serialized
        self = cls(codegen, name)
        self.enable_object_caching()
        self._set_compiled_object(machine_code)
        self._shared_module = llvm.parse_bitcode(shared)
        self._symbols = symbols
        self._finalize_final_module()
        codegen._engine._defined_symbols.update(symbols)
        return self


@dataclass(frozen=True)
class _Link:
    """One kernel that other code is linked to: makes sure that it is there before that code.

    Numba collects these of all code that a function calls, and pickles them with its machine code
    in the cache.  When it is unpickled, in another process, the kernel is loaded.  A kernel that is
    no longer the same, or was compiled again under another name, is reported as a missing file:
    Numba then compiles the caller again.
    """

    module: str
    name: str
    args: tuple[Any, ...]
    symbol: str

    def __reduce__(self) -> Any:
        return _Link.load, (SOURCE_STAMP, self.module, self.name, self.args, self.symbol)

    @staticmethod
    def load(stamp: str, module: str, name: str, args: tuple[Any, ...], symbol: str) -> "_Link":
        if stamp != SOURCE_STAMP:
            raise FileNotFoundError(f"{module}.{name} is not the one that was linked to")
        dispatcher = getattr(import_module(module), name)
        dispatcher.compile(args)
        found = dispatcher.overloads[args].fndesc.mangled_name
        if found != symbol:
            raise FileNotFoundError(f"{module}.{name} is {found}, not {symbol}")
        return _Link(module, name, args, symbol)

    def __call__(self) -> None:
        """Hand this on to the library that Numba loads next, for functions that call that one.

        Numba calls this just before it loads the library, and keeps it in the compilation's result,
        not in the library.
        """
        codegen = cpu_target.target_context.codegen()
        load = codegen.unserialize_library

        def load_with_link(serialized: Any) -> Any:
            vars(codegen).pop("unserialize_library", None)
            library = load(serialized)
            library._reload_init.add(self)
            return library

        codegen.unserialize_library = load_with_link


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Give an object an attribute of its own for a while."""
    own = vars(owner)
    before = {name: own[name]} if name in own else {}
    own[name] = value
    try:
        yield
    finally:
        own.pop(name, None)
        own.update(before)


class _Lowering(Lower):  # type: ignore[misc]
    """Numba's, without what kernels have no use for."""

    # Whether values of a type hold references to be counted
    _is_counted: ClassVar[dict[Any, bool]] = {}

    def alloca_lltype(self, name: Any, lltype: Any, datamodel: Any = None) -> Any:
        # For debug information, Numba has LLVM parse a module for the size of each variable.
        return cgutils.alloca_once(self.builder, lltype, name=name)

    def incref(self, typ: Any, val: Any) -> None:
        if self._counts(typ):
            super().incref(typ, val)

    def decref(self, typ: Any, val: Any) -> None:
        if self._counts(typ):
            super().decref(typ, val)

    def _counts(self, typ: Any) -> bool:
        if typ not in self._is_counted:
            model = self.context.data_model_manager[typ]
            self._is_counted[typ] = model.contains_nrt_meminfo()
        return self._is_counted[typ]


@register_pass(mutates_CFG=True, analysis_only=False)
class _KernelLowering(NativeLowering):  # type: ignore[misc]
    _name = "kernel_lowering"

    @property
    def lowering_class(self) -> type[Lower]:
        return _Lowering

    def run_pass(self, state: Any) -> bool:
        state.library = _KernelLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        function = state.func_id.func
        found = getattr(sys.modules.get(function.__module__), function.__qualname__, None)
        state.library.is_importable = getattr(found, "py_func", None) is function
        super().run_pass(state)
        if state.library.is_importable:
            state.library.add_link(state["cr"].fndesc, state.args)
        return True


@register_pass(mutates_CFG=True, analysis_only=False)
class _PartLowering(NativeLowering):  # type: ignore[misc]
    _name = "part_lowering"

    @property
    def lowering_class(self) -> type[Lower]:
        return _Lowering

    def run_pass(self, state: Any) -> bool:
        state.library = _PartLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        state.flags.no_compile = True
        state.flags.no_cpython_wrapper = True
        state.flags.no_cfunc_wrapper = True
        super().run_pass(state)
        # Numba finds the code by this object; it takes nothing but a built-in function.
        key: list[None] = []
        name = key.append
        result = state["cr"]
        state.targetctx.insert_user_function(name, result.fndesc, [state.library])
        state["cr"] = result._replace(cfunc=name)
        return True


@register_pass(mutates_CFG=True, analysis_only=False)
class _BranchPruning(FunctionPass):  # type: ignore[misc]
    """Remove the branches that the types of the arguments rule out, before types are inferred.

    Decided are ``x is None``, ``x is not None``, and ``if flag`` of a literal, where ``x`` and
    ``flag`` are parameters that the body never assigns, or fields of such a named tuple.  So one
    source serves calls with and without an argument, and each compiles only what it needs.
    Numba's own pass knows neither fields nor that an array is not None.
    """

    _name = "branch_pruning"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        blocks = state.func_ir.blocks
        is_changed = False
        for block in blocks.values():
            branch = block.terminator
            if isinstance(branch, ir.Branch):
                outcome = self._outcome(state, branch.cond)
                if outcome is not None:
                    target = branch.truebr if outcome else branch.falsebr
                    block.body[-1] = ir.Jump(target, branch.loc)
                    is_changed = True
        if is_changed:
            for label in compute_cfg_from_blocks(blocks).dead_nodes():
                del blocks[label]
            state.func_ir._definitions = build_definitions(blocks)
        return is_changed

    def _outcome(self, state: Any, condition: Any) -> bool | None:
        """The value of a branch's condition; None where only the run time decides."""
        test = guard(get_definition, state.func_ir, condition)
        if not (isinstance(test, ir.Expr) and test.op == "call"):
            return None  # a for loop's; all others are bool(...) of what the source says
        value = guard(get_definition, state.func_ir, test.args[0])
        if not (isinstance(value, ir.Expr) and value.op == "binop"):
            flag = self._argument_type(state, test.args[0])
            return bool(flag.literal_value) if isinstance(flag, types.Literal) else None
        right = guard(get_definition, state.func_ir, value.rhs)
        if not (isinstance(right, ir.Const) and right.value is None):
            return None
        left = self._argument_type(state, value.lhs)
        if left is None or isinstance(left, types.Optional):
            return None
        is_none = isinstance(left, types.NoneType)
        return {operator.is_: is_none, operator.is_not: not is_none}.get(value.fn)

    def _argument_type(self, state: Any, variable: Any) -> Any:
        """The type of a parameter or of a field of one; None for all other variables."""
        source = guard(get_definition, state.func_ir, variable)
        if isinstance(source, ir.Arg):
            argument = state.args[source.index]
            if isinstance(argument, types.Omitted):
                return typeof(argument.value)
            return argument
        if isinstance(source, ir.Expr) and source.op == "getattr":
            record = self._argument_type(state, source.value)
            if isinstance(record, types.BaseNamedTuple) and source.attr in record.fields:
                return record[record.fields.index(source.attr)]
        return None


class _Passes(PassManager):  # type: ignore[misc]
    """Numba's, without looking at all the code again after each pass: a tenth of the time."""

    def _runPass(self, index: int, step: Any, state: Any) -> None:
        step.analysis = self._analysis
        started = time.perf_counter()
        step.run_initialization(state)
        step.run_pass(state)
        step.run_finalizer(state)
        times = pass_timings(0.0, time.perf_counter() - started, 0.0)
        self.exec_times[f"{index}_{step.name()}"] = times


class _KernelCompiler(CompilerBase):  # type: ignore[misc]
    """Numba's pipeline without the passes that kernels have no use for.

    Left out: closures, ``with`` blocks, array expressions, literal unrolling, inlining of Numba's
    own functions, and annotations: half of the time that a small function takes.
    """

    lowering = _KernelLowering

    def compile_extra(self, func: Callable[..., Any]) -> Any:
        with _without_collections():
            return super().compile_extra(func)

    def define_pipelines(self) -> list[Any]:
        passes = _Passes("kernel")
        for step in (
            TranslateByteCode,
            FixupArgs,
            _BranchPruning,
            IRProcessing,
            GenericRewrites,
            ReconstructSSA,
            NopythonTypeInference,
            PreLowerStripPhis,
            NoPythonSupportedFeatureValidation,
            IRLegalization,
            self.lowering,
            NoPythonBackend,
        ):
            passes.add_pass(step, step.__name__)
        passes.finalize()
        return [passes]


class _FreshContext:
    """A context of Numba's that has just been refreshed: to do so again is left out."""

    def __init__(self, context: Any) -> None:
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def refresh(self) -> None:
        pass


class _PartCompiler(_KernelCompiler):
    lowering = _PartLowering

    def __init__(self, typingctx: Any, targetctx: Any, *rest: Any) -> None:
        # The compiler of the kernel has just read all registries: 3 ms a part.
        super().__init__(_FreshContext(typingctx), _FreshContext(targetctx), *rest)
        self.state.typingctx = typingctx


def _compiled(function: Callable[..., Any], *, inline: bool) -> Callable[..., Any]:
    if config.DISABLE_JIT:
        # Plain Python warns where IEEE arithmetic just gives inf or NaN, as compiled code does.
        return np.errstate(all="ignore")(function)
    dispatcher = numba.njit(
        # The caller's thread pool is only worth having when kernels let go of the interpreter.
        nogil=True,
        # Division by zero gives inf or NaN as IEEE says; the default raises, and its branch
        # keeps loops from vectorising.
        error_model="numpy",
        # No fastmath: every fused multiply-add and every reordered sum is written out, so that
        # the bits do not depend on the compiler, the vector width or the caller.
        fastmath=False,
        forceinline=inline,
        pipeline_class=_PartCompiler if inline else _KernelCompiler,
        no_cfunc_wrapper=True,
    )(function)
    if inline:
        return dispatcher  # type: ignore[no-any-return]
    dispatcher._cache = _KernelCache(function)
    return dispatcher  # type: ignore[no-any-return]


def _hold_compiler() -> None:
    """Wait until no other thread compiles or loads a kernel, and let none begin.

    Only the thread that forks lives on in the child: a lock that another thread holds would stay
    locked there.
    """
    # Numba imports numpy.ma at the first call of a kernel, which holds a lock, too.  Imported with
    # fastbp, it would take a seventh of the time.
    import numpy.ma  # noqa: F401

    global_compiler_lock.acquire()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_hold_compiler,
        after_in_parent=global_compiler_lock.release,
        after_in_child=global_compiler_lock.release,
    )
