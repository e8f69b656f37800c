"""The house: who may import whom inside fastbp, and how large files and argument lists may be."""

import ast
from pathlib import Path

import pytest

import fastbp

PACKAGE = Path(fastbp.__file__).parent

# The rooms with their floors: imports go to a lower floor, or stay in the room.
FLOORS = {
    "_compile": 1,
    "_simd": 1,
    "_atomic": 0,
    "_checks": 2,
    "kernels": 2,
    "backprop": 3,
    "functional": 3,
    "optimizers": 4,
    "_files": 4,
    "training": 5,
    "distributed": 6,
    "network": 7,
    "dask": 8,
    "estimator": 8,
    "convert": 8,
    "display": 8,
    "verify": 8,
    "": 9,
    "__main__": 10,
}

# Inside a room, from the bottom to the top: a file imports files before it.
ORDER = {
    "_compile": "arguments library pipeline cache options",
    "_simd": (
        "vector intrinsics conversion memory arithmetic reductions transpose atomics tile "
        "update_tile"
    ),
    "_checks": "docs arrays scalars labels cost",
    "kernels": (
        "elementary activation _rows _row_groups softmax cross_entropy targets update _matmul "
        "_gradient dense _sparse"
    ),
    "convert": "common onnx sklearn torch",
    "backprop": "blocks layout state step tasks totals updates parallel passes",
    "distributed": "link mpi sockets group steps",
    "verify": "ulp inputs report",
}

# Lines of the longest files
LINES = {
    "network": 710,
    "functional": 700,
}


def module_name(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in PACKAGE.rglob("*.py")}


def imports_of(source, name, is_package):
    """Names, below fastbp, of the modules of fastbp that ``source`` imports anywhere in it."""
    here = ["fastbp", *filter(None, name.split("."))]
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = here[: len(here) - node.level + is_package] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            for alias in node.names:
                target = f"{base}.{alias.name}"
                is_module = target.removeprefix("fastbp.") in MODULES
                found.add(target if is_module else base)
    ours = {target for target in found if target.split(".")[0] == "fastbp"}
    return {target.removeprefix("fastbp").removeprefix(".") for target in ours}


def room_of(name):
    return name.split(".")[0]


def test_every_module_has_a_room_and_every_room_a_module():
    assert {room_of(name) for name in MODULES} == set(FLOORS)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_point_downwards(name):
    path = MODULES[name]
    imported = imports_of(path.read_text("utf-8"), name, path.name == "__init__.py")
    above = [t for t in imported if FLOORS[room_of(t)] >= FLOORS[room_of(name)]]
    assert {room_of(target) for target in above} <= {room_of(name)}
    order = ORDER.get(room_of(name), "").split()
    if order and "." in name:
        inside = [target.partition(".")[2] for target in imported if target in above]
        place = order.index(name.partition(".")[2])
        # A room's own face is no file of it: only files outside import it.
        assert all(file and order.index(file) < place for file in inside), inside


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import fastbp", {""}),
        ("import fastbp._compile.cache as c", {"_compile.cache"}),
        ("from fastbp import _compile, __version__", {"_compile", ""}),
        ("from fastbp.kernels import elementary, exp", {"kernels.elementary", "kernels"}),
        ("from . import elementary", {"kernels.elementary"}),
        ("from ..functional import softmax", {"functional"}),
        ("def f():\n    from .. import network", {"network"}),
        ("import numpy, fastbpx\nfrom numba import njit", set()),
    ],
)
def test_every_way_to_import_is_seen(source, expected):
    assert imports_of(source, "kernels.softmax", False) == expected


def test_few_rooms_and_short_files():
    entries = [path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"]
    assert len(entries) <= 20
    lengths = {name: len(path.read_text("utf-8").splitlines()) for name, path in MODULES.items()}
    allowed = {name: LINES.get(name, 400) for name in MODULES}
    assert not {name: n for name, n in lengths.items() if n > allowed[name]}


@pytest.mark.parametrize("name", sorted(name for name in MODULES if room_of(name) != "_simd"))
def test_records_take_the_place_of_long_argument_lists(name):
    """At most eight positions, and no call that strings tuples together."""
    for node in ast.walk(ast.parse(MODULES[name].read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef) and name != "estimator.classifier":
            n_positions = len(node.args.posonlyargs) + len(node.args.args)
            assert n_positions <= 8, f"{node.name} has {n_positions} arguments"
        elif isinstance(node, ast.Call):
            starred = [arg.value for arg in node.args if isinstance(arg, ast.Starred)]
            is_chain = any(isinstance(arg, ast.Tuple) for arg in starred)
            assert not is_chain, f"line {node.lineno}: {ast.unparse(node)}"
