"""fastbp's own pool of threads.

Kernels release the interpreter, so plain Python threads run them side by side.  `run` has several
threads call one function at once, and returns when all calls have ended; how the threads share the
work is up to the function.
"""

import os
import threading
from collections.abc import Callable
from queue import SimpleQueue

from fastbp.training.cpus import allowed_cpus

Work = Callable[[], object]


class _Worker:
    """A thread that makes one call after another."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[Work | None] = SimpleQueue()
        self.error: BaseException | None = None
        # A daemon: the interpreter may exit while the thread waits for work.
        threading.Thread(target=self._serve, name="fastbp", daemon=True).start()

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                call()
            except BaseException as error:
                self.error = error
            del call  # it holds arrays

    def begin(self, work: Work) -> None:
        self._calls.put(work)

    def wait(self) -> None:
        """Wait until every call has ended."""
        ended = threading.Event()
        self._calls.put(ended.set)
        ended.wait()

    def end(self) -> list[BaseException]:
        """Wait until every call has ended; return what was raised, what ended the wait last."""
        interruptions = whole(self.wait, BaseException)
        error, self.error = self.error, None
        return interruptions if error is None else [error, *interruptions]

    def dismiss(self) -> None:
        self._calls.put(None)


_idle: list[_Worker] = []
_idle_lock = threading.Lock()


def _forget_workers() -> None:
    """In a forked child: only the thread that forked lives on there."""
    global _idle_lock
    _idle.clear()
    _idle_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_workers)


def run(n_threads: int, work: Work) -> None:
    """Have ``n_threads`` threads call ``work()`` at once, this one among them.

    Fewer do so where no more can be started.
    Returns when all calls have ended, also if one raises; then raises the first error.  Several
    threads may call this at once, and so may ``work``: every call has threads of its own.
    """
    if n_threads == 1:
        work()
        return
    with _idle_lock:
        workers = [_idle.pop() for _ in range(min(n_threads - 1, len(_idle)))]
    try:
        while len(workers) < n_threads - 1:
            try:
                workers.append(_Worker())
            except RuntimeError:  # at its limit, or (Python 3.12) when the process ends
                break
        for worker in workers:
            worker.begin(work)
        work()
    finally:
        # Wait whatever comes, Ctrl-C or another signal's error: workers use the caller's arrays.
        errors = [error for worker in workers for error in worker.end()]
        with _idle_lock:
            _idle.extend(workers)
            spare = [_idle.pop() for _ in range(len(_idle) - allowed_cpus())]
        for worker in spare:
            worker.dismiss()
    if errors:
        raise errors[0]


def whole(action: Work, kind: type[BaseException] = KeyboardInterrupt) -> list[BaseException]:
    """Call ``action`` again until no error of a kind ends it; return these errors."""
    errors: list[BaseException] = []
    while True:
        try:
            action()
        except kind as error:
            errors.append(error)
        else:
            return errors
