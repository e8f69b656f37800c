"""The compiler's settings, and the compile cache: never stale, never fatal, hit when it should be.

First the pieces, then the whole as other processes see it. Those tests work on a copy of the
package with a probe added: ``caller`` inlines ``helper``, which lives in another file.
"""

import compileall
import errno
import gc
import inspect
import json
import operator
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from py_compile import PycInvalidationMode
from typing import Any, NamedTuple

import numpy as np
import pytest
from numba import njit
from numba.core.caching import NullCache
from numba.core.codegen import JITCodeLibrary, JITCPUCodegen
from numba.core.compiler import CompilerBase, CompileResult
from numba.core.compiler_machinery import PassManager
from numba.core.errors import TypingError
from numba.core.lowering import Lower
from numba.core.registry import cpu_target
from numba.core.target_extension import target_registry
from numba.core.typed_passes import NativeLowering
from numba.core.utils import order_by_target_specificity

import fastbp
from fastbp._compile import cache, library, options

pytestmark = pytest.mark.compiled

UNCHECKED = PycInvalidationMode.UNCHECKED_HASH

HELPER = """
from fastbp._compile import kernel

@kernel
def helper(x):
    return x + {constant}
"""

CALLER = """
from fastbp._compile import kernel
from fastbp.kernels.probe_helper import helper

@kernel
def caller(x):
    return 10 * helper(x)

@kernel
def element(x, i):
    return x[i]
"""

# Prints the value of `result` and how many times Numba compiled anything.
PROBE = """
import json, sys
from numba.core import event
recorder = event.RecordingListener()
event.register("numba:compile", recorder)
{body}
compilations = sum(e.is_start for _, e in recorder.buffer)
print(json.dumps({{"result": result, "compilations": compilations, "file": fastbp.__file__}}))
"""

CALL = """
import fastbp
from fastbp.kernels.probe import caller
result = caller(1.0)
"""

# Kernels that inline others, that are linked to others, and that take a record.
KERNELS = """
import numpy as np
import fastbp
from fastbp import kernels

rows, out, flat = np.ones((4, 3)), np.ones((4, 3)), np.ones(5)
kernels.log_softmax(rows, out)
kernels.dense_forward(rows, np.eye(3), np.zeros(3), out)
kernels.adam_step(*(flat.copy() for _ in range(4)), kernels.AdamOptions(0.1, 0.9, 0.9, 0.1, 0.0), 1)
result = kernels.exp(0.0)
"""


@options.inlined
def double(x):
    return x + x


@options.inlined
def double_of_larger(x, y):
    return double(x if x > y else y)


@options.kernel
def doubled(x, y):
    return double_of_larger(x, y) + double(y)


def test_parts_become_machine_code_within_their_kernels_only(monkeypatch):
    monkeypatch.setattr(doubled, "_cache", NullCache())  # compiled here, not loaded
    assert doubled(1.0, 3.0) == 12.0
    assert doubled(5.0, 3.0) == 16.0
    (kernel,) = doubled.overloads.values()
    assert not isinstance(kernel.library, library.PartLibrary)
    for part in (double, double_of_larger):
        (compiled,) = part.overloads.values()
        assert isinstance(compiled.library, library.PartLibrary)
        name = compiled.fndesc.mangled_name
        assert not compiled.library.codegen._engine.is_symbol_defined(name)
        assert name not in kernel.library.get_asm_str()


# What `_compile` overrides or calls of Numba's compiler, with the parameters that it relies on.
OVERRIDDEN = {
    # Parts are linked as they were written, and optimised in their kernel only.
    JITCodeLibrary.add_llvm_module: "ll_module",
    JITCodeLibrary._optimize_final_module: "",
    JITCodeLibrary.finalize: "",
    # Callers of a kernel are given its symbol in place of its code, also where it was cached.
    JITCodeLibrary._get_module_for_linking: "",
    JITCodeLibrary.serialize_using_object_code: "",
    JITCodeLibrary._unserialize: "codegen state",
    JITCodeLibrary._set_compiled_object: "value",
    JITCodeLibrary._finalize_final_module: "",
    JITCPUCodegen.unserialize_library: "serialized",
    JITCPUCodegen._create_empty_module: "name",
    CompileResult._reduce: "",
    # Debug information and reference counts are left out, and Numba's registries read once.
    Lower.alloca_lltype: "name lltype datamodel",
    Lower.incref: "typ val",
    Lower.decref: "typ val",
    NativeLowering.run_pass: "state",
    NativeLowering.lowering_class.fget: "",
    CompilerBase.__init__: "typingctx targetctx library args return_type flags locals",
    CompilerBase.compile_extra: "func",
    CompilerBase.define_pipelines: "",
    # Code is not looked at again after each pass.
    PassManager._runPass: "index pss internal_state",
}


