"""pytest plugin: SciPy's tests of softmax and log_softmax, run against fastbp's.

The names are swapped in the collected modules, where the tests look them up when they run; SciPy's
own decorators have by then seen SciPy's functions.  The calls are counted, because a swap that did
not take would look like a success.
"""

import fastbp

CALLS = {"softmax": 0, "log_softmax": 0}


def _counted(name):
    function = getattr(fastbp, name)

    def swapped(x, axis=None):  # SciPy's default axis
        CALLS[name] += 1
        return function(x, axis)

    return swapped


def pytest_collection_finish(session):
    for module in {item.module for item in session.items}:
        for name in CALLS:
            setattr(module, name, _counted(name))


def pytest_terminal_summary(terminalreporter):
    for name, count in CALLS.items():
        terminalreporter.write_line(f"fastbp.{name} was called {count} times")
