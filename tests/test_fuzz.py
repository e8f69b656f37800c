"""The command that feeds fastbp with what it may not expect, for as long as a test may take."""

import re
import subprocess
import sys
from pathlib import Path

import fuzz
import fuzz_front_door
import fuzz_model_files
import numpy as np
import pytest

import fastbp
from fastbp._files import network_file

pytestmark = pytest.mark.compiled  # the more inputs, the better

FUZZ = Path(__file__).with_name("fuzz.py")


@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_it_finds_nothing_in_a_moment(target):
    done = subprocess.run(
        [sys.executable, FUZZ, target, "--seconds", "3", "--seed", "1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    n = int(re.search(rf"^{target}: (\d+) inputs, no fault$", done.stdout, re.MULTILINE)[1])
    assert n >= fuzz_front_door.BATCH


def test_a_fault_is_found_and_its_seed_printed(monkeypatch, capsys):
    """A sigmoid of float32 that is off by one part in 2^16."""
    right = fastbp.sigmoid

    def wrong(z, *, out=None):
        a = right(z, out=out)
        return a * np.float32(1 + 2.0**-16) if np.ndim(a) == 2 and np.size(a) else a

    monkeypatch.setattr(fastbp, "sigmoid", wrong)
    monkeypatch.setattr(fuzz_front_door, "CASES", [fuzz_front_door.of_one_array])
    assert fuzz.main(["front-door", "--seconds", "60", "--seed", "3"]) == 1
    said = capsys.readouterr().err
    assert "sigmoid" in said
    assert "again: python tests/fuzz.py front-door --seed " in said


def test_a_file_that_is_believed_wrongly_is_kept(monkeypatch, capsys, tmp_path):
    """A reader that looks at no checksum."""
    monkeypatch.setattr(network_file.NetworkFile, "finish", lambda self: None)
    monkeypatch.setattr(fuzz_model_files.tempfile, "gettempdir", lambda: str(tmp_path))
    assert fuzz.main(["model-files", "--seconds", "60", "--seed", "3"]) == 1
    assert "AssertionError" in capsys.readouterr().err
    assert len(list(tmp_path.iterdir())) == 1