@pytest.mark.parametrize("function", OVERRIDDEN, ids=lambda function: function.__qualname__)
def test_numba_has_what_is_overridden(function):
    parameters = [name for name in inspect.signature(function).parameters if name != "self"]
    assert " ".join(parameters) == OVERRIDDEN[function]


def test_numba_calls_what_is_overridden(monkeypatch):
    def replaced(*args, **kwargs):
        raise AssertionError("Numba's own function was called")

    # Numba compiles some code of its own at first, for kernels and for parts of them.
    part = options.inlined(lambda x: x + x)
    assert options.kernel(lambda x: part(part(x)))(1.0) == 4
    monkeypatch.setattr(JITCodeLibrary, "_optimize_functions", replaced)
    monkeypatch.setattr(JITCodeLibrary, "_optimize_final_module", replaced)
    monkeypatch.setattr(Lower, "alloca_lltype", replaced)
    refreshed = []
    load = cpu_target.target_context.load_additional_registries
    monkeypatch.setattr(
        cpu_target.target_context,
        "load_additional_registries",
        lambda: refreshed.append(load()),
    )
    assert options.kernel(lambda x: x + x)(1.0) == 2
    without_parts = len(refreshed)
    twice = options.inlined(lambda x: x + x)
    assert options.kernel(lambda x: twice(twice(x)))(1.0) == 4
    assert len(refreshed) == 2 * without_parts


def test_operators_of_lanes_come_before_those_of_numba():
    cpu_target.typing_context.refresh()
    templates = cpu_target.typing_context.resolve_value_type(operator.mul).templates
    first, *others = order_by_target_specificity(target_registry["cpu"], templates)
    assert any(base.__module__.startswith("fastbp.") for base in first.__mro__)
    assert others


@njit
def call_of_a_large_kernel(z, out):
    fastbp.kernels.softmax(z, out)


@njit
def call_of_a_small_kernel(x):
    return fastbp.kernels.exp(x)


def test_callers_are_linked_to_large_kernels_and_inline_small_ones():
    z = np.zeros((2, 2))
    call_of_a_large_kernel(z, np.zeros_like(z))
    call_of_a_small_kernel(1.0)
    for caller, kernel, is_linked in (
        (call_of_a_large_kernel, fastbp.kernels.softmax, True),
        (call_of_a_small_kernel, fastbp.kernels.exp, False),
    ):
        (compiled,) = caller.overloads.values()
        names = {o.fndesc.mangled_name for o in kernel.overloads.values()}
        functions = compiled.library._final_module.functions
        assert any(f.name in names and f.is_declaration for f in functions) == is_linked
        assert len(compiled.library._reload_init) == 1


class Record(NamedTuple):
    label: Any
    target: Any


# Where text is added, types do not fit: a call that needs it does not compile.
@options.inlined
def entry(record, sign, weight=None):
    y = record.target + "text" if record.target is None else record.target
    if weight is None:
        return y if sign else y + "text"
    if record.label is not None and weight > 0:
        y = y + record.label
    return y * weight


@options.kernel
def entry_and_weight(record, weight):
    total = entry(record, True)
    if weight is not None:
        total = total + entry(record, True, weight)
    while weight is None and total < 10:
        total += 1.0
    return total


def test_branches_that_the_types_rule_out_are_not_compiled():
    assert entry_and_weight(Record(None, 2.0), None) == 10
    assert entry_and_weight(Record(None, 2.0), 3.0) == 2 + 2 * 3
    assert entry_and_weight(Record(1.0, 2.0), 3.0) == 2 + (2 + 1) * 3


