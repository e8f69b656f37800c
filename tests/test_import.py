"""`import fastbp` costs what `import numba` costs: it loads nothing else and compiles nothing."""

import json
import subprocess
import sys

import pytest

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


MISSING = """
import sys
sys.modules[{missing!r}] = None
import inspect, pydoc
from unittest import mock
import fastbp
from fastbp import Network
assert sys.modules.get("sklearn") is None or {missing!r} != "sklearn"
for import_it in ("fastbp.MLPClassifier", "from fastbp import MLPClassifier"):
    try:
        exec(import_it)
    except (AttributeError, ImportError) as error:
        print(error)
assert not hasattr(fastbp, "MLPClassifier")
assert getattr(fastbp, "MLPClassifier", 3) == 3
assert "Network" in dict(inspect.getmembers(fastbp))
assert "softmax" in pydoc.render_doc(fastbp)
assert mock.create_autospec(fastbp).softmax
"""


@pytest.mark.parametrize("missing", ["sklearn", "sklearn.utils"])
def test_says_that_scikit_learn_is_missing_or_old(missing):
    command = [sys.executable, "-c", MISSING.format(missing=missing)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    messages = done.stdout.splitlines()
    assert len(messages) == 2
    for message in messages:
        assert message.startswith("fastbp.MLPClassifier needs scikit-learn 1.6 or later: ")
        assert "pip install 'fastbp[sklearn]'" in message
