"""The command that feeds fastbp with what it may not expect, for as long as a test may take."""

import subprocess
import sys
from pathlib import Path

import fuzz
import fuzz_front_door
import numpy as np

import fastbp

FUZZ = Path(__file__).with_name("fuzz.py")


def test_the_front_door_stands_up_to_it_for_a_moment():
    done = subprocess.run(
        [sys.executable, FUZZ, "front-door", "--seconds", "3", "--seed", "1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("front-door: ")
    assert int(done.stdout.split()[1]) >= fuzz_front_door.BATCH


def test_a_fault_is_found_and_its_seed_printed(monkeypatch, capsys):
    """A sigmoid of float32 that is off by one part in 2^16."""
    right = fastbp.sigmoid

    def wrong(z, *, out=None):
        a = right(z, out=out)
        return a * np.float32(1 + 2.0**-16) if np.ndim(a) == 2 and np.size(a) else a

    monkeypatch.setattr(fastbp, "sigmoid", wrong)
    monkeypatch.setattr(fuzz_front_door, "CASES", [fuzz_front_door.elementwise])
    assert fuzz.main(["front-door", "--seconds", "60", "--seed", "3"]) == 1
    said = capsys.readouterr().err
    assert "sigmoid" in said
    assert "again: python tests/fuzz.py front-door --seed " in said
