"""What optimizers refuse, and what they hand to compiled code."""

import copy
import dataclasses
import math
import pickle
import re

import pytest

from fastbp import SGD, Adam
from fastbp.optimizers import step_options

BAD = [
    (SGD, {"learning_rate": 0}, ValueError, "learning_rate must be a finite number > 0, got 0"),
    (SGD, {"learning_rate": math.inf}, ValueError, "learning_rate must be a finite number > 0"),
    (SGD, {"learning_rate": "1"}, TypeError, "learning_rate must be a finite number > 0, got '1'"),
    (SGD, {"momentum": 1.5}, ValueError, "momentum must be a number in [0, 1], got 1.5"),
    (SGD, {"momentum": -0.1}, ValueError, "momentum must be a number in [0, 1], got -0.1"),
    (SGD, {"momentum": math.nan}, ValueError, "momentum must be a number in [0, 1], got nan"),
    (Adam, {"learning_rate": 0}, ValueError, "learning_rate must be a finite number > 0, got 0"),
    (Adam, {"beta_1": 1.0}, ValueError, "beta_1 must be a number in [0, 1), got 1.0"),
    (Adam, {"beta_2": 1}, ValueError, "beta_2 must be a number in [0, 1), got 1"),
    (Adam, {"beta_2": "0"}, TypeError, "beta_2 must be a number in [0, 1), got '0'"),
    (Adam, {"epsilon": 0.0}, ValueError, "epsilon must be a finite number > 0, got 0.0"),
    (Adam, {"weight_decay": -1}, ValueError, "weight_decay must be a finite number >= 0, got -1"),
    (Adam, {"weight_decay": math.inf}, ValueError, "weight_decay must be a finite number >= 0"),
]


@pytest.mark.parametrize(("kind", "options", "error", "message"), BAD)
def test_bad_numbers(kind, options, error, message):
    with pytest.raises(error, match=re.escape(message)):
        kind(**options)


@pytest.mark.parametrize("optimizer", [SGD(momentum=1, nesterov=True), Adam(1, 0, 0, 1)], ids=repr)
def test_optimizers_are_values_of_floats(optimizer):
    assert eval(repr(optimizer)) == optimizer
    for twin in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        assert twin == optimizer
        assert hash(twin) == hash(optimizer)
    assert optimizer != dataclasses.replace(optimizer, learning_rate=7.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        optimizer.learning_rate = 1.0
    numbers = dataclasses.asdict(optimizer)
    numbers.pop("nesterov", None)
    assert {type(number) for number in numbers.values()} == {float}


def test_step_options():
    """Of one type, or compiled code would be made anew for each kind of optimizer."""
    sgd, adam = SGD(1, 0, 1), Adam(epsilon=0.1, weight_decay=0.2)
    options = [step_options(SGD()), step_options(sgd, l2=0.1), step_options(adam, alpha=0.1)]
    assert len({tuple(map(type, each)) for each in options}) == 1
    assert [each.is_adam for each in options] == [False, False, True]
    assert [each.nesterov for each in options] == [False, True, False]
    found = step_options(adam, 0.5, 0.25, epsilon_is_corrected=False)
    assert (found.learning_rate, found.momentum, found.beta_2) == (0.001, 0.9, 0.999)
    assert (found.l2, found.alpha, found.epsilon, found.weight_decay) == (0.5, 0.25, 0.1, 0.2)
    assert not found.epsilon_is_corrected
    assert step_options(adam).epsilon_is_corrected
    assert step_options(SGD(0.3, 0.7)).momentum == 0.7
