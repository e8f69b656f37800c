"""What the project says of itself agrees with what it is."""

import inspect
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import fastbp

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
README = (ROOT / "README.md").read_text("utf-8")
MODEL, CLASSIFIER, KERNELS = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


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


def test_readme_has_two_screens():
    assert README.count("\n") <= 180


@pytest.mark.parametrize("page", ["README.md", ".github/CONTRIBUTING.md", "examples/README.md"])
def test_files_named_exist(page):
    text = (ROOT / page).read_text("utf-8")
    named = set(re.findall(r"(?:examples|asv_benchmarks|tests)/\w+\.\w+", text))
    named |= {f"examples/{name}" for name in re.findall(r"^\| `(\w+\.\w+)", text, re.MULTILINE)}
    assert named
    assert not [name for name in named if not (ROOT / name).exists()]


def test_every_example_is_in_the_list():
    text = (ROOT / "examples/README.md").read_text("utf-8")
    examples = [*(ROOT / "examples").glob("*.py"), *(ROOT / "examples").glob("*.ipynb")]
    assert not [path.name for path in examples if f"| `{path.name}" not in text]


@pytest.mark.compiled
def test_commands_of_the_readme():
    named = re.findall(r"(?<!`)`(?:\.venv/bin/)?((?:python|fastbp) [^`\n]*)`", README)
    # The first three are run by test_main.py, the last one by test_examples.py on a small network.
    model = "python examples/scale_model.py --layers 784,512,512,10 --cores 16"
    compare = "python asv_benchmarks/peers.py training --cpu-time"
    of_main = {"fastbp warmup", "fastbp info", "python -m fastbp verify"}
    assert set(named) == {*of_main, compare, model}
    command = [sys.executable, *compare.split()[1:], "--sizes", "XS", "--rounds", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "| XS | 64-32-10 | 32 |" in done.stdout


@pytest.mark.parametrize(
    "example",
    [
        pytest.param(MODEL + CLASSIFIER, id="models", marks=pytest.mark.compiled),
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
