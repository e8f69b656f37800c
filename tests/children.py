"""Work done in forked children, which may be killed, and the parent sees how they ended."""

import contextlib
import os
import pickle
import signal
import time

TOO_LONG = 60


def begin(work):
    """Fork a child that calls ``work()``; return its id and where its result will be read."""
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        return child, reader
    status = 1
    try:
        os.close(reader)
        signal.alarm(TOO_LONG)
        result = work()
        with open(writer, "wb") as pipe:
            pickle.dump(result, pipe)
        status = 0
    finally:
        # Nothing of the parent's is to happen here a second time: no test report, no exit function.
        if status:
            import traceback

            traceback.print_exc()
        os._exit(status)


def end(child, reader):
    """Return what the child's work returned, or the number of the signal that killed it."""
    with open(reader, "rb") as pipe:
        content = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status < 0:
        return signal.Signals(-status)
    assert status == 0, "the child has failed, see above"
    return pickle.loads(content)


def run(work):
    """Have ``work()`` done in a child; return what it returned, or the signal that killed it."""
    return end(*begin(work))


def kill_after(work, seconds):
    """The same, but kill the child after some time, unless it has ended by then."""
    child, reader = begin(work)
    time.sleep(seconds)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    return end(child, reader)


def die():
    os.kill(os.getpid(), signal.SIGKILL)
