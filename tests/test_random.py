"""Random words and permutations that are the same everywhere."""

import numpy as np
import pytest

from fastbp.training import random


def test_words_are_those_of_philox():
    """The first ones of NumPy's generator with the key (7, 3), which it promises to keep."""
    words = random.random_words(7, 3, 4)
    assert words.dtype == np.uint64
    assert words.tolist() == np.random.Philox(key=[7, 3]).random_raw(4).tolist()
    assert random.random_words(7, 4, 4).tolist() != words.tolist()
    assert random.random_words(2**64 - 1, 3, 0).size == 0


def fisher_yates(words):
    order = list(range(len(words)))
    for i in range(len(words) - 1, 0, -1):
        j = int(words[i]) % (i + 1)
        order[i], order[j] = order[j], order[i]
    return order


@pytest.mark.parametrize("rows", [1, 7, 50, 99, 100, 101, 1000])
def test_shuffled_in_several_calls(rows, monkeypatch):
    monkeypatch.setattr(random, "ROWS_PER_CALL", rows)
    order = np.full(100, -1)
    random.shuffle(5, 2, order)
    assert order.tolist() == fisher_yates(random.random_words(5, 2, 100))


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_rows(n):
    order = np.full(n, -1)
    random.shuffle(5, 2, order)
    assert sorted(order.tolist()) == list(range(n))


@pytest.mark.parametrize("n", [0, 1, 2, 7, 1000])
def test_shuffle_permutes(n):
    order = np.arange(n)
    random._shuffle(np.random.default_rng(n).integers(0, 2**64, n, np.uint64), order, 0, n)
    np.testing.assert_array_equal(np.sort(order), np.arange(n))
    assert n < 7 or (order != np.arange(n)).any()


def test_shuffle_is_fair():
    counts = {}
    for words in np.random.default_rng(0).integers(0, 2**64, (6000, 3), np.uint64):
        order = np.arange(3)
        random._shuffle(words, order, 0, 3)
        counts[tuple(order)] = counts.get(tuple(order), 0) + 1
    assert len(counts) == 6
    assert all(850 < count < 1150 for count in counts.values())  # 1000 with a deviation of 29
