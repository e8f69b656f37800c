"""Training over MPI: bits, faults, and what is left of a job that ends."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from links import MPIEXEC

import fastbp

pytest.importorskip("mpi4py", reason="trains over MPI", exc_type=ImportError)

TESTS = Path(__file__).parent

pytestmark = [
    pytest.mark.compiled,
    pytest.mark.skipif(MPIEXEC is None, reason="no mpiexec"),
]


def start(n_ranks, *arguments, environment=None):
    """Start ranks of ``mpi_child.py``; ``environment`` is that of the last one."""
    child = [sys.executable, str(TESTS / "mpi_child.py"), *map(str, arguments)]
    command = [MPIEXEC, "-n", str(n_ranks), *child]
    if environment is not None:
        last = ["-n", "1", "-env", *environment, *child]
        command = [MPIEXEC, "-n", str(n_ranks - 1), *child, ":", *last]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=subprocess.STDOUT, text=True)


def ended(job, seconds=120):
    """Wait for the end of a job; return its status and what its ranks printed."""
    try:
        output, _ = job.communicate(timeout=seconds)
    finally:
        job.kill()
    return job.returncode, output


def digests(output):
    return set(re.findall(r"\b[0-9a-f]{64}\b", output))


@pytest.fixture(scope="module")
def alone():
    """The digest of one process."""
    command = [sys.executable, str(TESTS / "mpi_child.py"), "alone"]
    return digests(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.parametrize("n_ranks", [1, 2, 3, 4])
def test_ranks_have_the_bits_of_one_process(n_ranks, alone):
    assert len(alone) == 1
    status, output = ended(start(n_ranks))
    assert status == 0, output
    assert digests(output) == alone
    assert len(re.findall(r"\b[0-9a-f]{64}\b", output)) == n_ranks


def test_rank_on_another_processor_has_the_same_bits(alone):
    """With vectors of another width, if this machine has AVX-512."""
    status, output = ended(start(2, environment=["NUMBA_CPU_NAME", "haswell"]))
    assert status == 0, output
    assert digests(output) == alone


def test_rows_of_a_file_have_the_same_bits(tmp_path):
    x = np.random.default_rng(0).random((3000, 20), dtype=np.float32)
    np.save(tmp_path / "x.npy", x)
    found = [ended(start(n, "--rows", tmp_path / "x.npy")) for n in (1, 2)]
    assert [status for status, _ in found] == [0, 0], found
    assert digests(found[0][1]) == digests(found[1][1])


@pytest.mark.parametrize("fault", ["kill", "interrupt"])
def test_job_that_was_ended_goes_on_with_another_number_of_ranks(fault, tmp_path):
    path = tmp_path / "checkpoint"
    arguments = "--checkpoint", path, "--every", 7
    job = start(2, "kill" if fault == "kill" else "none", *arguments, "--epochs", 10**7)
    if fault == "interrupt":
        while not path.exists():
            time.sleep(0.1)
        time.sleep(1)
        job.send_signal(signal.SIGINT)
    status, output = ended(job)
    assert status != 0
    assert not digests(output), "it had ended before"
    if fault == "interrupt":
        assert len(re.findall(r"^KeyboardInterrupt", output, re.MULTILINE)) == 2, output
    epochs, saved, found = fastbp.Network.load(path).epoch + 2, path.read_bytes(), set()
    for n_ranks in (1, 3):
        path.write_bytes(saved)
        status, output = ended(start(n_ranks, "none", *arguments, "--epochs", epochs))
        assert status == 0, output
        found |= digests(output)
    status, output = ended(start(2, "none", "--epochs", epochs))
    assert found == digests(output)


@pytest.mark.parametrize(
    ("fault", "status", "message"),
    [
        ("raise", 1, "DistributedError: rank 0 of 2 failed: RuntimeError: the callback failed"),
        ("exit", 3, "DistributedError: rank 0 of 2 failed: SystemExit: 3"),
        ("os._exit", 3, ""),  # mpiexec itself ends the others
        ("kill", 9, r"Killed \(signal 9\)"),
        (
            "stop",
            75,
            r"fastbp: rank 0 of 2 on \S+: another rank did not answer for 4 s in (step \d+|the end)"
            r" of epoch \d+: it is stopped or unreachable; this job ends",
        ),
        ("nan", 1, "ValueError: ranks must be given the same X: that of rank 1 is not that of"),
        ("refused", 1, "rank 1 of 2 failed: ValueError: batch_size must be an integer >= 1, got"),
        ("disk", 1, "rank 0 of 2 failed: OSError: .*File too large"),
    ],
)
def test_fault_of_one_rank_ends_the_job(fault, status, message, tmp_path):
    """Under plain Python, where mpi4py alone would hang."""
    started = time.monotonic()
    arguments = ["--checkpoint", tmp_path / "checkpoint"] if fault == "disk" else []
    job = start(2, fault, "--epochs", 10**7, "--timeout", 4, *arguments)
    code, output = ended(job, 60)
    assert time.monotonic() - started < 60
    assert code == status, output
    assert re.search(message, output), output
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert f"mpi_child.py {fault} " not in listed, "a rank is left"
