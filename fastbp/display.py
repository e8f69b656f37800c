"""Pictures of training, weights and mistakes, as scikit-learn's displays are used.

Each display has ``from_…`` methods, which compute and draw, and ``plot``, which draws again.
matplotlib is imported when something is drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np

from fastbp.training.history import History

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[Any]

__all__ = ["SamplesDisplay", "TrainingCurveDisplay", "WeightsDisplay"]

_ROWS = {"label": "training", "color": "C0"}, {"label": "validation", "color": "C1"}


def _figure(ax: Axes | None, **options: Any) -> Any:
    """Return the figure of given axes, or a new one with ``plt.subplots(**options)``."""
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError(
            "pictures need matplotlib, which 'pip install fastbp[plot]' installs"
        ) from error
    if ax is not None:
        return ax.get_figure(), ax
    return pyplot.subplots(**options)


class TrainingCurveDisplay:
    """Loss and accuracy by epoch, of training and of validation rows; the best epoch is marked.

    The best epoch has the smallest validation loss, or training loss where there are no validation
    rows.

    Parameters
    ----------
    curves : dict of list of float
        "loss", and any of "accuracy", "val_loss" and "val_accuracy"; the loss of a classifier
        contains its penalty.

    Attributes
    ----------
    ax_ : ndarray of matplotlib.axes.Axes
        One of the losses, and one of the accuracies if there are any.
    figure_ : matplotlib.figure.Figure
    best_epoch_ : int
        From 1 on.

    Examples
    --------
    >>> import fastbp
    >>> X, y = [[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0]
    >>> history = fastbp.Network([2, 4, 2]).fit(X, y, epochs=50, learning_rate=0.5)
    >>> display = fastbp.display.TrainingCurveDisplay.from_history(history)
    >>> [ax.get_ylabel() for ax in display.ax_]
    ['loss', 'accuracy']
    """

    def __init__(self, curves: dict[str, list[float]]) -> None:
        if not curves.get("loss"):
            raise ValueError(f"curves must hold the loss of an epoch, got {sorted(curves)}")
        self.curves = curves

    @classmethod
    def from_history(cls, history: History, *, ax: Any = None, **kwargs: Any) -> Self:
        """Draw the history of a `Network.fit`.

        Parameters
        ----------
        history : History
            What `Network.fit` returned.
        ax, **kwargs : as in `plot`
            Where and how to draw.

        Returns
        -------
        TrainingCurveDisplay
            The display, drawn.
        """
        if not isinstance(history, History):
            raise TypeError(f"history must be a History, got {type(history).__name__}")
        return cls(history.as_dict()).plot(ax=ax, **kwargs)

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None, **kwargs: Any) -> Self:
        """Draw the curves of a classifier.

        Parameters
        ----------
        estimator : MLPClassifier
            Fitted.
        ax, **kwargs : as in `plot`
            Where and how to draw.

        Returns
        -------
        TrainingCurveDisplay
            The display, drawn.
        """
        if not hasattr(estimator, "loss_curve_"):
            raise TypeError(f"estimator must be a fitted MLPClassifier, got {estimator!r:.80}")
        names = {
            "loss": "loss_curve_",
            "val_loss": "validation_loss_curve_",
            "val_accuracy": "validation_scores_",
        }
        curves = {name: getattr(estimator, attribute, None) for name, attribute in names.items()}
        return cls({name: list(curve) for name, curve in curves.items() if curve}).plot(
            ax=ax, **kwargs
        )

    def plot(self, *, ax: Any = None, **kwargs: Any) -> Self:
        """Draw.

        Parameters
        ----------
        ax : sequence of matplotlib.axes.Axes, optional
            As many as there are kinds of curves: losses, and accuracies if there are any.
        **kwargs : dict
            Of ``Axes.plot``, for all curves.

        Returns
        -------
        TrainingCurveDisplay
            The display, drawn.
        """
        kinds = {"loss": ("loss", "val_loss"), "accuracy": ("accuracy", "val_accuracy")}
        kinds = {label: names for label, names in kinds.items() if any(map(self.curves.get, names))}
        if ax is not None and np.size(ax) != len(kinds):
            raise ValueError(f"ax must hold {len(kinds)} axes, got {np.size(ax)}")
        first = None if ax is None else np.ravel(np.array(ax, object))[0]
        size = {"figsize": (4.8 * len(kinds), 3.6), "layout": "constrained", "squeeze": False}
        self.figure_, axes = _figure(first, ncols=len(kinds), **size)
        self.ax_ = np.ravel(np.array(axes if ax is None else ax, object))
        decisive = self.curves.get("val_loss") or self.curves["loss"]
        self.best_epoch_ = int(np.argmin(decisive)) + 1
        for axis, (label, names) in zip(self.ax_, kinds.items(), strict=True):
            for name, of_rows in zip(names, _ROWS, strict=True):
                if values := self.curves.get(name):
                    options = of_rows | kwargs
                    axis.plot(range(1, len(values) + 1), values, **options)
            axis.axvline(self.best_epoch_, color="0.6", linestyle=":", label="best epoch")
            axis.set(xlabel="epoch", ylabel=label)
            axis.xaxis.get_major_locator().set_params(integer=True)
            axis.legend()
        return self


class WeightsDisplay:
    """First-layer weights as images, on a colour scale with 0 in the middle.

    Units are ordered by the norm of their weights, the largest first.

    Parameters
    ----------
    weights : ndarray of shape (n_units, height, width)
        Of each unit, one for each pixel.

    Attributes
    ----------
    ax_ : ndarray of matplotlib.axes.Axes
    figure_ : matplotlib.figure.Figure
    units_ : ndarray of int
        Numbers of the units that are shown, in their order.

    Examples
    --------
    >>> import fastbp
    >>> net = fastbp.Network([64, 8, 10])
    >>> display = fastbp.display.WeightsDisplay.from_network(net, (8, 8), n_units=4)
    >>> len(display.units_)
    4
    """

    def __init__(self, weights: ArrayLike) -> None:
        self.weights = np.asarray(weights)
        if self.weights.ndim != 3 or not len(self.weights):
            raise ValueError(
                f"weights must have shape (n_units, height, width), got {self.weights.shape}"
            )

    @classmethod
    def from_network(
        cls,
        network: Any,
        shape: tuple[int, int],
        *,
        n_units: int = 16,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the weights of a network's first layer, or of a classifier's.

        Parameters
        ----------
        network : Network or MLPClassifier
            A classifier must be fitted.
        shape : tuple of int
            Height and width of an image; their product is the number of features.
        n_units, ax, **kwargs : as in `plot`
            What, where and how to draw.

        Returns
        -------
        WeightsDisplay
            The display, drawn.
        """
        network = getattr(network, "network_", network)
        w = network.weights[0]
        if len(shape) != 2 or shape[0] * shape[1] != len(w):
            raise ValueError(f"shape must be of {len(w)} features, got {shape}")
        display = cls(w.T.reshape(-1, *shape))
        return display.plot(n_units=n_units, ax=ax, **kwargs)

    from_estimator = from_network

    def plot(self, *, n_units: int = 16, ax: Any = None, **kwargs: Any) -> Self:
        """Draw.

        Parameters
        ----------
        n_units : int
            At most.
        ax : sequence of matplotlib.axes.Axes, optional
            One for each unit, as far as they go.
        **kwargs : dict
            Of ``Axes.imshow``.

        Returns
        -------
        WeightsDisplay
            The display, drawn.
        """
        norms = np.linalg.norm(self.weights, axis=(1, 2))
        order = np.argsort(-norms, kind="stable")
        self.figure_, self.ax_ = _grid(ax, min(n_units, len(order)))
        self.units_ = order[: len(self.ax_)]
        limit = float(abs(self.weights[self.units_]).max()) or 1.0
        options = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit} | kwargs
        for axis, unit in zip(self.ax_, self.units_, strict=True):
            image = axis.imshow(self.weights[unit], **options)
            axis.set_title(f"unit {unit}", fontsize=8)
        self.figure_.colorbar(image, ax=list(self.ax_), shrink=0.7, label="weight")
        return self


