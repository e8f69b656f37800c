"""Pictures: what is drawn, and that it is drawn where it is asked for."""

import sys

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot
from sklearn.datasets import load_digits

import fastbp
from fastbp import Network
from fastbp.display import SamplesDisplay, TrainingCurveDisplay, WeightsDisplay
from fastbp.training.history import History

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    pyplot.close("all")


CURVES = {"loss": [3, 2, 1, 1.5], "accuracy": [0.1, 0.5, 0.75, 1], "time": [1, 1, 1, 1]}
VALIDATION = {"val_loss": [3, 1.5, 1.75, 2], "val_accuracy": [0, 0.5, 0.5, 0.25]}


def lines_of(axis):
    return {line.get_label(): list(line.get_ydata()) for line in axis.lines}


def test_curves_of_a_history():
    display = TrainingCurveDisplay.from_history(History(**CURVES, **VALIDATION))
    loss, accuracy = display.ax_
    assert lines_of(loss)["training"] == CURVES["loss"]
    assert lines_of(loss)["validation"] == VALIDATION["val_loss"]
    assert lines_of(accuracy)["training"] == CURVES["accuracy"]
    assert lines_of(accuracy)["validation"] == VALIDATION["val_accuracy"]
    assert [*loss.lines[0].get_xdata()] == [1, 2, 3, 4]
    assert display.best_epoch_ == 2
    for axis in display.ax_:
        assert axis.lines[-1].get_xdata()[0] == 2  # the mark
        assert axis.get_xlabel() == "epoch"
    assert TrainingCurveDisplay.from_history(History(**CURVES)).best_epoch_ == 3


@pytest.mark.compiled
@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize("early_stopping", [False, True])
def test_curves_of_a_classifier(early_stopping):
    X, y = load_digits(return_X_y=True)
    classifier = fastbp.MLPClassifier((5,), max_iter=4, early_stopping=early_stopping).fit(X, y)
    display = TrainingCurveDisplay.from_estimator(classifier)
    assert len(display.ax_) == 1 + early_stopping
    assert lines_of(display.ax_[0])["training"] == classifier.loss_curve_
    if early_stopping:
        assert lines_of(display.ax_[0])["validation"] == classifier.validation_loss_curve_
        assert lines_of(display.ax_[1])["validation"] == classifier.validation_scores_


def test_curves_go_to_given_axes():
    figure, axes = pyplot.subplots(ncols=2)
    display = TrainingCurveDisplay.from_history(History(**CURVES), ax=axes, linewidth=3)
    assert display.figure_ is figure
    assert [*display.ax_] == [*axes]
    assert axes[0].lines[0].get_linewidth() == 3
    with pytest.raises(ValueError, match="ax must hold 2 axes, got 1"):
        display.plot(ax=axes[0])


def test_weights_in_the_order_of_their_norms():
    net = Network([6, 5, 2])
    display = WeightsDisplay.from_network(net, (2, 3), n_units=3)
    norms = np.linalg.norm(net.weights[0], axis=0)
    assert display.units_.tolist() == np.argsort(-norms)[:3].tolist()
    for axis, unit in zip(display.ax_, display.units_, strict=True):
        image = axis.images[0]
        np.testing.assert_array_equal(image.get_array(), net.weights[0][:, unit].reshape(2, 3))
        low, high = image.get_clim()
        assert low == -high
        assert axis.get_title() == f"unit {unit}"


def test_samples_begin_with_the_surest_mistake():
    images, labels = np.arange(20.0).reshape(5, 2, 2), np.array([0, 1, 0, 1, 0])
    predictions, surest = np.array([0, 0, 1, 1, 1]), np.array([0.9, 0.6, 0.99, 0.7, 0.8])
    display = SamplesDisplay(images, labels, predictions, surest).plot()
    assert display.samples_.tolist() == [2, 4, 1, 3, 0]
    assert display.ax_[0].get_title() == "0, taken for 1\n99.0%"
    assert display.ax_[-1].get_title() == "0\n90.0%"
    np.testing.assert_array_equal(display.ax_[0].images[0].get_array(), images[2])
    assert len(display.plot(n_samples=2).ax_) == 2


def test_samples_of_a_network():
    net, X, y = Network([4, 3, 2]), np.eye(4), [0, 1, 0, 1]
    display = SamplesDisplay.from_network(net, X, y, (2, 2))
    wrong = np.flatnonzero(net.predict(X) != y)
    assert set(display.samples_[: len(wrong)]) == set(wrong)
    np.testing.assert_allclose(display.probabilities, net.predict_proba(X).max(axis=1))


@pytest.mark.parametrize(
    ("draw", "error", "message"),
    [
        (lambda: TrainingCurveDisplay({}), ValueError, "curves must hold the loss of an epoch"),
        (lambda: TrainingCurveDisplay.from_history({}), TypeError, "must be a History, got dict"),
        (lambda: TrainingCurveDisplay.from_history(History()), ValueError, "loss of an epoch"),
        (lambda: TrainingCurveDisplay.from_estimator(3), TypeError, "a fitted MLPClassifier, got"),
        (lambda: WeightsDisplay(np.ones((2, 2))), ValueError, r"got \(2, 2\)"),
        (
            lambda: WeightsDisplay.from_network(Network([6, 2]), (2, 2)),
            ValueError,
            r"shape must be of 6 features, got \(2, 2\)",
        ),
        (
            lambda: SamplesDisplay.from_network(Network([6, 2]), np.ones((1, 6)), [0], (2, 2)),
            ValueError,
            r"shape must be of the features of X, \(1, 6\), got \(2, 2\)",
        ),
        (
            lambda: SamplesDisplay(np.ones((2, 1, 1)), [0], [0, 0], [1, 1]),
            ValueError,
            r"labels must have shape \(2,\), got \(1,\)",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw, error, message):
    with pytest.raises(error, match=message):
        draw()


def test_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"matplotlib, which 'pip install fastbp\[plot\]' instal"):
        TrainingCurveDisplay.from_history(History(**CURVES))


def test_images_go_to_given_axes():
    figure, axes = pyplot.subplots(2, 2)
    weights = WeightsDisplay(np.ones((3, 2, 2))).plot(ax=axes, n_units=16)
    assert weights.figure_ is figure
    assert [*weights.ax_] == [*axes.flat[:3]]
    samples = SamplesDisplay(np.ones((9, 2, 2)), np.ones(9), np.zeros(9), np.linspace(0, 1, 9))
    assert samples.plot(ax=axes).samples_.tolist() == [8, 7, 6, 5]
    assert [len(axis.images) for axis in axes.flat] == [2, 2, 2, 1]
