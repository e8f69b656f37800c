"""The pool of threads; what may happen to its process is in test_processes.py."""

import itertools
import signal
import threading
import time
import weakref

import pytest
from together import together

from fastbp.training import threads

WAIT = 10  # seconds after which a thread that should have come is given up

sends_signals = pytest.mark.skipif(
    not hasattr(signal, "pthread_kill"), reason="signals to threads are POSIX"
)


def is_caller():
    """Whether this is the thread that runs the tests."""
    return threading.current_thread() is threading.main_thread()


@pytest.mark.parametrize("n_threads", [1, 2, 3, 7])
def test_every_thread_calls_once_at_the_same_time(n_threads):
    start, callers, ended = threading.Barrier(n_threads), [], []

    def work():
        start.wait(WAIT)  # returns once all of them have come
        callers.append(threading.current_thread())
        if not is_caller():
            time.sleep(0.05)
        ended.append(None)

    threads.run(n_threads, work)
    assert len(ended) == len(callers) == len(set(callers)) == n_threads
    assert threading.current_thread() in callers


def test_one_thread_needs_no_pool(monkeypatch):
    def refuse():
        raise AssertionError("a thread was started")

    monkeypatch.setattr(threads, "_Worker", refuse)
    callers = []
    threads.run(1, lambda: callers.append(threading.current_thread()))
    assert callers == [threading.current_thread()]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize(
    ("failing", "raised"), [({0}, {0}), ({2}, {2}), ({1, 2}, {1, 2}), ({0, 1}, {0})], ids=str
)
def test_errors_are_raised_after_all_have_ended(failing, raised, error):
    """The caller's own counts before those of the others."""
    worker_numbers, ended = itertools.count(1), []

    def work():
        number = 0 if is_caller() else next(worker_numbers)
        if number in failing:
            raise error(number)
        time.sleep(0.05)
        ended.append(number)

    with pytest.raises(error) as caught:
        threads.run(3, work)
    assert caught.value.args[0] in raised
    assert {*ended, *failing} == {0, 1, 2}
    threads.run(3, lambda: ended.append(None))  # none is left over for the next
    assert ended.count(None) == 3


@pytest.fixture
def ctrl_c():
    """Ctrl-C interrupts, also where the tests run in the background, which would ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@sends_signals
@pytest.mark.parametrize("n_threads", [2, 4])
def test_ctrl_c_does_not_end_the_wait(n_threads, ctrl_c):
    numbers, ended = itertools.count(), []

    def work():
        if is_caller():
            return
        if next(numbers) == 0:
            for _ in range(3):
                time.sleep(0.02)
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        time.sleep(0.1)
        ended.append(threading.current_thread())

    with pytest.raises(KeyboardInterrupt):
        threads.run(n_threads, work)
    assert len(ended) == n_threads - 1
    threads.run(n_threads, lambda: ended.append(None))
    assert ended.count(None) == n_threads


@sends_signals
def test_ctrl_c_within_the_callers_part(ctrl_c):
    ended = []

    def work():
        if is_caller():
            signal.raise_signal(signal.SIGINT)
            time.sleep(WAIT)
        time.sleep(0.1)
        ended.append(threading.current_thread())

    with pytest.raises(KeyboardInterrupt):
        threads.run(3, work)
    assert len(ended) == 2


def test_threads_that_cannot_be_started(monkeypatch):
    """Those that could be started do the work, and are not lost."""
    started, calls = [], []

    class Scarce(threads._Worker):
        def __init__(self):
            if len(started) == 2:
                raise RuntimeError("can't start new thread")
            super().__init__()
            started.append(self)

    monkeypatch.setattr(threads, "_Worker", Scarce)
    monkeypatch.setattr(threads, "allowed_cpus", lambda: 100)
    try:
        n_idle = len(threads._idle)
        threads.run(n_idle + 4, lambda: calls.append(None))
        assert len(calls) == n_idle + 3
        assert {*started} <= {*threads._idle}
    finally:
        for worker in {*started} - {*threads._idle}:
            worker.dismiss()


def test_runs_within_runs():
    start, callers = threading.Barrier(6), []

    def work():
        start.wait(WAIT)
        callers.append(threading.current_thread())

    threads.run(2, lambda: threads.run(3, work))
    assert len(set(callers)) == 6


def test_runs_of_several_threads_at_once():
    """Each has threads of its own, and hears of its own errors alone."""

    def runs(number):
        for count in range(30):
            start, callers, error = threading.Barrier(3), [], f"{number}.{count}"

            def work(start=start, callers=callers):
                callers.append((start.wait(WAIT), number))

            def fail(error=error):
                raise ValueError(error)

            threads.run(3, work)
            assert sorted(callers) == [(k, number) for k in range(3)]
            with pytest.raises(ValueError, match=error):
                threads.run(2, fail)

    together(*(lambda number=number: runs(number) for number in range(5)))


def pool_size():
    """Threads of the pool that are alive."""
    return sum(thread.name == "fastbp" for thread in threading.enumerate())


def test_threads_are_kept_but_no_more_than_there_are_processors(monkeypatch):
    callers = set()
    for _ in range(100):
        threads.run(2, lambda: callers.add(threading.current_thread()))
    assert len(callers) == 2
    monkeypatch.setattr(threads, "allowed_cpus", lambda: 3)
    for _ in range(100):
        threads.run(9, lambda: None)
    deadline = time.monotonic() + WAIT
    while pool_size() > 3 and time.monotonic() < deadline:
        time.sleep(0.01)  # those dismissed end in their own time
    assert pool_size() == len(threads._idle) == 3
    threads.run(9, lambda: None)


def test_work_is_let_go_of():
    """It holds arrays, which must not outlive a run in an idle thread."""

    class Work:
        def __call__(self):
            pass

    work = Work()
    alive = weakref.ref(work)
    threads.run(3, work)
    del work
    assert alive() is None
