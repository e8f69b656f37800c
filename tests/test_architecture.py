"""Who may import whom inside fastbp: only downwards."""

import ast
from pathlib import Path

import pytest

import fastbp

PACKAGE = Path(fastbp.__file__).parent

_LLVM_FLOOR = {"_llvm.bind", "_llvm.lanes"}
_VECTORS = {"_compile", "_llvm", "kernels.elementary"}
_KERNELS = {
    "kernels",
    "kernels.activation",
    "kernels.cross_entropy",
    "kernels.dense",
    "kernels.elementary",
    "kernels.products",
    "kernels.row_groups",
    "kernels.rows",
    "kernels.softmax",
    "kernels.update",
}

# Bottom up: the rooms of the package, each with what it may import. A new module needs a line.
ROOMS = {
    "_compile": set(),
    "_llvm.lanes": set(),
    "_llvm.bind": {"_llvm.lanes"},
    "_llvm.arithmetic": _LLVM_FLOOR,
    "_llvm.conversion": _LLVM_FLOOR,
    "_llvm.memory": _LLVM_FLOOR,
    "_llvm.folds": _LLVM_FLOOR | {"_llvm.arithmetic", "_llvm.memory"},
    "_llvm.atomics": _LLVM_FLOOR,
    "_llvm.products": _LLVM_FLOOR | {"_llvm.arithmetic", "_llvm.memory"},
    "_llvm.turned": _LLVM_FLOOR | {"_llvm.memory"},
    "_llvm": {
        "_llvm.arithmetic",
        "_llvm.atomics",
        "_llvm.conversion",
        "_llvm.folds",
        "_llvm.lanes",
        "_llvm.memory",
        "_llvm.products",
        "_llvm.turned",
    },
    "_checks": {"_compile"},
    "_ulp": {"_compile"},
    "_hard_inputs": {"_ulp"},
    "kernels.elementary": {"_compile", "_llvm"},
    "kernels.rows": _VECTORS,
    "kernels.row_groups": _VECTORS | {"kernels.rows"},
    "kernels.softmax": _VECTORS | {"kernels.row_groups", "kernels.rows"},
    "kernels.cross_entropy": _VECTORS | {"kernels.row_groups", "kernels.rows"},
    "kernels.activation": _VECTORS,
    "kernels.update": {"_compile", "_llvm"},
    "kernels.products": {"_compile", "_llvm"},
    "kernels.dense": _VECTORS
    | {"kernels.activation", "kernels.products", "kernels.rows", "kernels.update"},
    "kernels": _KERNELS,
    "_layout": {"_llvm", "kernels.activation", "kernels.dense", "kernels.products"},
    "_threads": set(),
    "backprop": {"_compile", "_layout", "_llvm"} | _KERNELS,
    "functional": {"_checks", "_compile"} | _KERNELS,
    "steps": {"_checks"} | _KERNELS,
    "_random": {"backprop"},
    "_measures": {"_layout", "backprop", "kernels"},
    "_training": {"_layout", "_threads", "backprop"},
    "optimizers": {"_checks", "_layout"},
    "_atomic": set(),
    "_safetensors": {"_atomic"},
    "_model_file": {"_atomic", "_layout", "_safetensors", "kernels.activation"},
    "_checkpoint": {
        *("_atomic", "_layout", "_model_file", "_safetensors", "_training", "optimizers"),
    },
    "_fitting": {"_checkpoint", "_layout", "_random", "_training"},
    "_inputs": {"_checks", "_layout", "backprop", "optimizers"},
    "network": {
        *("_checkpoint", "_checks", "_fitting", "_inputs", "_layout", "_measures", "_model_file"),
        *("_random", "_threads", "_training", "backprop", "optimizers"),
    }
    | _KERNELS,
    "_schedule": {"_checks", "_layout", "optimizers"},
    "_lbfgs": {"_layout", "backprop"},
    "_sklearn_data": {"_checks", "_layout"},
    "_tasks": set(),
    "_epochs": {
        *("_layout", "_measures", "_schedule", "_sklearn_data", "_tasks", "_training", "network"),
        "optimizers",
    },
    "_classifier_file": {"_atomic", "_model_file", "_safetensors", "_schedule", "network"},
    "estimator": {
        *("_atomic", "_checks", "_classifier_file", "_epochs", "_lbfgs", "_sklearn_data"),
        *("_tasks", "kernels", "network", "optimizers"),
    },
    "convert": {"network"},
    "verify": {"_compile", "_hard_inputs", "_ulp", "functional", "network"} | _KERNELS,
    "": {
        *("_safetensors", "_training", "convert", "estimator", "functional", "kernels", "network"),
        *("optimizers", "steps"),
    },
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
                is_module = target.removeprefix("fastbp.") in MODULES | ROOMS
                found.add(target if is_module else base)
    ours = {target for target in found if target.split(".")[0] == "fastbp"}
    return {target.removeprefix("fastbp").removeprefix(".") for target in ours}


def test_the_rule_itself_only_points_downwards():
    seen = set()
    for name, allowed in ROOMS.items():
        assert allowed <= seen | ({name} if name == "kernels" else set()), name
        seen.add(name)


def test_every_module_has_a_room_and_every_room_a_module():
    assert set(MODULES) == set(ROOMS)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_point_downwards(name):
    path = MODULES[name]
    imported = imports_of(path.read_text("utf-8"), name, path.name == "__init__.py")
    assert imported <= ROOMS[name]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import fastbp", {""}),
        ("import fastbp._compile.kernel as c", {"_compile"}),
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
