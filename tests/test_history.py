"""What a training brought, as numbers and as a table."""

import re

import pandas

from fastbp.training.history import History


def history_of(n, **values):
    history = History()
    for epoch in range(n):
        history.append({"loss": 1 / (epoch + 1), "accuracy": 0.5, "time": 0.25, **values})
    return history


def test_as_dict_makes_a_frame():
    frame = pandas.DataFrame(history_of(3, val_loss=2.0, val_accuracy=0.75).as_dict())
    assert [*frame] == ["loss", "accuracy", "time", "val_loss", "val_accuracy"]
    assert frame["loss"].tolist() == [1, 1 / 2, 1 / 3]
    assert [*history_of(1).as_dict()] == ["loss", "accuracy", "time"]


def test_as_dict_is_a_copy():
    history = history_of(1)
    history.as_dict()["loss"].append(7)
    assert history.loss == [1]


def test_repr_names_the_last_epoch():
    assert repr(History()) == "<History of 0 epochs, 0 s>"
    assert repr(history_of(1)) == "<History of 1 epoch, 0.25 s: loss 1, accuracy 0.5>"
    expected = "<History of 3 epochs, 0.75 s: loss 0.3333, accuracy 0.5, val_loss 2>"
    assert repr(history_of(3, val_loss=2.0)) == expected


def test_table_shows_the_first_and_the_last_epochs():
    for n, shown in (
        (0, []),
        (2, [1, 2]),
        (10, [*range(1, 11)]),
        (30, [1, 2, 3, 4, 5, *range(26, 31)]),
    ):
        html = history_of(n)._repr_html_()
        assert re.findall(r"<tr><td>(\d+)</td>", html) == [str(epoch) for epoch in shown]
        assert ("&hellip;" in html) == (n > 10)
    assert "<td>30</td><td>0.03333</td><td>0.5</td><td>0.25</td>" in html
