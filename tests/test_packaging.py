"""Wheel and source archive: what they hold, and that a second build gives the same bytes."""

import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

import fastbp

ROOT = Path(__file__).parents[1]
NAME = f"fastbp-{fastbp.__version__}"
SOURCES = {f"fastbp/{path.relative_to(ROOT / 'fastbp')}" for path in ROOT.glob("fastbp/**/*.py")}


def build(builder, root, folder):
    return Path(next(builder(str(root)).build(directory=str(folder))))


@pytest.fixture(scope="module", params=[WheelBuilder, SdistBuilder], ids=["wheel", "sdist"])
def archive(request, tmp_path_factory):
    return request.param, build(request.param, ROOT, tmp_path_factory.mktemp("dist"))


def test_a_second_build_gives_the_same_bytes(archive, tmp_path):
    """Of copies of the files, as another clone has them: with other times."""
    builder, first = archive
    leave = shutil.ignore_patterns(".git", ".venv", ".asv", "__pycache__")
    copy = shutil.copytree(ROOT, tmp_path / "copy", ignore=leave, copy_function=shutil.copyfile)
    second = build(builder, copy, tmp_path)
    assert second.name == first.name
    assert second.read_bytes() == first.read_bytes()


def test_contents(archive):
    _, path = archive
    if path.suffix == ".whl":
        info = f"{NAME}.dist-info"
        parts = ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")
        expected = SOURCES | {"fastbp/py.typed"} | {f"{info}/{part}" for part in parts}
        with zipfile.ZipFile(path) as wheel:
            assert set(wheel.namelist()) == expected
            assert wheel.read(f"{info}/entry_points.txt").split() == [
                *(b"[console_scripts]", b"fastbp", b"=", b"fastbp.__main__:main")
            ]
        return
    with tarfile.open(path) as sdist:
        names = {name.removeprefix(f"{NAME}/") for name in sdist.getnames()}
    top = {name.split("/")[0] for name in names}
    assert top == {
        *("fastbp", "tests", "examples", "asv_benchmarks", "pyproject.toml", "README.md"),
        *("LICENSE", "CHANGELOG.md", "PKG-INFO", ".gitignore"),
    }
    assert SOURCES <= names
    assert {"fastbp/py.typed", "tests/conftest.py", "examples/digits.png"} <= names
    assert not [name for name in names if "__pycache__" in name or name.endswith(".nbi")]
