"""Numba's compiler without what kernels have no use for: lowering, passes, pipelines."""

import gc
import operator
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from numba.core import cgutils, config, ir, types
from numba.core.analysis import compute_cfg_from_blocks
from numba.core.compiler import CompilerBase
from numba.core.compiler_machinery import (
    FunctionPass,
    PassManager,
    pass_timings,
    register_pass,
)
from numba.core.ir_utils import build_definitions, get_definition, guard
from numba.core.lowering import Lower
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

from fastbp._compile.arguments import Arguments, check_types, emit_size_checks
from fastbp._compile.library import KernelLibrary, PartLibrary


def public_name(kernel: Callable[..., Any]) -> str:
    """Return the name under which users find a kernel."""
    return f"fastbp.kernels.{kernel.__name__}"


@contextmanager
def without_collections() -> Iterator[None]:
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


class _Lowering(Lower):  # type: ignore[misc]
    """Numba's, without what kernels have no use for."""

    # Whether values of a type hold references to be counted
    _is_counted: ClassVar[dict[Any, bool]] = {}

    def extract_function_arguments(self) -> Any:
        extracted = super().extract_function_arguments()
        arguments = KernelCompiler.arguments.get(self.func_ir.func_id.func)
        if config.BOUNDSCHECK and arguments is not None:
            emit_size_checks(self, public_name(self.func_ir.func_id.func), arguments)
        return extracted

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
        state.library = KernelLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
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
        state.library = PartLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
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


class KernelCompiler(CompilerBase):  # type: ignore[misc]
    """Numba's pipeline without the passes that kernels have no use for.

    Left out: closures, ``with`` blocks, array expressions, literal unrolling, inlining of Numba's
    own functions, and annotations: half of the time that a small function takes.
    """

    lowering = _KernelLowering

    # Of each public kernel
    arguments: ClassVar[dict[Callable[..., Any], Arguments]] = {}

    def compile_extra(self, func: Callable[..., Any]) -> Any:
        if func in self.arguments:
            check_types(public_name(func), self.arguments[func], self.state.args)
        with without_collections():
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


class PartCompiler(KernelCompiler):
    lowering = _PartLowering

    def __init__(self, typingctx: Any, targetctx: Any, *rest: Any) -> None:
        # The compiler of the kernel has just read all registries: 3 ms a part.
        super().__init__(_FreshContext(typingctx), _FreshContext(targetctx), *rest)
        self.state.typingctx = typingctx
