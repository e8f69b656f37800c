"""Each example runs by itself, warns of nothing, and says what it promises."""

import copy
import importlib.util
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot
import nbclient
import nbformat
import numpy as np
import pytest
from links import MPIEXEC

EXAMPLES = Path(__file__).parent.parent / "examples"


def start(name, *options):
    """An example that has run, in which a warning is an error."""
    return subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / name, *options],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )


def run(name, *options):
    """Standard output of an example."""
    result = start(name, *options)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout


def accuracy_of(output):
    """The test accuracy that an example prints, in per cent."""
    found = re.search(r"^test accuracy: ([\d.]+) % of 450 digits$", output, re.M)
    assert found, output
    return float(found[1])


def test_every_example_is_tested():
    lengths = {path.name: path.read_text("utf-8").count("\n") for path in EXAMPLES.glob("*.py")}
    assert max(lengths.values()) < 100
    names = set(lengths)
    assert names == {
        "decision_regions.py",
        "digits.py",
        "from_disk.py",
        "grid_search.py",
        "in_torch.py",
        "mnist.py",
        "on_a_cluster.py",
        "one_step_by_hand.py",
        "over_mpi.py",
        "pictures.py",
        "policy_gradient.py",
        "scale_model.py",
        "stop_and_resume.py",
        "to_onnx.py",
        "your_own_loop.py",
    }


@pytest.mark.compiled
def test_pictures(tmp_path):
    assert accuracy_of(run("pictures.py", str(tmp_path / "digits.png"))) >= 96
    assert (tmp_path / "digits.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.compiled
def test_over_mpi():
    """Alone, and by two ranks where there is an mpiexec."""
    pytest.importorskip("mpi4py", reason="trains over MPI", exc_type=ImportError)
    outputs = [run("over_mpi.py")]
    if MPIEXEC is not None:
        command = [MPIEXEC, "-n", "2", sys.executable, EXAMPLES / "over_mpi.py"]
        outputs.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    digests = {re.search(r"[0-9a-f]{64}", output)[0] for output in outputs}
    assert len(digests) == 1
    assert [accuracy_of(output) for output in outputs] >= [96]


@pytest.mark.compiled
def test_on_a_cluster():
    pytest.importorskip("distributed", reason="trains on Dask's workers")
    output = run("on_a_cluster.py")
    assert accuracy_of(output) >= 96
    assert "same bits as alone: True" in output
    assert "same as the serial search: True" in output


@pytest.mark.compiled
def test_scale_model():
    output = run("scale_model.py", "--layers", "30,20,4", "--cores", "16")
    rows = re.findall(r"^(1 GbE|10 GbE|100 Gb/s RDMA) +(\d+) +(.*?) +([\d,]+) rows$", output, re.M)
    assert len(rows) == 9
    for _, _, cells, _ in rows:
        assert all(0 <= int(share) < 100 for share in re.findall(r"(\d+)%", cells))


@pytest.mark.compiled
def test_decision_regions(tmp_path):
    output = run("decision_regions.py", str(tmp_path / "regions.png"))
    before, after = map(float, re.findall(r"training: ([\d.]+) % of 150 points", output))
    assert before < 70 < 93 < after
    assert (tmp_path / "regions.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.compiled
def test_from_disk():
    output = run("from_disk.py")
    assert accuracy_of(output) >= 95
    assert float(re.search(r"20 parts: ([\d.]+) %$", output)[1]) > 90


@pytest.mark.compiled
def test_in_torch():
    if importlib.util.find_spec("torch") is None:
        result = start("in_torch.py")
        assert result.returncode == 1
        assert result.stderr == "in_torch.py needs PyTorch, which is not installed\n"
        return
    output = run("in_torch.py")
    assert "gradcheck passes: True\n" in output
    assert float(output.split()[-1]) < 1e-5


NOTEBOOK = nbformat.read(EXAMPLES / "derivation.ipynb", as_version=4)
CODE = [cell.source for cell in NOTEBOOK.cells if cell.cell_type == "code"]


@pytest.mark.compiled
def test_notebook():
    """From top to bottom, in a kernel; it is committed without outputs."""
    assert not any(cell.get("outputs") for cell in NOTEBOOK.cells)
    notebook = copy.deepcopy(NOTEBOOK)
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3
    assert sum(output.get("text", "").count("equal:") for output in outputs) == 27


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("a * (1 - a)\n", "a * (1 + a)\n"),
        ("fastbp.softmax(z), np.exp(z - ", "fastbp.softmax(z), np.exp(z + "),
        ("other = -", "other = "),
        ("fastbp.logsumexp(z) - z[1]", "fastbp.logsumexp(z) - z[0]"),
        ("jacobian.T @ (-y / a)", "jacobian.T @ (y / a)"),
        ("formula = a - y", "formula = y - a"),
        ("* a1 * (1 - a1)", "* a1"),
        ("(delta2 @ w2.T)", "(delta2 @ w2)"),
        ("delta2.mean(axis=0)", "delta2.sum(axis=0)"),
        ("a1.T @ delta2 / n", "a1.T @ delta2"),
        ("d = mu * d + g", "d = mu * d - g"),
        ("(1 - mu**remaining)", "(1 - mu ** (remaining - 1))"),
        ("slope = -eta", "slope = eta"),
        ("learning_rate=eta, momentum", "learning_rate=eta / 2, momentum"),
    ],
)
def test_checks_of_the_notebook_can_fail(right, wrong):
    broken = [cell.replace(right, wrong, 1) for cell in CODE]
    (changed,) = (i for i, cell in enumerate(broken) if cell != CODE[i])
    names = {}
    with matplotlib.rc_context({"backend": "agg"}):
        for cell in broken[:changed]:
            if "check(" in cell or "plt.subplots" not in cell:
                exec(cell, names)
        with pytest.raises(AssertionError, match="Not equal to tolerance"):
            exec(broken[changed], names)
        matplotlib.pyplot.close("all")


