"""`import fastbp` costs what `import numba` costs: it loads nothing else and compiles nothing."""

import json
import subprocess
import sys

import pytest

import fastbp

MODULES = """
import json, sys
import numba, numpy
from numba.core import event
recorder = event.RecordingListener()
event.register("numba:compile", recorder)
before = set(sys.modules)  # Numba itself imports SciPy where it is installed
import fastbp
print(json.dumps([sorted(set(sys.modules) - before), len(recorder.buffer)]))
"""


def loaded_by_import():
    command = [sys.executable, "-W", "error", "-c", MODULES]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_import_loads_only_numba_numpy_and_the_standard_library():
    modules, compilations = loaded_by_import()
    roots = {name.split(".")[0] for name in modules}
    assert "fastbp" in roots
    assert roots - {"fastbp", "numba", "numpy", "llvmlite"} <= set(sys.stdlib_module_names)
    assert not {"fastbp.convert", "fastbp.verify", "fastbp.verify.ulp"} & set(modules)
    assert compilations == 0


def test_what_needs_scikit_learn_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "fastbp.estimator.classifier", None)
    message = r"^fastbp.MLPClassifier needs scikit-learn 1.9 or later: pip install 'fastbp\[sklearn"
    with pytest.raises(ImportError, match=message):
        fastbp.MLPClassifier  # noqa: B018
