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


@pytest.mark.parametrize("piece", [1, 7, 50, 99, 100, 101, 1000])
def test_shuffled_in_pieces(piece, monkeypatch):
    monkeypatch.setattr(random, "PIECE", piece)
    order = np.full(100, -1)
    random.shuffle(5, 2, order)
    assert order.tolist() == fisher_yates(random.random_words(5, 2, 100))


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_rows(n):
    order = np.full(n, -1)
    random.shuffle(5, 2, order)
    assert sorted(order.tolist()) == list(range(n))