@options.kernel
def is_none_and_set(x, y):
    if y > 0:
        x = y
    return (1 if x is None else 2) + (10 if y is None else 20)


def test_a_branch_on_an_assigned_parameter_is_left_alone():
    assert is_none_and_set(None, 1.0) == 22
    assert is_none_and_set(None, -1.0) == 21


@options.kernel
def ill_typed(x):
    return x + "text"


@pytest.mark.parametrize("collects", [True, False])
def test_compilation_leaves_the_garbage_collector_as_it_was(collects, request):
    request.addfinalizer(gc.enable)
    (gc.enable if collects else gc.disable)()
    new = options.kernel(lambda x: x)
    assert new(2.0) == 2.0
    assert gc.isenabled() == collects
    with pytest.raises(TypingError):
        ill_typed(1.0)
    assert gc.isenabled() == collects


def test_torn_file_is_a_miss(tmp_path):
    cache.save(tmp_path, "kernel-stamp-key.nbc", [1.5, None])
    assert cache.load(tmp_path, "kernel-stamp-key.nbc") == [1.5, None]
    [path] = tmp_path.iterdir()
    whole = path.read_bytes()
    for torn in (b"", whole[:10], whole[:-1], whole[:-1] + b"\0", bytes(len(whole))):
        path.write_bytes(torn)
        assert cache.load(tmp_path, path.name) is None


def test_save_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        cache.save(tmp_path, "kernel-stamp-key.nbc", "content")
    assert not list(tmp_path.iterdir())


def test_save_removes_code_of_an_earlier_source(tmp_path):
    for name in ("kernel-1-key", "kernel-2-key", "kernel-2-other", "another-1-key"):
        cache.save(tmp_path, f"{name}.nbc", name)
    kept = {path.stem for path in tmp_path.iterdir()}
    assert kept == {"kernel-2-key", "kernel-2-other", "another-1-key"}


@pytest.fixture
def package(tmp_path):
    """A folder that holds a copy of fastbp with the probe in it."""
    root = tmp_path / "site"
    source = Path(fastbp.__file__).parent
    shutil.copytree(source, root / "fastbp", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "fastbp/kernels/probe_helper.py").write_text(HELPER.format(constant=1))
    (root / "fastbp/kernels/probe.py").write_text(CALLER)
    return root


def environment(package, **extra):
    """The environment of a child that imports the copy; Numba's own settings are not inherited."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith(("NUMBA_", "COV_", "PYTEST"))}
    ours |= {"PYTHONPATH": str(package), "PYTHONDONTWRITEBYTECODE": "1"}
    return ours | {"NUMBA_CACHE_DIR": str(package.parent / "cache")} | extra


def as_installed(package, form):
    """Turn the copy into a zip file, or into byte code alone; return what to import it from."""
    if "byte code" in form:
        compileall.compile_dir(package, quiet=1, legacy=True, invalidation_mode=UNCHECKED)
        for source in package.rglob("*.py"):
            source.unlink()
    if "zip" not in form:
        return package
    shutil.make_archive(package.with_name(form), "zip", package)
    return package.with_name(f"{form}.zip")


def run(package, body, *, without=(), **extra):
    """Run ``body`` in a new process; it leaves its answer in ``result``."""
    env = {k: v for k, v in environment(package, **extra).items() if k not in without}
    command = [sys.executable, "-W", "error", "-c", PROBE.format(body=body)]
    # Not from the project's root, where the original would be imported first.
    done = subprocess.run(command, cwd=package.parent, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert Path(answer["file"]).is_relative_to(package)
    return answer


def cache_files(package, pattern):
    return sorted((package.parent / "cache").rglob(pattern))


def test_edit_of_an_inlined_file_reaches_its_callers(package):
    assert run(package, CALL)["result"] == 20
    assert run(package, CALL) | {"file": ""} == {"result": 20, "compilations": 0, "file": ""}
    before = cache_files(package, "*.nbc")
    # The same size: the content alone must tell.
    (package / "fastbp/kernels/probe_helper.py").write_text(HELPER.format(constant=2))
    assert run(package, CALL)["result"] == 30
    assert run(package, CALL) | {"file": ""} == {"result": 30, "compilations": 0, "file": ""}
    after = cache_files(package, "*.nbc")  # the old code is removed
    assert len(after) == len(before)
    assert not set(before) & set(after)


@pytest.mark.parametrize("form", ["byte code", "zip", "zip of byte code"])
def test_upgrade_of_a_package_without_source_files(package, form):
    results = []
    for constant in (1, 2):
        (package / "fastbp/kernels/probe_helper.py").write_text(HELPER.format(constant=constant))
        copied = shutil.copytree(package, package.with_name("copy"))
        installed = as_installed(copied, form)
        results += [run(installed, CALL)["result"], run(installed, CALL)["compilations"]]
        shutil.rmtree(copied)
    assert results == [20, 0, 30, 0]


def test_what_cannot_be_read_is_not_cached(package):
    loader = package / "fastbp/_compile/library.py"
    loader.write_text(loader.read_text().replace("spec.loader.get_data(spec.origin)", "spec.none"))
    for constant in (1, 2):
        (package / "fastbp/kernels/probe_helper.py").write_text(HELPER.format(constant=constant))
        assert run(package, CALL)["result"] == 10 + 10 * constant
    assert not cache_files(package, "*.nbc")


def test_cache_of_a_read_only_install_is_read(package):
    run(package, CALL, without=["NUMBA_CACHE_DIR"])
    assert list((package / "fastbp/__pycache__").glob("*.nbc"))
    read_only = """