@pytest.mark.compiled
def test_policy_gradient():
    learnt = re.findall(r": action \d with probability ([\d.]+)", run("policy_gradient.py"))
    assert len(learnt) == 4
    assert min(map(float, learnt)) > 0.9


@pytest.mark.compiled
@pytest.mark.skipif(os.name != "posix", reason="kills a process by a POSIX signal")
def test_stop_and_resume():
    output = run("stop_and_resume.py")
    assert "the first process ended with status -9\n" in output
    assert output.endswith("\nthe same bits\n")


@pytest.mark.compiled
def test_to_onnx(tmp_path):
    output = run("to_onnx.py", str(tmp_path / "digits.onnx"))
    assert accuracy_of(output) >= 96
    assert "the same labels: 100%" in output
    assert float(output.split()[-1]) < 1e-5


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
def test_grid_search():
    output = run("grid_search.py")
    assert accuracy_of(output) >= 96
    rows = re.findall(r"^ +(0|16|64) +([\d.]+) +([\d.]+) % \+- [\d.]+$", output, re.M)
    assert len({(units, alpha) for units, alpha, _ in rows}) == 9
    accuracies = [float(accuracy) for _, _, accuracy in rows]
    assert accuracies == sorted(accuracies, reverse=True)
    assert accuracies[0] > 95
    assert re.search(r"^27 fits in [\d.]+ s, ", output, re.M)


@pytest.mark.compiled
def test_your_own_loop():
    output = run("your_own_loop.py")
    assert accuracy_of(output) >= 96
    first, last = re.search(
        r"^training loss: ([\d.]+) in the first epoch, ([\d.]+) in the last$", output, re.M
    ).groups()
    assert float(last) < 0.1 * float(first)


def write_idx(path, array):
    header = struct.pack(f">{1 + array.ndim}i", 8 * 256 + array.ndim, *array.shape)
    path.write_bytes(header + array.tobytes())


@pytest.fixture(scope="module")
def digits_like_mnist(tmp_path_factory):
    """A folder of files like those of MNIST: a bright square for each class, in noise."""
    folder = tmp_path_factory.mktemp("mnist")
    rng = np.random.default_rng(0)
    for part, n in (("train", 60000), ("t10k", 10000)):
        labels = rng.integers(0, 10, n).astype(np.uint8)
        images = rng.integers(0, 200, (n, 28, 28), np.uint8)
        rows, columns = 14 * (labels // 5), 5 * (labels % 5)
        for label in range(10):
            row, column = rows[labels == label][0], columns[labels == label][0]
            images[labels == label, row : row + 8, column : column + 5] = 255
        write_idx(folder / f"{part}-images-idx3-ubyte", images)
        write_idx(folder / f"{part}-labels-idx1-ubyte", labels)
    return folder


@pytest.mark.compiled
def test_mnist(digits_like_mnist):
    output = run("mnist.py", "--data", str(digits_like_mnist))
    epochs = re.findall(r"^epoch +(\d+) +[\d.]+ s .* test accuracy ([\d.]+) %$", output, re.M)
    assert [int(number) for number, _ in epochs] == list(range(1, 11))
    found = re.search(r"^test accuracy: ([\d.]+) % of 10000 digits$", output, re.M)
    assert found[1] == epochs[-1][1]
    assert float(found[1]) > 99


def test_mnist_says_what_is_wrong_with_the_files(digits_like_mnist, tmp_path):
    names = [path.name for path in digits_like_mnist.iterdir()]
    assert "holds neither train-images-idx3-ubyte nor" in complaint(tmp_path / "nowhere")
    assert "holds neither train-images-idx3-ubyte nor" in complaint(tmp_path)
    for name in names:
        (tmp_path / name).symlink_to(digits_like_mnist / name)
    labels = tmp_path / "t10k-labels-idx1-ubyte"
    content = labels.read_bytes()
    labels.unlink()
    other_kind, other_size = b"\0\0\x08\x03" + content[4:], content[:7] + b"\x11" + content[8:]
    for changed in (content[:-1], other_kind, other_size):
        labels.write_bytes(changed)
        message = "t10k-labels-idx1-ubyte must hold bytes of shape (10000,) in the IDX format"
        assert message in complaint(tmp_path)


def complaint(folder):
    """The one line that the example on MNIST ends with."""
    result = start("mnist.py", "--data", str(folder))
    assert result.returncode == 1
    assert result.stderr.startswith("mnist.py: ")
    assert result.stderr.count("\n") == 1
    return result.stderr
