"""pytest plugin: scikit-learn's tests of its MLPClassifier, run against fastbp's.

The name is swapped in the collected module, where tests look it up when they run, and in their
parameters, which were evaluated at import.  The calls are counted, because a swap that did not take
would look like a success.
"""

import functools

from sklearn.neural_network import MLPClassifier, MLPRegressor

import fastbp

CALLS = {"__init__": 0, "fit": 0, "partial_fit": 0, "predict": 0}
LEFT_OUT = []


def _count(method, name_of):
    function = getattr(fastbp.MLPClassifier, method)

    @functools.wraps(function)
    def counted(*args, **kwargs):
        CALLS[name_of(kwargs)] += 1
        return function(*args, **kwargs)

    setattr(fastbp.MLPClassifier, method, counted)


def _parameters(item):
    return item.callspec.params if hasattr(item, "callspec") else {}


def pytest_addoption(parser):
    parser.addoption("--leave-out", action="append", default=[], help="a test for other classes")


def pytest_configure():
    _count("__init__", lambda kwargs: "__init__")
    _count("predict", lambda kwargs: "predict")
    # Both end there; partial_fit itself is no function, but a descriptor that may hide one.
    _count("_fit", lambda kwargs: "partial_fit" if kwargs.get("incremental") else "fit")


def pytest_collection_modifyitems(config, items):
    names = config.getoption("leave_out")
    for item in list(items):
        is_regression = any(value is MLPRegressor for value in _parameters(item).values())
        if is_regression or item.originalname in names:
            LEFT_OUT.append(item)
            items.remove(item)
    config.hook.pytest_deselected(items=LEFT_OUT)


def pytest_collection_finish(session):
    for item in session.items:
        item.module.MLPClassifier = fastbp.MLPClassifier
        for name, value in _parameters(item).items():
            if value is MLPClassifier:
                item.callspec.params[name] = fastbp.MLPClassifier


def pytest_terminal_summary(terminalreporter):
    for item in LEFT_OUT:
        terminalreporter.write_line(f"left out: {item.name}")
    for name, count in CALLS.items():
        terminalreporter.write_line(f"fastbp.MLPClassifier.{name} was called {count} times")
