"""Threads and processes, as a matrix: whatever they do, both models give the bits of serial ones.

None crashes, none hangs, and each takes less than ten seconds.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import process_cases
import pytest
import workload
from process_cases import LIMIT
from together import together

import fastbp
from fastbp.training import threads

pytestmark = [
    pytest.mark.compiled,
    pytest.mark.filterwarnings("ignore:Stochastic Optimizer"),
]

START = 20  # seconds that processes may take to start and import everything


@pytest.fixture(scope="module")
def jobs():
    """That of each model."""
    return {model: workload.serial_job(model) for model in workload.MODELS}


@pytest.fixture(params=workload.MODELS)
def job(request, jobs):
    return jobs[request.param]


def test_the_jobs_are_shared_by_threads(job, monkeypatch):
    """Or else all of these tests show nothing."""
    numbers, run = [], threads.run

    def spy(n_threads, work):
        numbers.append(n_threads)
        run(n_threads, work)

    monkeypatch.setattr(threads, "run", spy)
    fitted = job.fit()
    n_slices = len(numbers)  # on a loaded machine, several of an epoch
    assert n_slices >= workload.EPOCHS
    assert job.knows(fitted)
    assert numbers == [2] * (n_slices + 4)


# Threads


def test_fits_and_predictions_at_once(jobs):
    """Of both models; several threads use each fitted one."""
    calls = [*jobs.values()]
    for job in jobs.values():
        fitted = job.fit()
        calls += [lambda job=job, fitted=fitted: job.knows(fitted) and job.knows(fitted)] * 2
    assert all(together(*calls * 2, within=LIMIT))


@pytest.mark.parametrize("inner", workload.MODELS)
def test_a_fit_in_the_callback_of_another(job, jobs, inner):
    if job.model == "classifier":
        pytest.importorskip("sklearn.callback", reason="scikit-learn has callbacks from 1.9 on")
    answers = []

    def fit():
        return job.knows(job.fit(after_epoch=lambda: answers.append(jobs[inner]())))

    assert together(fit, within=LIMIT) == [True]
    assert answers == [True] * workload.EPOCHS
    assert all(together(fit, fit, within=LIMIT))
    assert answers == [True] * 3 * workload.EPOCHS


def test_joblib_threading(jobs):
    together(lambda: process_cases.joblib_pool([*jobs.values()], "threading"), within=LIMIT)


# Processes


def run(case, *jobs, argument="", code=0, within=LIMIT):
    """Have a process go through a case with these jobs; return what it says on stderr."""
    __tracebackhide__ = True
    places = Path(__file__).parent, Path(fastbp.__file__).parents[1]
    family = subprocess.Popen(
        [
            *(sys.executable, "-c", "import process_cases; process_cases.main()"),
            *(case, argument, *(word for job in jobs for word in (job.model, job.serial))),
        ],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, places)),
            "PYTHONFAULTHANDLER": "1",
            # The last is said by os.fork() from Python 3.12 on; it is right, hence these tests.
            "PYTHONWARNINGS": "error,ignore:Stochastic Optimizer,ignore:This process",
            "LOKY_MAX_CPU_COUNT": "2",  # joblib would start a process to count the cores
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        # returns when the last of its descendants has ended: all hold its pipes
        out, err = family.communicate(timeout=START + within)
    except subprocess.TimeoutExpired:
        kill(family, "SIGABRT")  # every thread's stack to stderr
        with suppress(subprocess.TimeoutExpired):
            family.communicate(timeout=2)
        kill(family, "SIGKILL")
        pytest.fail(f"{case} has not ended: {family.communicate()[1]}")
    assert family.returncode == code, err
    assert time.time() - float(out) < within, err
    return err


def kill(family, name):
    """With all descendants, where there are sessions."""
    if not hasattr(os, "killpg"):
        family.kill()
    else:
        with suppress(ProcessLookupError):
            os.killpg(family.pid, getattr(signal, name))


forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="os.fork is POSIX")


@pytest.mark.parametrize(
    ("case", "model"),
    [
        ("first_use_by_many_threads", "network"),
        ("first_use_by_many_threads", "classifier"),
        pytest.param("fork_before_use", "network", marks=forks),
        pytest.param("fork_during_first_use", "classifier", marks=forks),
    ],
)
def test_first_use(case, model, jobs):
    assert run(case, jobs[model]) == ""


@forks
@pytest.mark.parametrize(
    "cases",
    [
        ("fork_after_use", "fork_of_a_fork", "fork_in_a_thread"),
        ("fork_during_use", "fork_during_a_run"),
        ("fork_in_the_midst_of_a_fit", "prefork_server"),
    ],
    ids=", ".join,
)
def test_forks(cases, jobs):
    assert run(",".join(cases), *jobs.values(), within=LIMIT * len(cases)) == ""


@pytest.mark.parametrize(
    ("case", "method"),
    [
        ("multiprocessing_pool", "fork"),
        ("futures_pool", "spawn"),
    ],
)
def test_worker_processes(case, method, jobs):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this platform has no {method}")
    assert run(case, *jobs.values(), argument=method, within=START + LIMIT) == ""


def test_joblib_loky(jobs):
    assert run("joblib_pool", *jobs.values(), argument="loky", within=START + LIMIT) == ""


@pytest.mark.parametrize(
    "case",
    [
        "exit_after_use",
        "exit_at_once",
        "exit_with_a_handler_that_trains",
        "exit_while_daemons_train_and_wait",
        "exit_before_a_thread_has_trained",
    ],
)
def test_exit(case, jobs):
    """The pool is the same for both models."""
    assert run(case, jobs["network"]) == ""


def test_exit_by_an_exception(jobs):
    err = run("exit_by_an_exception", jobs["network"], code=1)
    assert err.startswith("Traceback")
    assert err.endswith("LookupError: on purpose\n")
