"""What the project says of itself agrees with what it is."""

import inspect
import re
import runpy
import tomllib
from pathlib import Path

import pytest

import fastbp

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
README = (ROOT / "README.md").read_text("utf-8")
MODEL, SAVING, CLASSIFIER, KERNELS = re.findall(
    r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE
)


def test_version_is_said_once_and_the_same():
    assert fastbp.__version__ == PROJECT["version"]


def test_changelog_has_the_version():
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert re.search(rf"^## \[{re.escape(PROJECT['version'])}\]", changelog, re.MULTILINE)


@pytest.mark.parametrize("mark", ["run", "test"])
def test_readme_has_the_two_commands(mark):
    block = re.search(rf"^<!-- {mark} -->\n```bash\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    assert block
    assert "pip install" in block[1]


def test_files_named_in_the_readme_exist():
    named = set(re.findall(r"(?:examples|asv_benchmarks)/\w+\.py", README))
    assert named
    assert not [name for name in named if not (ROOT / name).exists()]


@pytest.mark.parametrize(
    "example",
    [
        pytest.param(MODEL + SAVING, id="model", marks=pytest.mark.compiled),
        pytest.param(CLASSIFIER, id="classifier", marks=pytest.mark.compiled),
        pytest.param(KERNELS, id="kernels"),
    ],
)
def test_readme_examples_run(example, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    # From a file: Numba asks for the source of what it compiles.
    script = tmp_path / "example.py"
    script.write_text(example, "utf-8")
    runpy.run_path(str(script))
    assert capsys.readouterr().out


@pytest.mark.parametrize("name", [n for n in dir(fastbp) if n != "__version__"])
def test_public_names_are_documented(name):
    thing = getattr(fastbp, name)
    assert inspect.getdoc(thing)
    if callable(thing) and not (inspect.isclass(thing) and issubclass(thing, Exception)):
        assert ">>>" in thing.__doc__


def test_every_kernel_is_documented():
    kernels = {name: getattr(fastbp.kernels, name) for name in fastbp.kernels.__all__}
    # Compiled or not: a dispatcher's own docstring is Numba's.
    functions = {name: getattr(kernel, "py_func", kernel) for name, kernel in kernels.items()}
    assert not [name for name, function in functions.items() if not inspect.getdoc(function)]
