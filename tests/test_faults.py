"""The list of faults fits the package as it is."""

import ast
import collections
from functools import cache
from pathlib import Path

import pytest
from seeded_faults import FAULTS

import fastbp

PACKAGE = Path(fastbp.__file__).parent
TESTS = Path(__file__).parent
each_fault = pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f"{f.file}: {f.name}")


@cache
def source_of(file):
    """What is in a file of the package, and what it means."""
    source = (PACKAGE / file).read_text("utf-8")
    return source, ast.dump(ast.parse(source))


@each_fault
def test_a_fault_has_one_place_and_leaves_other_code(fault):
    source, meaning = source_of(fault.file)
    assert source.count(fault.old) == 1
    assert ast.dump(ast.parse(fault.applied_to(source))) != meaning
    assert fault.tests
    for file, _, test in (name.partition("::") for name in fault.tests):
        assert f"def {test}" in (TESTS / f"{file}.py").read_text("utf-8")


def test_faults_are_distinct():
    names = collections.Counter((fault.file, fault.name) for fault in FAULTS)
    changes = collections.Counter(fault.applied_to(source_of(fault.file)[0]) for fault in FAULTS)
    assert max(names.values()) == max(changes.values()) == 1
