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
import tempfile
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core import config, ir, serialize, types
from numba.core.analysis import compute_cfg_from_blocks
from numba.core.caching import FunctionCache, NullCache
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase
from numba.core.compiler_machinery import FunctionPass, PassManager, register_pass
from numba.core.ir_utils import build_definitions, get_definition, guard
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
    package = Path(__file__).parent
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__}".encode())
    for path in sorted(package.glob("**/*.py")):
        digest.update(path.relative_to(package).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


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


class _FoundCache(FunctionCache):  # type: ignore[misc]
    """Numba's file cache, stale after an edit of any kernel file."""

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


class _PartLibrary(JITCodeLibrary):  # type: ignore[misc]
    """The code of a part: kept as it is, to be optimised within the kernels that hold it.

    Numba would optimise it and turn it into machine code on its own, and again with everything that
    holds it, level by level (cold first fit: 20 s, now 5).
    """

    def finalize(self) -> None:
        for library in dict.fromkeys(self._linking_libraries):
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalized = True


@register_pass(mutates_CFG=True, analysis_only=False)
class _PartLowering(NativeLowering):  # type: ignore[misc]
    _name = "part_lowering"

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


class _KernelCompiler(CompilerBase):  # type: ignore[misc]
    """Numba's pipeline without the passes that kernels have no use for.

    Left out: closures, ``with`` blocks, array expressions, literal unrolling, inlining of Numba's
    own functions, and annotations: half of the time that a small function takes.
    """

    lowering = NativeLowering

    def compile_extra(self, func: Callable[..., Any]) -> Any:
        # Compilation makes millions of objects, and next to no garbage: to look for it again and
        # again takes a sixth of the time.
        collects = gc.isenabled()
        gc.disable()
        try:
            return super().compile_extra(func)
        finally:
            if collects:
                gc.enable()

    def define_pipelines(self) -> list[Any]:
        passes = PassManager("kernel")
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


class _PartCompiler(_KernelCompiler):
    lowering = _PartLowering


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
