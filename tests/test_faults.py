"""The list of faults fits the package as it is."""

import ast
import collections
from pathlib import Path

import pytest
from seeded_faults import FAULTS

import fastbp

PACKAGE = Path(fastbp.__file__).parent
TESTS = Path(__file__).parent
each_fault = pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f"{f.file}: {f.name}")


@each_fault
def test_a_fault_has_one_place_and_leaves_code_that_parses(fault):
    source = (PACKAGE / fault.file).read_text("utf-8")
    assert source.count(fault.old) == 1
    faulty = ast.parse(fault.applied_to(source))
    assert ast.dump(faulty) != ast.dump(ast.parse(source))


def test_faults_are_distinct():
    names = collections.Counter((fault.file, fault.name) for fault in FAULTS)
    changes = collections.Counter(
        fault.applied_to((PACKAGE / fault.file).read_text("utf-8")) for fault in FAULTS
    )
    assert max(names.values()) == max(changes.values()) == 1


@each_fault
def test_a_fault_names_tests_that_exist(fault):
    assert fault.tests
    assert all((TESTS / f"{name}.py").exists() for name in fault.tests)