import fastbp._compile.cache
def replace_file(path, pieces):
    raise PermissionError(13, "Permission denied", str(path))
fastbp._compile.cache.replace_file = replace_file
"""
    answer = run(package, read_only + CALL, without=["NUMBA_CACHE_DIR", "HOME"])
    assert (answer["result"], answer["compilations"]) == (20, 0)


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX")
def test_cache_files_can_be_read_by_other_users(package):
    umask = os.umask(0o002)
    try:
        run(package, CALL)
    finally:
        os.umask(umask)
    assert {path.stat().st_mode & 0o777 for path in cache_files(package, "*.nbc")} == {0o664}


def test_second_process_compiles_nothing(package):
    assert run(package, KERNELS)["compilations"] >= 4
    assert run(package, KERNELS) | {"file": ""} == {"result": 1, "compilations": 0, "file": ""}


@pytest.mark.parametrize("home", ["unusable", "unset"])
def test_import_and_call_without_a_writable_folder(package, home):
    # A file where each cache folder would be: permission bits would not stop root.
    (package / "fastbp/__pycache__").write_text("")
    (package / "file").write_text("")
    below_a_file = str(package / "file/folder")
    places = {"NUMBA_CACHE_DIR": below_a_file, "XDG_CACHE_HOME": below_a_file}
    if home == "unusable":
        answer = run(package, CALL, without=["XDG_CACHE_HOME"], HOME=below_a_file, **places)
    else:
        answer = run(package, CALL, without=["HOME"], **places)
    assert answer["result"] == 20
    assert not list(package.parent.rglob("*.nb?"))


def test_damaged_cache_files_are_compiled_again(package):
    """After what a crash of the machine may leave: the start of a file, with zeros behind it."""
    run(package, CALL)
    for kept, filled in ((0.0, False), (0.5, False), (0.5, True)):
        damaged = cache_files(package, "*.nb?")
        assert damaged
        for path in damaged:
            content = path.read_bytes()
            start = content[: int(kept * len(content))]
            path.write_bytes(start + bytes(filled * (len(content) - len(start))))
        answer = run(package, CALL)
        assert (answer["result"], answer["compilations"] > 0) == (20, True)
    assert run(package, CALL) | {"file": ""} == {"result": 20, "compilations": 0, "file": ""}


def test_processes_that_fill_the_cache_together_agree(package):
    # Numba's own index can give the code of one type to another here.
    bodies = [
        f"import fastbp, numpy as np\nfrom fastbp.kernels.probe import element\n"
        f"result = float(element(np.array([1, 2], np.{dtype}), 1))"
        for dtype in ("float32", "float64", "int64")
    ]
    with ThreadPoolExecutor(len(bodies)) as pool:
        answers = list(pool.map(lambda body: run(package, body), bodies))
    answers += [run(package, body) for body in bodies]
    assert [answer["result"] for answer in answers] == [2.0] * 6
    assert [answer["compilations"] for answer in answers] == [1] * 3 + [0] * 3


def test_bounds_checks_do_not_reuse_unchecked_code(package):
    inside = "import fastbp, numpy as np\nfrom fastbp.kernels.probe import element\n"
    outside = inside + (
        "try:\n    result = element(np.ones(2), 5)\nexcept IndexError:\n    result = 'caught'\n"
    )
    inside += "result = element(np.ones(2), 1)\n"
    run(package, inside)
    assert run(package, outside, NUMBA_BOUNDSCHECK="1")["result"] == "caught"
    assert run(package, inside)["compilations"] == 0


def test_full_disk_is_no_error(package):
    resource = pytest.importorskip("resource", reason="file size limits are POSIX")
    del resource
    # A file may be made, but not one byte written: what a full disk does.
    full = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
    assert run(package, full + CALL)["result"] == 20
    # What it leaves behind does no harm either.
    assert run(package, CALL)["result"] == 20
    assert run(package, CALL)["compilations"] == 0


def test_cache_folder_lost_after_its_first_use_is_no_error(package):
    lost = (
        "import shutil\n"
        f"folder = {str(package.parent / 'cache')!r}\n"
        "shutil.rmtree(folder)\n"
        "open(folder, 'w').close()\n"
        "result = [result, caller(1)]"
    )
    assert run(package, CALL + lost)["result"] == [20, 20]


# Functions of a user who caches them, too: `inner` calls one kernel that is inlined and one that is
# linked, `outer` is compiled in a process that loads `inner`; two more that Numba wraps.
USER = """
import numba
import numpy as np
from fastbp import kernels
from fastbp.kernels.probe import caller

