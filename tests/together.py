"""Calls side by side, each by a thread of its own."""

import threading
import time


def together(*calls, within=60):
    """What the calls return, all begun at the same time.

    One that raises is an error, and so is one that has not ended within so many seconds.
    """
    results, errors = [None] * len(calls), []
    start = threading.Barrier(len(calls))

    def serve(k, call):
        try:
            start.wait(within)
            results[k] = call()
        except BaseException as error:
            errors.append(error)

    # daemons: one that never ends must not keep the tests from ending
    threads = [threading.Thread(target=serve, args=pair, daemon=True) for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + within
    for thread in threads:
        thread.join(max(0, deadline - time.monotonic()))
    if errors:
        raise errors[0]
    assert not any(thread.is_alive() for thread in threads), "a call has not ended"
    return results