class SamplesDisplay:
    """Images with their label, the prediction and its probability: the surest mistakes first.

    Parameters
    ----------
    images : ndarray of shape (n, height, width)
        Shown in shades of grey.
    labels, predictions : ndarray of shape (n,)
        What the images are, and what they are taken for.
    probabilities : ndarray of shape (n,)
        Of the predictions.

    Attributes
    ----------
    ax_ : ndarray of matplotlib.axes.Axes
    figure_ : matplotlib.figure.Figure
    samples_ : ndarray of int
        Numbers of the rows that are shown, in their order.

    Examples
    --------
    >>> import fastbp
    >>> import numpy as np
    >>> net, X = fastbp.Network([4, 3, 2]), np.eye(4)
    >>> display = fastbp.display.SamplesDisplay.from_network(net, X, [0, 1, 0, 1], (2, 2))
    >>> bool((net.predict(X)[display.samples_[0]] != [0, 1, 0, 1][display.samples_[0]]))
    True
    """

    def __init__(
        self,
        images: ArrayLike,
        labels: ArrayLike,
        predictions: ArrayLike,
        probabilities: ArrayLike,
    ) -> None:
        self.images, self.labels = np.asarray(images), np.asarray(labels)
        self.predictions, self.probabilities = np.asarray(predictions), np.asarray(probabilities)
        if self.images.ndim != 3 or not len(self.images):
            raise ValueError(f"images must have shape (n, height, width), got {self.images.shape}")
        for name in ("labels", "predictions", "probabilities"):
            found = getattr(self, name).shape
            if found != self.images.shape[:1]:
                raise ValueError(f"{name} must have shape {self.images.shape[:1]}, got {found}")

    @classmethod
    def from_network(
        cls,
        network: Any,
        X: ArrayLike,
        y: ArrayLike,
        shape: tuple[int, int],
        *,
        n_samples: int = 16,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw rows that a network, or a classifier, takes for another class.

        Parameters
        ----------
        network : Network or MLPClassifier
            A classifier must be fitted.
        X, y : array_like of shape (n, height * width), (n,)
            Rows, and their labels.
        shape : tuple of int
            Height and width of an image.
        n_samples, ax, **kwargs : as in `plot`
            What, where and how to draw.

        Returns
        -------
        SamplesDisplay
            The display, drawn.
        """
        x, labels = np.asarray(X), np.asarray(y)
        if len(shape) != 2 or x.ndim != 2 or shape[0] * shape[1] != x.shape[1]:
            raise ValueError(f"shape must be of the features of X, {x.shape}, got {shape}")
        predictions = network.predict(X)
        surest = network.predict_proba(X).max(axis=1)
        display = cls(x.reshape(-1, *shape), labels, predictions, surest)
        return display.plot(n_samples=n_samples, ax=ax, **kwargs)

    from_estimator = from_network

    def plot(self, *, n_samples: int = 16, ax: Any = None, **kwargs: Any) -> Self:
        """Draw mistakes, the surest first, then right ones, the least sure first.

        Parameters
        ----------
        n_samples : int
            At most.
        ax : sequence of matplotlib.axes.Axes, optional
            One for each sample, as far as they go.
        **kwargs : dict
            Of ``Axes.imshow``.

        Returns
        -------
        SamplesDisplay
            The display, drawn.
        """
        is_right = self.predictions == self.labels
        order = np.where(is_right, 2 + self.probabilities, 1 - self.probabilities)
        self.figure_, self.ax_ = _grid(ax, min(n_samples, len(order)))
        self.samples_ = np.argsort(order, kind="stable")[: len(self.ax_)]
        for axis, i in zip(self.ax_, self.samples_, strict=True):
            axis.imshow(self.images[i], **{"cmap": "gray_r"} | kwargs)
            title = (
                f"{self.labels[i]}, taken for {self.predictions[i]}\n{self.probabilities[i]:.1%}"
            )
            if is_right[i]:
                title = f"{self.labels[i]}\n{self.probabilities[i]:.1%}"
            axis.set_title(title, fontsize=8, color="black" if is_right[i] else "firebrick")
        return self


def _grid(ax: Any, n: int) -> tuple[Figure, Any]:
    """Return n axes without ticks and their figure: of ``ax``, or as many beside as above."""
    if ax is not None:
        axes = np.ravel(np.array(ax, object))[:n]
        figure, _ = _figure(axes[0])
    else:
        columns = int(np.ceil(np.sqrt(n)))
        rows = -(-n // columns)
        size = {"figsize": (1.3 * columns + 0.8, 1.5 * rows), "layout": "constrained"}
        figure, grid = _figure(None, nrows=rows, ncols=columns, squeeze=False, **size)
        axes = grid.ravel()[:n]
        for axis in grid.flat[n:]:
            axis.remove()
    for axis in axes:
        axis.set(xticks=[], yticks=[])
    return figure, axes
