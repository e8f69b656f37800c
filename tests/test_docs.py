"""Docstrings of everything public, by numpydoc's own tool; their examples run as doctests."""

import ast
import dataclasses
import inspect
import re

import pytest
from numpydoc.docscrape import NumpyDocString
from numpydoc.validate import validate

import fastbp

LEFT_OUT = {
    "SA01": "no See Also: a docstring names its relatives where they matter",
    "ES01": "no text after a summary that says all",
    "EX01": "test_project.py asks for examples, of functions and classes",
    "SS02": "a summary may begin with an equation or a name",
    "SS05": "takes names for verbs",
    "PR08": "a description may begin with a name",
}
# Kernels: their "type" is shape and dtype, and says what an array is.
LEFT_OUT_OF_KERNELS = {"PR07"}


def is_inherited(kind, method):
    """Whether the docstring of a method is that of a base."""
    inherited = any(hasattr(base, method) for base in kind.__mro__[1:])
    return inherited and vars(kind)[method].__doc__ is None


def names():
    """Everything public, with the methods of classes."""
    for name in dir(fastbp):
        thing = getattr(fastbp, name)
        if inspect.ismodule(thing):
            of_module = thing.__all__ if hasattr(thing, "__all__") else vars(thing)
            things = {f"{name}.{inner}": getattr(thing, inner) for inner in of_module}
        else:
            things = {name: thing}
        for path, thing in things.items():
            if callable(thing):
                yield path
            if inspect.isclass(thing):
                # Not fields: the class describes them. Not set_…_request: they are scikit-learn's.
                fields = (
                    {f.name for f in dataclasses.fields(thing)}
                    if dataclasses.is_dataclass(thing)
                    else {}
                )
                yield from (
                    f"{path}.{method}"
                    for method, value in vars(thing).items()
                    if not method.startswith(("_", "set_"))
                    and method not in fields
                    and not is_inherited(thing, method)
                    and (callable(value) or isinstance(value, classmethod | property))
                )


@pytest.mark.parametrize("name", list(names()))
def test_numpydoc(name):
    # A dispatcher's own docstring is Numba's: plain Python in a process of its own has them all.
    thing = fastbp
    for part in name.split("."):
        thing = getattr(thing, part)
    errors = validate(f"fastbp.{name}")["errors"]
    left_out = set(LEFT_OUT) | (LEFT_OUT_OF_KERNELS if name.startswith("kernels.") else set())
    if getattr(thing, "_is_protocol", False):
        left_out.add("PR01")  # nobody calls it
    assert not [(code, text) for code, text in errors if code not in left_out]


@pytest.mark.parametrize("name", list(names()))
def test_documented_defaults_are_those_of_the_signature(name):
    thing = fastbp
    for part in name.split("."):
        thing = getattr(thing, part)
    thing = getattr(thing, "py_func", thing)
    entries = NumpyDocString(inspect.getdoc(thing))["Parameters"]
    parameters = inspect.signature(thing).parameters if entries else {}
    for entry in entries:
        found = re.search(r"default[= ](.+)$", entry.type)
        if found:
            values = ast.literal_eval(found[1])
            documented = entry.name.split(", ")
            for one, value in zip(
                documented, values if len(documented) > 1 else [values], strict=True
            ):
                assert parameters[one].default == value
        elif "optional" in entry.type:
            for one in entry.name.split(", "):
                assert parameters[one].default is None, one
