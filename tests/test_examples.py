"""Each example runs by itself, warns of nothing, and says what it promises."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(name):
    """Standard output of an example, in which a warning is an error."""
    result = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / name],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout


def accuracy_of(output):
    """The test accuracy that an example prints, in per cent."""
    found = re.search(r"^test accuracy: ([\d.]+) % of 450 digits$", output, re.M)
    assert found, output
    return float(found[1])


def test_every_example_is_tested():
    names = {path.name for path in EXAMPLES.glob("*.py")}
    assert names == {"digits.py", "one_step_by_hand.py", "your_own_loop.py"}


@pytest.mark.compiled
def test_digits():
    output = run("digits.py")
    assert accuracy_of(output) >= 97
    epochs = re.findall(r"^epoch +(\d+)   training loss [\d.]+   accuracy +[\d.]+ %", output, re.M)
    assert epochs == ["1", *map(str, range(5, 41, 5))]
    misread = re.findall(
        r"^a (\d) read as (\d)   \(probability of (\d): .*, of (\d): ", output, re.M
    )
    assert len(misread) == 3
    assert all(true != read and (read, true) == (p, q) for true, read, p, q in misread)
    drawings = re.findall(r"\)\n((?:[ .:\-=+*#%@]{16}\n){8})", output + "\n")
    assert len(drawings) == 3


def test_one_step_by_hand():
    output = run("one_step_by_hand.py")
    for line in (
        "a1 = sigmoid(z1)          = [[0.5 , 0.75]]",
        "a2 = softmax(z2)          = [[0.25, 0.75]]",
        "C = -ln a2[label]         = [1.386294]",
        "BP1  delta2 = a2 - y      = [[-0.75,  0.75]]",
        "BP2  delta1               = [[-1.125 ,  0.5625]]",
        "BP3  dC/db2 = delta2      = [-0.75,  0.75]",
        "BP4  dC/dW2 = a1^T delta2 = [[-0.375 ,  0.375 ],",
        "The step took the cost from 1.386294 to 0.010115",
    ):
        assert f"{line}\n" in output


@pytest.mark.compiled
def test_your_own_loop():
    output = run("your_own_loop.py")
    assert accuracy_of(output) >= 96
    first, last = re.search(
        r"^training loss: ([\d.]+) in the first epoch, ([\d.]+) in the last$", output, re.M
    ).groups()
    assert float(last) < 0.1 * float(first)
