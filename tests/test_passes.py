"""Passes without an update: logits, answers, and what is looked at beside them."""

import numpy as np
import pytest
import reference
from problem import Problem
from reference import forward

from fastbp.backprop import passes, tasks
from fastbp.kernels.activation import ACTIVATIONS

N_CLASSES = (1, 2, 15, 16, 17, 33)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("sizes", [(5, 3), (13, 7, 11, 5, 17, 3), (64, 33, 10)], ids=str)
def test_logits_match_the_reference_in_any_blocks(activation, sizes, dtype):
    problem = Problem(sizes, dtype, activation=activation)
    n, x = 23, problem.x
    exact = forward(*problem.layers, x, activation=activation)[-1]
    results = []
    for capacity in (1, 5, 23, 40):
        z = np.full((n, sizes[-1]), np.nan, dtype)
        hidden = np.empty((capacity, problem.plan.n_hidden), dtype)
        arguments = (problem.plan.table, problem.parameters, x, z)
        passes.logits(*arguments, 0, 11, hidden, tasks.make_counters(1))
        assert np.isnan(z[11:]).all()
        passes.logits(*arguments, 11, n, hidden, tasks.make_counters(1))
        error = abs(reference.wide(z) - exact).max()
        assert error <= 20 * np.finfo(dtype).eps * abs(exact).max()
        results.append(z)
    for z in results[1:]:
        np.testing.assert_array_equal(z, results[0])


def test_subnormal_logits_stay(dtype):
    problem, z = Problem((5, 3), dtype, n=1), np.empty((1, 3), dtype)
    quarter = np.finfo(dtype).tiny / 4
    problem.parameters[:], problem.x[:] = quarter, 0.25
    hidden = np.empty((1, 0), dtype)
    arguments = (problem.plan.table, problem.parameters, problem.x, z, 0, 1, hidden)
    passes.logits(*arguments, tasks.make_counters(1))
    np.testing.assert_array_equal(z, quarter * 9 / 4)


def test_largest_takes_the_first_of_equals_and_tells_of_bad_rows():
    z = np.array([[1, 3, 2], [5, 5, 1], [-np.inf, 0, 0]])
    labels = np.empty(3, np.intp)
    assert passes.largest(z, labels) == -1
    np.testing.assert_array_equal(labels, [1, 0, 1])
    z[1] = np.nan
    z[2, 2] = np.inf
    assert passes.largest(z, labels) == 1
    assert labels[0] == 1


def test_mark_correct():
    z = np.array([[1.0, 3.0], [5.0, 5.0], [0.0, -1.0], [np.nan, 1.0]])
    labels, targets = np.array([1, 0, 1, 1]), np.array([[0.2, 0.8], [0.5, 0.5], [0, 1.0], [0, 1.0]])
    weight = np.array([0.5, 2.0, 7.0, 9.0])
    for row_weight, expected in ((np.empty(0), [1, 1, 0, 0]), (weight, [0.5, 2, 0, 0])):
        for y in ((labels, None), (None, targets)):
            correct = np.full(4, np.nan)
            passes.mark_correct(z, *y, row_weight, correct)
            np.testing.assert_array_equal(correct, expected)


@pytest.mark.parametrize("n_classes", N_CLASSES)
def test_first_of_equal_logits_is_the_answer(n_classes, dtype):
    z = np.random.default_rng(n_classes).integers(-2, 2, (50, n_classes)).astype(dtype)
    for label in range(n_classes):
        correct = np.empty(50)
        passes.mark_correct(z, np.full(50, label), None, np.empty(0), correct)
        np.testing.assert_array_equal(correct, np.argmax(z, axis=1) == label)


@pytest.mark.parametrize("n_classes", N_CLASSES)
def test_first_of_equal_targets_is_the_label(n_classes, dtype):
    targets = np.random.default_rng(n_classes).integers(0, 4, (50, n_classes)).astype(dtype)
    for label in range(n_classes):
        z, correct = np.zeros((50, n_classes), dtype), np.empty(50)
        z[:, label] = 1
        passes.mark_correct(z, None, targets, np.empty(0), correct)
        np.testing.assert_array_equal(correct, np.argmax(targets, axis=1) == label)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", [0, 50, 100])
def test_all_finite(value, where, dtype):
    flat = np.ones(101, dtype)
    assert passes.all_finite(flat)
    assert passes.all_finite(flat[:0])
    flat[where] = value
    assert not passes.all_finite(flat)
