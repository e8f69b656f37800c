"""Network: hidden layers, a softmax output, cross-entropy, mini-batch gradient descent."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from fastbp import _layout, _threads, backprop, kernels
from fastbp._checks import (
    as_choice,
    as_float_array,
    as_float_dtype,
    as_int,
    as_labels,
    as_positive_int,
    as_real,
    as_row_weight,
    as_targets,
)
from fastbp._training import SLICE, DivergenceError, History, Progress, Run
from fastbp.kernels.activation import ACTIVATIONS
from fastbp.optimizers import SGD, Adam

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike, NDArray

    Array = NDArray[Any]
    Callback = Callable[["Network", int, dict[str, float]], object]

# Rows that go through the layers together when predicting: enough to keep the weights in cache.
_BLOCK = 256

# Another thread takes part in a prediction for each so many multiply-adds.
_PER_THREAD = 10_000_000

# How much wider the first weights are in a layer that reads units of this activation.
_GAIN = {"identity": 1.0, "sigmoid": 4.0, "tanh": 1.0, "relu": 2.0**0.5}


class Network:
    """A fully connected network that classifies: hidden layers and a softmax output.

    Layer l computes ``z^l = a^(l-1) W^l + b^l``; hidden layers then apply their activation, the
    sigmoid ``a = 1/(1 + e^-z)`` if nothing else is said, the last layer the softmax
    ``a_i = e^(z_i) / sum_j e^(z_j)``.  Training minimises the cross-entropy
    ``C = -(1/n) sum_x sum_i y_i ln a_i`` by backpropagation and mini-batch gradient descent.

    Parameters
    ----------
    layer_sizes : sequence of int
        Units per layer, from the number of features to the number of classes; ``[64, 10]`` has no
        hidden layer and is multinomial logistic regression.
    activation : {"sigmoid", "tanh", "relu", "identity"}
        What the hidden layers apply.
    dtype : {"float32", "float64"}
        Type of the parameters and of all computation.
    seed : int or None
        From 0 to 2^64 - 1; decides the first weights and the order of the rows in each epoch, on
        every machine and with every version of NumPy.  None draws one and keeps it as ``seed``.

    Attributes
    ----------
    layer_sizes : tuple of int
    activation : str
    dtype : numpy.dtype
    seed : int

    Raises
    ------
    TypeError
        If a layer size or the seed is no integer.
    ValueError
        If there are fewer than two layers, a size below 1, an activation or a dtype that is none
        of the above, or a seed out of range.

    Notes
    -----
    Biases start at 0; weights are uniform in ``±r sqrt(6 / (fan_in + fan_out))`` [1]_ with r = 1
    in the first layer and r = 4 in every layer that reads sigmoid units, whose slope at 0 is 1/4:
    4 undoes the shrinking of what passes forward through such a layer and of the error that
    passes back.  On the 8 x 8 digits with three hidden layers, training then starts in the first
    epoch, where r = 1 everywhere stands still for about ten; r = 4 in the first layer as well
    saturates units on standardised features and costs about 1 % of accuracy.  Layers that read
    relu have r = sqrt(2) [2]_, for half of those units are 0; all others r = 1.

    Random numbers are the raw 64-bit words of Philox with the key (seed, 0) for the weights and
    (seed, e) for the order of the rows in epoch e = 1, 2, ...: NumPy promises these words, but not
    the streams of its ``Generator``, to be the same in all versions.

    References
    ----------
    .. [1] X. Glorot and Y. Bengio, "Understanding the difficulty of training deep feedforward
       neural networks", AISTATS 2010.
    .. [2] K. He, X. Zhang, S. Ren and J. Sun, "Delving deep into rectifiers", ICCV 2015.

    Examples
    --------
    The exclusive or, which no network without a hidden layer can learn:

    >>> import fastbp
    >>> X = [[0, 0], [0, 1], [1, 0], [1, 1]]
    >>> y = [0, 1, 1, 0]
    >>> net = fastbp.Network([2, 4, 2], seed=0)
    >>> history = net.fit(X, y, epochs=500, batch_size=4, learning_rate=0.5)
    >>> net.predict(X)
    array([0, 1, 1, 0])
    >>> history.loss[0] > 0.5, history.loss[-1] < 0.01
    (True, True)
    >>> net
    <Network 2-4-2 float32, seed 0: 22 parameters, 500 epochs trained>
    """

    def __init__(
        self,
        layer_sizes: Sequence[int],
        *,
        activation: str = "sigmoid",
        dtype: DTypeLike = "float32",
        seed: int | None = 0,
    ) -> None:
        self.layer_sizes = _as_layer_sizes(layer_sizes)
        self.activation = as_choice(activation, "activation", ACTIVATIONS)
        self.dtype = as_float_dtype(dtype)
        self.seed = secrets.randbits(64) if seed is None else _as_seed(seed)
        self._allocate()
        self.reset()

    def _allocate(self) -> None:
        self._plan = _layout.make_plan(self.layer_sizes, self.activation)
        parameters, velocity = _layout.make_parameters(self._plan, self.dtype)
        self._parameters = parameters
        self._memory = _layout.Memory(velocity, np.empty(0, self.dtype), np.zeros(1, np.int64))
        self._weights = _layout.weight_views(self._plan, parameters)
        self._biases = _layout.bias_views(self._plan, parameters)

    def reset(self) -> None:
        """Start over: the first weights of the seed, no velocity, epoch 0.

        Examples
        --------
        >>> import fastbp
        >>> net = fastbp.Network([2, 2], seed=0)
        >>> first = net.parameters.copy()
        >>> _ = net.fit([[0, 1], [1, 0]], [0, 1], epochs=3)
        >>> net.reset()
        >>> bool((net.parameters == first).all()), net.epoch
        (True, 0)
        """
        words = _random_words(self.seed, 0, self._plan.n_weights)
        uniform = (words >> np.uint64(11)) * 2.0**-52 - 1  # 53 bits in [-1, 1)
        for layer, w in enumerate(_layout.weight_views(self._plan, uniform)):
            gain = _GAIN[self.activation] if layer > 0 else 1.0
            bound = gain * np.sqrt(6.0 / sum(w.shape))
            self._weights[layer][:] = bound * w
            self._biases[layer][:] = 0
        _layout.forget(self._memory)
        self._epoch = 0

    def forget(self) -> None:
        """Forget the velocity, or Adam's moments and steps; keep the parameters and the epoch.

        For instance before training goes on with other data.
        """
        _layout.forget(self._memory)

    def __getstate__(self) -> dict[str, Any]:
        """Return what makes the network up, without its views: these must share one vector."""
        return {
            "layer_sizes": self.layer_sizes,
            "activation": self.activation,
            "dtype": self.dtype.name,
            "seed": self.seed,
            "epoch": self._epoch,
            "parameters": self._parameters.copy(),
            "velocity": self._memory.velocity.copy(),
            "second_moment": self._memory.second.copy(),
            "n_steps": int(self._memory.n_steps[0]),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Rebuild the views around the flat vectors of ``state``."""
        self.layer_sizes = state["layer_sizes"]
        self.activation = state["activation"]
        self.dtype = as_float_dtype(state["dtype"])
        self.seed = state["seed"]
        self._epoch = state["epoch"]
        self._allocate()
        self._parameters[:] = state["parameters"]
        if len(state["second_moment"]):
            self._make_room_for_adam()
        self._memory.velocity[:] = state["velocity"]
        self._memory.second[:] = state["second_moment"]
        self._memory.n_steps[0] = state["n_steps"]

    def __repr__(self) -> str:
        """Name the layers, the dtype, the seed and the state of training."""
        sizes = "-".join(map(str, self.layer_sizes))
        kind = "" if self.activation == "sigmoid" else f" {self.activation}"
        epochs = f"{self._epoch} epoch{'' if self._epoch == 1 else 's'} trained"
        return (
            f"<Network {sizes}{kind} {self.dtype.name}, seed {self.seed}: "
            f"{self._parameters.size} parameters, {epochs}>"
        )

    @property
    def parameters(self) -> Array:
        """All weights, layer by layer, then all biases, as one vector; write to it in place.

        Assigning copies: ``net.parameters = other.parameters`` leaves two networks with two
        vectors.
        """
        return self._parameters

    @parameters.setter
    def parameters(self, values: ArrayLike) -> None:
        self._parameters[:] = self._flat(values, "parameters")

    @property
    def velocity(self) -> Array:
        """The momentum's memory v, laid out as ``parameters``; see `forget`.

        After training with `Adam` it is the first moment, and ``second_moment`` the second.
        """
        return self._memory.velocity

    @velocity.setter
    def velocity(self, values: ArrayLike) -> None:
        self._memory.velocity[:] = self._flat(values, "velocity")

    @property
    def second_moment(self) -> Array:
        """Adam's second moment, laid out as ``parameters``; empty if Adam was not the last."""
        return self._memory.second

    @property
    def weights(self) -> tuple[Array, ...]:
        """W of each layer, shape (fan_in, fan_out): views of ``parameters``.

        Set weights in place, as in ``net.weights[0][:] = w``; every method sees them at once.
        (A tuple, so that ``net.weights[0] = w``, which could have no effect, is an error.)
        """
        return self._weights

    @property
    def biases(self) -> tuple[Array, ...]:
        """b of each layer, shape (fan_out,): views of ``parameters``, to be set in place."""
        return self._biases

    @property
    def plan(self) -> _layout.Plan:
        """Where everything lies in ``parameters``."""
        return self._plan

    @property
    def epoch(self) -> int:
        """Number of epochs trained since the start, over all calls to ``fit``."""
        return self._epoch

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        epochs: int = 10,
        batch_size: int = 32,
        learning_rate: float | None = None,
        momentum: float | None = None,
        optimizer: SGD | Adam | None = None,
        l2: float = 0.0,
        sample_weight: ArrayLike | None = None,
        validation_data: tuple[ArrayLike, ArrayLike] | None = None,
        shuffle: bool = True,
        n_threads: int | None = None,
        progress: bool = False,
        callback: Callback | None = None,
    ) -> History:
        """Train by mini-batch gradient descent; go on where the last call ended.

        Per mini-batch, with g the gradient of its mean cross-entropy (see `gradients`)::

            v     <- momentum * v - learning_rate * (g + l2 * W)     (biases: without l2 * W)
            theta <- theta + v

        or what ``optimizer`` makes of g + l2 * W.

        Parameters
        ----------
        X : array_like of shape (n, n_features)
            Finite numbers; converted once to the network's dtype, not copied if already right.
        y : array_like of shape (n,) or (n, n_classes)
            Labels (integers from 0 on), or rows of probabilities, such as one-hot rows.
        epochs : int
            Passes over the data.
        batch_size : int
            Rows per step.  The last batch of an epoch holds what is left, and is a mean over that.
        learning_rate : float, optional
            Above 0; by default 0.1.
        momentum : float, optional
            At least 0 and below 1; by default 0.9.
        optimizer : SGD or Adam, optional
            In place of ``learning_rate`` and ``momentum``: Nesterov's momentum, Adam or AdamW.
        l2 : float
            Strength of the penalty ``0.5 * l2 * ||W||^2`` on the weights (not on the biases).
        sample_weight : array_like of shape (n,), optional
            Weights of the rows, not negative.  A batch's gradient is the weighted mean
            ``sum w_i g_i / sum w_i``; a batch of which all weights are zero contributes none.
        validation_data : (X, y), optional
            Data to find the loss and accuracy of after each epoch.
        shuffle : bool
            Take the rows in another order in each epoch, which depends on the seed and on the
            number of the epoch alone; False takes them as they come.
        n_threads : int, optional
            Threads to compute with, at most; small steps use fewer.  By default as many as this
            process may use: its processors and its share of them (affinity, control groups), or
            less if ``FASTBP_NUM_THREADS``, ``NUMBA_NUM_THREADS`` or ``OMP_NUM_THREADS`` say so.
            The result is the same, to the last bit, for any number.
        progress : bool
            Show a tqdm bar if tqdm is installed, a line per epoch on stderr otherwise.
        callback : callable, optional
            Called after each epoch as ``callback(network, epoch, entry)``, where ``epoch`` is
            ``network.epoch`` and ``entry`` a dict of the epoch's values, named as in `History`.
            If it returns something true, training stops.

        Returns
        -------
        History
            Loss, accuracy and time of each epoch of this call.

        Raises
        ------
        TypeError
            If an argument is of the wrong type or dtype.
        ValueError
            If shapes disagree, a label or a number is out of range, X or the parameters are not
            finite, or there are no rows.  Nothing has been changed then.
        DivergenceError
            If the loss or a parameter becomes infinite or NaN.  The parameters are those after
            the last finished epoch then, all finite, and the velocity is zero.

        Notes
        -----
        The result depends on the data, the arguments and the seed alone: the same bits in every
        run.  ``fit(epochs=2)`` followed by ``fit(epochs=3)`` equals ``fit(epochs=5)``: velocity
        and epoch number are kept, and with Adam both moments and the number of steps.  A change
        between Adam and SGD forgets them, for neither can use the other's.  `reset` starts over;
        `forget` only forgets the momentum.

        Ctrl-C (KeyboardInterrupt) takes effect within a fraction of a second, between two steps.
        The parameters are those after the last step, and the interrupted epoch does not count.

        Examples
        --------
        Stop when the training loss is small enough:

        >>> import fastbp
        >>> net = fastbp.Network([2, 4, 2], seed=0)
        >>> X, y = [[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0]
        >>> small = lambda network, epoch, entry: entry["loss"] < 0.1
        >>> history = net.fit(X, y, epochs=1000, learning_rate=0.5, callback=small)
        >>> len(history) < 1000, history.loss[-1] < 0.1
        (True, True)
        """
        epochs = as_positive_int(epochs, "epochs")
        batch_size = as_positive_int(batch_size, "batch_size")
        update = _as_optimizer(optimizer, learning_rate, momentum).update(
            as_real(l2, "l2", low=0.0)
        )
        if n_threads is not None:
            n_threads = as_positive_int(n_threads, "n_threads")
        if callback is not None and not callable(callback):
            raise TypeError(f"callback must be callable or None, got {callback!r}")
        data = self._data(X, y, sample_weight)
        n = len(data.x)
        bad = _first_not_finite(data.x)
        if bad is not None:
            raise ValueError(f"X must be finite, got {data.x[bad]} in row {bad[0]}")
        validation = None if validation_data is None else self._validation(validation_data)
        if not backprop.all_finite(self._parameters):
            raise ValueError("parameters must be finite, got some that are infinite or NaN")

        run = self.run(data, update, batch_size, n_threads)
        history = History()
        with Progress(progress, self._epoch, epochs, run.n_steps) as shown:
            for _ in range(epochs):
                if shuffle:
                    backprop.shuffle(_random_words(self.seed, self._epoch + 1, n), run.order)
                started = time.perf_counter()
                try:
                    totals = run.epoch(self._epoch + 1, update, shown)
                except DivergenceError as error:
                    error.history = history
                    raise
                seconds = time.perf_counter() - started
                self._epoch += 1
                entry = {
                    "loss": float(totals[0] / totals[2]),
                    "accuracy": float(totals[1] / totals[2]),
                    "time": seconds,
                }
                if validation is not None:
                    z = self._logits(validation.x, n_threads)
                    entry["val_loss"] = mean_loss(z, validation)
                    entry["val_accuracy"] = accuracy(z, validation)
                history.append(entry)
                shown.epoch(self._epoch, entry)
                if callback is not None and callback(self, self._epoch, entry):
                    break
        return history

    def run(
        self,
        data: _layout.Data,
        update: _layout.Update,
        batch_size: int,
        n_threads: int | None,
        with_penalty: bool = False,
    ) -> Run:
        """Begin training on checked data, for `fit` and the estimator.

        What updates of another kind have left in the memory is forgotten.
        """
        smallest = np.finfo(self.dtype).tiny
        if update.is_adam and update.epsilon < smallest:
            raise ValueError(
                f"epsilon must be at least {smallest:.3g}, to be above 0 in {self.dtype.name}, "
                f"got {update.epsilon}"
            )
        if update.is_adam != bool(self._memory.second.size):
            _layout.forget(self._memory)
            if update.is_adam:
                self._make_room_for_adam()
            else:
                self._memory = self._memory._replace(second=np.empty(0, self.dtype))
        return Run(
            *(self._plan, data, self._parameters, self._memory),
            *(batch_size, n_threads, with_penalty),
        )

    def _make_room_for_adam(self) -> None:
        second = _layout.make_second_moment(self._plan, self.dtype)
        self._memory = self._memory._replace(second=second)

    def logits(self, X: ArrayLike, *, n_threads: int | None = None) -> Array:
        """Return the weighted inputs of the output layer, ``z^L``.

        Parameters
        ----------
        X : array_like of shape (n, n_features)
        n_threads : int, optional
            As in `fit`; it has no influence on the result.

        Returns
        -------
        ndarray of shape (n, n_classes)
            In the network's dtype.  A row does not depend on the others in the call, not by a bit.

        Raises
        ------
        TypeError, ValueError
            As `predict`, but infinite and NaN logits are returned.
        """
        return self._logits(self._rows(X, "X"), n_threads)

    def predict(self, X: ArrayLike, *, n_threads: int | None = None) -> NDArray[np.intp]:
        """Return the most probable class of each row, the first of equals.

        Parameters
        ----------
        X : array_like of shape (n, n_features)
        n_threads : int, optional
            As in `fit`; it has no influence on the result.

        Returns
        -------
        ndarray of intp, shape (n,)

        Raises
        ------
        TypeError
            If ``X`` is of a dtype that `fit` would refuse.
        ValueError
            If ``X`` has another number of features, or if a row gives infinite or NaN logits.
        """
        z = self._logits(self._rows(X, "X"), n_threads)
        labels = np.empty(len(z), np.intp)
        bad = backprop.largest(z, labels)
        if bad >= 0:
            raise ValueError(f"X must give finite logits, got {z[bad].tolist()} in row {bad}")
        return labels

    def predict_proba(self, X: ArrayLike, *, n_threads: int | None = None) -> Array:
        """Return the probabilities of the classes, ``softmax(z^L)``.

        Parameters
        ----------
        X : array_like of shape (n, n_features)
        n_threads : int, optional
            As in `fit`; it has no influence on the result.

        Returns
        -------
        ndarray of shape (n, n_classes)
            In the network's dtype.  A row does not depend on the others in the call, not by a
            bit; a row that holds NaN gives NaN.

        Raises
        ------
        TypeError, ValueError
            As `predict`, but infinite and NaN logits give NaN.
        """
        z = self._logits(self._rows(X, "X"), n_threads)
        kernels.softmax(z, z)
        return z

    def predict_log_proba(self, X: ArrayLike, *, n_threads: int | None = None) -> Array:
        """Return the logarithms of the probabilities, exact also where these round to 0 or 1.

        Parameters
        ----------
        X : array_like of shape (n, n_features)
        n_threads : int, optional
            As in `fit`; it has no influence on the result.

        Returns
        -------
        ndarray of shape (n, n_classes)

        Raises
        ------
        TypeError, ValueError
            As `predict_proba`.
        """
        z = self._logits(self._rows(X, "X"), n_threads)
        kernels.log_softmax(z, z)
        return z

    def loss(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        n_threads: int | None = None,
    ) -> float:
        """Return the mean cross-entropy, ``-(1/n) sum_x sum_i y_i ln a_i``, without L2 penalty.

        Parameters
        ----------
        X, y, sample_weight, n_threads
            As in `fit`; the mean is weighted.

        Returns
        -------
        float

        Raises
        ------
        TypeError, ValueError
            As `fit`, but rows of ``X`` that are not finite give a loss that is not.
        """
        data = self._data(X, y, sample_weight)
        return mean_loss(self._logits(data.x, n_threads), data)

    def score(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        n_threads: int | None = None,
    ) -> float:
        """Return the fraction of rows whose most probable class is the label.

        Parameters
        ----------
        X, y, sample_weight, n_threads
            As in `fit`; the mean is weighted.  Of a row of probabilities, the largest counts.

        Returns
        -------
        float

        Raises
        ------
        TypeError, ValueError
            As `loss`.
        """
        data = self._data(X, y, sample_weight)
        return accuracy(self._logits(data.x, n_threads), data)

    def gradients(
        self, X: ArrayLike, y: ArrayLike, *, sample_weight: ArrayLike | None = None
    ) -> tuple[float, list[Array], list[Array]]:
        """Return the mean cross-entropy and its gradient with respect to weights and biases.

        Backpropagation over all rows as one batch::

            BP1  delta^L   = a^L - y
            BP2  delta^l   = (delta^(l+1) W^(l+1)T) * a^l (1 - a^l)
            BP3  dC/db^l   = mean over the rows of delta^l
            BP4  dC/dW^l   = a^(l-1)T delta^l / n

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`; means are weighted.  Memory for the activations of all rows is needed.

        Returns
        -------
        loss : float
        grad_w : list of ndarray
            Shaped as ``weights``.
        grad_b : list of ndarray
            Shaped as ``biases``.

        Raises
        ------
        TypeError, ValueError
            As `loss`.

        Examples
        --------
        >>> import fastbp
        >>> net = fastbp.Network([2, 2], seed=0)
        >>> net.parameters[:] = 0
        >>> loss, grad_w, grad_b = net.gradients([[1, 0], [0, 3]], [0, 1])
        >>> grad_w[0]
        array([[-0.25,  0.25],
               [ 0.75, -0.75]], dtype=float32)
        """
        data = self._data(X, y, sample_weight)
        n = len(data.x)
        work = _layout.make_workspace(self._plan, data, n)
        grad = np.empty_like(self._parameters)
        order = np.arange(n, dtype=np.intp)
        loss = float(backprop.gradient(self._plan.table, data, order, self._parameters, work, grad))
        return (
            loss,
            list(_layout.weight_views(self._plan, grad)),
            list(_layout.bias_views(self._plan, grad)),
        )

    def _flat(self, values: ArrayLike, name: str) -> Array:
        array = as_float_array(values, name, dtype=self.dtype, ndim=1)
        if array.shape != self._parameters.shape:
            raise ValueError(f"{name} must have shape {self._parameters.shape}, got {array.shape}")
        return array

    def _rows(self, X: ArrayLike, name: str) -> Array:
        x = as_float_array(X, name, dtype=self.dtype, ndim=2)
        if x.shape[1] != self.layer_sizes[0]:
            raise ValueError(
                f"{name} must have {self.layer_sizes[0]} columns, one per unit of the first "
                f"layer, got shape {x.shape}"
            )
        return x

    def _data(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        names: tuple[str, str] = ("X", "y"),
    ) -> _layout.Data:
        """Check what is to be learnt from, or to be compared with."""
        x = self._rows(X, names[0])
        if len(x) == 0:
            raise ValueError(f"{names[0]} must have at least one row, got shape {x.shape}")
        labels = targets = None
        n_classes = self.layer_sizes[-1]
        if _ndim(y) == 2:
            targets = as_targets(y, (len(x), n_classes), self.dtype, names[1])
        else:
            labels = as_labels(y, len(x), n_classes, names[1])
        row_weight = as_row_weight(sample_weight, len(x), "sample_weight")
        return _layout.make_data(x, labels, targets, row_weight)

    def _validation(self, validation_data: tuple[ArrayLike, ArrayLike]) -> _layout.Data:
        if not isinstance(validation_data, tuple | list):
            kind = type(validation_data).__name__
            raise TypeError(f"validation_data must be a pair (X, y), got {kind}")
        if len(validation_data) != 2:
            raise ValueError(
                f"validation_data must be a pair (X, y), got {len(validation_data)} items"
            )
        return self._data(*validation_data, names=("validation_data[0]", "validation_data[1]"))

    def _logits(self, x: Array, n_threads: int | None) -> Array:
        n = len(x)
        z = np.empty((n, self.layer_sizes[-1]), self.dtype)
        if n_threads is not None:
            n_threads = as_positive_int(n_threads, "n_threads")
        if n <= _BLOCK:
            self._pass_forward(x, z, 0, n, _layout.make_board(1))
            return z
        cost = _layout.multiply_adds(self._plan, 1, passes=1)
        useful = min(1 + n * cost // _PER_THREAD, -(-n // _BLOCK))
        n_threads = min(n_threads or _threads.default_threads(), useful)
        step = max(1, SLICE * n_threads // (_BLOCK * cost)) * _BLOCK
        for first in range(0, n, step):
            rows = (first, min(first + step, n))
            work = partial(self._pass_forward, x, z, *rows, _layout.make_board(1))
            _threads.run(n_threads, work)
        return z

    def _pass_forward(self, x: Array, z: Array, first: int, last: int, board: Array) -> None:
        """Write the logits of some rows, together with whoever else calls this with the board."""
        capacity = min(_BLOCK, len(x))
        hidden = np.empty(capacity * self._plan.n_hidden, self.dtype)
        backprop.logits(
            self._plan.table, self._parameters, x, hidden, capacity, board, z, first, last
        )


def _as_layer_sizes(layer_sizes: Sequence[int]) -> tuple[int, ...]:
    if isinstance(layer_sizes, str) or not hasattr(layer_sizes, "__iter__"):
        raise TypeError(f"layer_sizes must be a sequence of integers, got {layer_sizes!r}")
    sizes = tuple(as_positive_int(n, f"layer_sizes[{q}]") for q, n in enumerate(layer_sizes))
    if len(sizes) < 2:
        raise ValueError(f"layer_sizes must hold at least 2 sizes, got {layer_sizes!r}")
    return sizes


def _as_optimizer(
    optimizer: SGD | Adam | None, learning_rate: float | None, momentum: float | None
) -> SGD | Adam:
    if optimizer is None:
        rate = 0.1 if learning_rate is None else learning_rate
        mu = 0.9 if momentum is None else as_real(momentum, "momentum", 0.0, 1.0, closed="left")
        return SGD(rate, mu)
    if not isinstance(optimizer, SGD | Adam):
        raise TypeError(f"optimizer must be an SGD, an Adam or None, got {optimizer!r}")
    for name, value in (("learning_rate", learning_rate), ("momentum", momentum)):
        if value is not None:
            raise ValueError(
                f"{name} must be given to the optimizer or without one, got {value!r} and "
                f"{optimizer!r}"
            )
    return optimizer


def _as_seed(seed: int) -> int:
    number = as_int(seed, "seed", 0)
    if number >= 2**64:
        raise ValueError(f"seed must be an integer below 2**64, got {seed!r}")
    return number


def _random_words(seed: int, stream: int, n: int) -> NDArray[np.uint64]:
    return np.random.Philox(key=np.array([seed, stream], np.uint64)).random_raw(n)


def _ndim(y: ArrayLike) -> int:
    try:
        return np.ndim(y)
    except ValueError:
        return 1  # ragged: the check of labels says so


def _first_not_finite(x: Array) -> tuple[int, int] | None:
    if backprop.all_finite(x.reshape(-1)):
        return None
    row, column = np.argwhere(~np.isfinite(x))[0].tolist()
    return row, column


def mean_loss(z: Array, data: _layout.Data) -> float:
    loss = np.empty(len(z), z.dtype)
    if data.labels.size:
        kernels.cross_entropy(z, data.labels, data.row_weight, loss)
    else:
        kernels.cross_entropy_targets(z, data.targets, data.row_weight, loss)
    return float(kernels.loss_sum(loss)) / _total_weight(data)


def accuracy(z: Array, data: _layout.Data) -> float:
    correct = np.empty(len(z))
    backprop.mark_correct(z, data.labels, data.targets, data.row_weight, correct)
    return float(kernels.loss_sum(correct)) / _total_weight(data)


def _total_weight(data: _layout.Data) -> float:
    return (
        float(kernels.loss_sum(data.row_weight))
        if data.row_weight.size
        else float(_layout.n_rows(data))
    )
