"""The machine code of kernels and of their parts, and how other code is linked to it."""

import hashlib
import os
import pkgutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm
import numba
from numba.core import config
from numba.core.codegen import JITCodeLibrary
from numba.core.registry import cpu_target

# The package's folder; within a zip file, the path there
PACKAGE = Path(__file__).parents[1]


def _module_files(folder: str) -> Iterator[bytes]:
    """Read every module below a folder as its loader does: as source, or as byte code alone."""
    for module in pkgutil.iter_modules([folder]):
        yield f"{module.name}\n".encode()
        spec: Any = module.module_finder.find_spec(module.name, None)
        yield spec.loader.get_data(spec.origin)
        if module.ispkg:
            yield from _module_files(os.path.join(folder, module.name))


def _source_stamp() -> str | None:
    """Digest of every file that may end up inside a kernel, and of the compiler's version.

    None where they cannot be read, as in some frozen applications: nothing is cached then, for
    machine code could not be told from that of another version.
    """
    versions = f"{sys.implementation.cache_tag} {numba.__version__} {llvmlite.__version__}"
    try:
        files = list(_module_files(str(PACKAGE)))
    except (OSError, AttributeError, ImportError):
        return None
    return hashlib.sha256(versions.encode() + b"".join(files)).hexdigest() if files else None


SOURCE_STAMP = _source_stamp()


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Give an object an attribute of its own for a while."""
    own = vars(owner)
    before = {name: own[name]} if name in own else {}
    own[name] = value
    try:
        yield
    finally:
        own.pop(name, None)
        own.update(before)


class _UnoptimisedLibrary(JITCodeLibrary):  # type: ignore[misc]
    """Code that is optimised as part of a kernel, once, and not also function by function."""

    _shared_module: Any

    def add_llvm_module(self, module: Any) -> None:
        module.data_layout = self._codegen._data_layout
        self._final_module.link_in(module)


class PartLibrary(_UnoptimisedLibrary):
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


class KernelLibrary(_UnoptimisedLibrary):
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
            if isinstance(library, PartLibrary):
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
    def load(cls, codegen: Any, serialized: Any) -> "KernelLibrary":
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
    def load(
        stamp: str | None, module: str, name: str, args: tuple[Any, ...], symbol: str
    ) -> "_Link":
        if stamp is None or stamp != SOURCE_STAMP:
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
