"""What optimisers refuse, and what they hand to compiled code."""

import copy
import dataclasses
import math
import pickle
import re

import pytest

from fastbp import SGD, Adam

BAD = [
    (SGD, {"learning_rate": 0}, ValueError, "learning_rate must be a finite number > 0, got 0"),
    (SGD, {"learning_rate": -1}, ValueError, "learning_rate must be a finite number > 0, got -1"),
    (SGD, {"learning_rate": math.inf}, ValueError, "learning_rate must be a finite number > 0"),
    (SGD, {"learning_rate": "1"}, TypeError, "learning_rate must be a finite number > 0, got '1'"),
    (SGD, {"learning_rate": None}, TypeError, "learning_rate must be a finite number > 0"),
    (SGD, {"momentum": 1.5}, ValueError, "momentum must be a number in [0, 1], got 1.5"),
    (SGD, {"momentum": -0.1}, ValueError, "momentum must be a number in [0, 1], got -0.1"),
    (SGD, {"momentum": math.nan}, ValueError, "momentum must be a number in [0, 1], got nan"),
    (Adam, {"learning_rate": 0}, ValueError, "learning_rate must be a finite number > 0, got 0"),
    (Adam, {"beta_1": 1.0}, ValueError, "beta_1 must be a number in [0, 1), got 1.0"),
    (Adam, {"beta_1": -0.1}, ValueError, "beta_1 must be a number in [0, 1), got -0.1"),
    (Adam, {"beta_2": 1}, ValueError, "beta_2 must be a number in [0, 1), got 1"),
    (Adam, {"beta_2": "0"}, TypeError, "beta_2 must be a number in [0, 1), got '0'"),
    (Adam, {"epsilon": 0.0}, ValueError, "epsilon must be a finite number > 0, got 0.0"),
    (Adam, {"epsilon": math.nan}, ValueError, "epsilon must be a finite number > 0, got nan"),
    (Adam, {"weight_decay": -1}, ValueError, "weight_decay must be a finite number >= 0, got -1"),
    (Adam, {"weight_decay": math.inf}, ValueError, "weight_decay must be a finite number >= 0"),
]


@pytest.mark.parametrize(("kind", "options", "error", "message"), BAD)
def test_bad_numbers(kind, options, error, message):
    with pytest.raises(error, match=re.escape(message)):
        kind(**options)


@pytest.mark.parametrize(
    "optimizer",
    [
        SGD(0.5, 0.0),
        SGD(momentum=1.0, nesterov=True),
        Adam(beta_1=0.0, beta_2=0.0),
        Adam(weight_decay=0.1),
    ],
    ids=repr,
)
def test_optimizers_are_values(optimizer):
    assert eval(repr(optimizer)) == optimizer
    for twin in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        assert twin == optimizer
        assert hash(twin) == hash(optimizer)
    assert optimizer != dataclasses.replace(optimizer, learning_rate=7.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        optimizer.learning_rate = 1.0


def test_numbers_become_floats():
    for optimizer in (SGD(1, 0), Adam(1, 0, 0, 1, 0)):
        numbers = dataclasses.asdict(optimizer)
        numbers.pop("nesterov", None)
        assert {type(number) for number in numbers.values()} == {float}


def test_updates_are_of_one_type():
    """Or compiled code would be made anew for each kind."""
    updates = [SGD().update(), SGD(1, 0, 1).update(l2=0.1), Adam().update(alpha=0.1)]
    assert len({tuple(map(type, update)) for update in updates}) == 1


def test_penalty_and_convention_are_handed_on():
    assert SGD().update(l2=0.5, alpha=0.25)[-2:] == (0.5, 0.25)
    update = Adam(epsilon=0.1).update(0.5, 0.25, epsilon_is_corrected=False)
    assert (update.l2, update.alpha, update.epsilon, update.epsilon_is_corrected) == (
        *(0.5, 0.25, 0.1, False),
    )
    assert Adam().update().epsilon_is_corrected