@numba.njit(cache=True)
def inner(z, out):
    kernels.relu_forward(z, out)
    return caller(out[0, 0])

@numba.njit(cache=True)
def outer(z, out):
    return inner(z, out)

@numba.njit(cache=True, parallel=True)
def side_by_side(z, out):
    for i in numba.prange(z.shape[0]):
        kernels.relu_forward(z[i], out[i])

@numba.guvectorize("(n,k)->(n,k)", cache=True)
def relu(z, out):
    a = np.empty(z.shape)  # what NumPy hands out may have any strides
    kernels.relu_forward(np.ascontiguousarray(z), a)
    out[:] = a
"""

USE = """
import fastbp
import numpy as np
import user
z = np.full((2, 2, 2), 0.5)
out = np.zeros_like(z)
result = {use}
"""


@pytest.fixture
def use(package):
    """A function that makes a call in a process of its own: its result, and what it compiled."""
    (package / "user.py").write_text(USER)

    def use(call):
        answer = run(package, USE.format(use=call))
        return answer["result"], answer["compilations"]

    return use


def test_cached_functions_of_users_find_the_kernels_that_they_call(use):
    calls = {
        "user.inner(z[0], out[0])": 15,
        "user.outer(z[0], out[0])": 15,
        "(user.side_by_side(z, out), out.sum())[1]": 4,
        "user.relu(z, out).sum()": 4,
    }
    assert [use(call)[0] for call in calls] == list(calls.values())
    assert [use(call) for call in calls] == [(result, 0) for result in calls.values()]


def test_cached_functions_of_users_follow_the_kernels(use, package):
    """They see an edit, and outlive the cached code of the kernels."""
    call = "user.outer(z[0], out[0])"
    assert use(call)[0] == 15
    (package / "fastbp/kernels/probe_helper.py").write_text(HELPER.format(constant=2))
    assert use(call)[0] == 25
    assert use(call) == (25, 0)
    for path in cache_files(package, "*.nbc"):
        if "user" not in path.name:
            path.unlink()
    # Compiled after other kernels, so under another name
    assert use("(fastbp.kernels.exp(1.0), " + call + ")[1]")[0] == 25
    assert use(call) == (25, 0)


def test_kernels_are_importable_as_plain_python(package):
    answer = run(package, CALL, NUMBA_DISABLE_JIT="1")
    assert answer["result"] == 20
    assert not cache_files(package, "*.nb?")
