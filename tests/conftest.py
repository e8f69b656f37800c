"""Fixtures of all tests; without a compiler, the tests of compiled code are left out."""

import numba
import numpy as np
import pytest
import reference
import trainings
from hypothesis import settings

# compiling takes as long as it takes, and the examples are the same in every run
settings.register_profile(
    "fastbp",
    deadline=None,
    derandomize=True,
    max_examples=10 if numba.config.DISABLE_JIT else 100,
)
settings.load_profile("fastbp")

needs_longdouble = pytest.mark.skipif(
    not reference.WIDE_ENOUGH, reason="longdouble cannot judge float64 on this platform"
)


@pytest.fixture(params=["float32", pytest.param("float64", marks=needs_longdouble)])
def dtype(request):
    """Each dtype that the kernels know."""
    return np.dtype(request.param)


@pytest.fixture
def data():
    """Rows and labels of small trainings."""
    return trainings.small_data()


def pytest_collection_modifyitems(config, items):
    if not numba.config.DISABLE_JIT:
        return
    compiled = [item for item in items if item.get_closest_marker("compiled")]
    config.hook.pytest_deselected(items=compiled)
    items[:] = [item for item in items if item not in compiled]
