"""What may happen to a process that uses fastbp: cases of test_processes.py.

Each is given a job (see workload.py) and runs in a process of its own, see `main`.
"""

import atexit
import concurrent.futures
import multiprocessing
import os
import sys
import threading
import time
import traceback

from together import together
from workload import Job, data

import fastbp
from fastbp.training import threads

LIMIT = 10  # seconds


def in_child(question):
    """Whether the answer of a forked child to the question is yes."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if question() else 1
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return ended_well(child)


def ended_well(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def in_background(work, daemon=True):
    """Start a thread that does it again and again until the event it returns is set."""
    stop = threading.Event()

    def serve():
        while not stop.is_set():
            work()

    thread = threading.Thread(target=serve, daemon=daemon)
    thread.start()
    return thread, stop


# Threads


def first_use_by_many_threads(job):
    """All of them load, or compile, the same kernels."""
    assert all(together(*[job] * 6, within=LIMIT))


# Forks


def fork_before_use(job):
    assert in_child(job)
    assert job()


def fork_after_use(job):
    """The child, and a child that exits as any program does."""
    assert job()
    assert threads._idle, "no pool"
    assert in_child(job)
    child = os.fork()
    if child == 0:
        assert job()
        sys.exit()
    assert ended_well(child)
    assert job()


def fork_during_first_use(job):
    """Another thread loads, or compiles, kernels, and is importing what that takes."""
    imports = threading.Event()

    class Finder:
        def find_spec(self, name, path=None, target=None):
            if not imports.is_set():
                imports.set()
                time.sleep(0.2)  # holds the module's lock

    sys.meta_path.insert(0, Finder())
    answers = []
    thread = threading.Thread(target=lambda: answers.append(job()))
    thread.start()
    assert imports.wait(LIMIT)
    assert in_child(job)
    thread.join()
    assert answers == [True]


def fork_during_use(job):
    """Another thread is somewhere within a fit or a prediction."""

    def work():
        assert job()

    assert job()
    thread, stop = in_background(work)
    for _ in range(8):
        time.sleep(0.005)
        assert in_child(job)
    stop.set()
    thread.join()
    assert job()


def fork_during_a_run(job):
    """The workers of the run do not exist in the child, nor do the threads that wait for them."""
    begun, go_on = threading.Semaphore(0), threading.Event()

    def work():
        begun.release()
        go_on.wait()

    runs = [threading.Thread(target=threads.run, args=(2, work)) for _ in range(2)]
    for thread in runs:
        thread.start()
    for _ in range(4):
        begun.acquire()
    assert in_child(job)
    with threads._idle_lock:  # held by a thread that the child does not have
        other = threading.Thread(target=lambda: answers.append(in_child(job)))
        answers = []
        other.start()
        other.join()
    assert answers == [True]
    assert in_child(lambda: in_child(job))
    assert job()
    go_on.set()
    for thread in runs:
        thread.join()
    assert job()


def fork_in_the_midst_of_a_fit(job):
    """Parent and child both go on with it."""
    if job.model == "classifier" and not hasattr(fastbp.MLPClassifier, "set_callbacks"):
        return  # scikit-learn has callbacks from 1.9 on
    children = []

    def fork_once():
        if not children:
            children.append(os.fork())

    try:
        right = job.knows(job.fit(after_epoch=fork_once))
    except BaseException:
        traceback.print_exc()
        right = False
    if children == [0]:
        os._exit(0 if right else 1)
    assert right
    assert ended_well(children[0])


def fork_of_a_fork(job):
    assert in_child(lambda: in_child(job))
    assert job()
    assert in_child(lambda: job() and in_child(job) and job())
    assert job()


def fork_in_a_thread(job):
    """In the child, that thread is the main one."""
    assert together(lambda: in_child(job), within=LIMIT) == [True]
    answers = together(*[lambda: job() and in_child(job) and job()] * 3, within=LIMIT)
    assert answers == [True] * 3


def prefork_server(job):
    """A trained model answers from four children, all at once, while the parent trains on."""
    fitted = job.fit()
    for parent_trains in (False, True):
        pipes = [multiprocessing.Pipe() for _ in range(4)]
        children = []
        for _, end in pipes:
            children.append(os.fork())
            if children[-1] == 0:
                try:
                    while end.recv():
                        end.send(job.digest(fitted))
                finally:
                    os._exit(0)
        if parent_trains:
            thread, stop = in_background(job)
        for request in (True, True, False):
            for ours, _ in pipes:
                ours.send(request)
            if request:
                assert [ours.recv() for ours, _ in pipes] == [job.serial] * 4
        assert all(map(ended_well, children))
        if parent_trains:
            stop.set()
            thread.join()
    assert job()


# Worker processes: the jobs of both models


def multiprocessing_pool(jobs, method):
    assert do_all(jobs)
    with multiprocessing.get_context(method).Pool(2) as pool:
        answers = pool.map_async(Job.__call__, jobs * 3, chunksize=1)
        assert do_all(jobs)
        assert answers.get() == [True] * 6
    assert do_all(jobs)


def futures_pool(jobs, method):
    assert do_all(jobs)
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        answers = pool.map(Job.__call__, jobs * 3)
        assert do_all(jobs)
        assert all(answers)
    assert do_all(jobs)


def joblib_pool(jobs, backend):
    import joblib
    import numpy as np
    from sklearn.model_selection import cross_val_predict

    with joblib.parallel_config(backend):
        assert all(joblib.Parallel(n_jobs=2)(map(joblib.delayed(Job.__call__), jobs * 3)))
        one, two = (
            cross_val_predict(jobs[1].fit(), *data(), n_jobs=n, cv=2, method="predict_proba")
            for n in (1, 2)
        )
    np.testing.assert_array_equal(one, two)
    assert do_all(jobs)


def do_all(jobs):
    return all(job() for job in jobs)


# The end of the interpreter: each leaves a pool


def exit_after_use(job):
    """Also of a thread, which sys.exit ends alone."""
    assert job()
    thread = threading.Thread(target=sys.exit)
    thread.start()
    thread.join()
    assert job()


def exit_at_once(job):
    in_background(job)
    time.sleep(0.1)
    os._exit(0)


def exit_by_an_exception(job):
    in_background(job)
    time.sleep(0.1)
    raise LookupError("on purpose")


def exit_with_a_handler_that_trains(job):
    assert job()
    atexit.register(lambda: job() or os._exit(1))


def exit_while_daemons_train_and_wait(job):
    assert job()
    in_background(job)
    in_background(lambda: threads.run(2, threading.Event().wait))
    time.sleep(0.1)


def exit_before_a_thread_has_trained(job):
    """The interpreter waits for it."""

    def work():
        assert all(job() for _ in range(5))

    threading.Thread(target=work).start()


def main():
    """Go through cases: ``<cases> <argument> (<model> <digest>)...``.

    With each job in turn; those that have an argument take all jobs at once.
    """
    names, argument, *words = sys.argv[1:]
    jobs = [Job(*pair) for pair in zip(words[::2], words[1::2], strict=True)]
    if any(job.model == "classifier" for job in jobs):
        import fastbp.estimator.classifier  # noqa: F401 (a fork during an import has never worked)
    print(time.time(), flush=True)
    for name in names.split(","):
        case = globals()[name]
        if argument:
            case(jobs, argument)
        else:
            for job in jobs:
                case(job)
