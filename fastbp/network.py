"""Network: hidden layers, a softmax output, cross-entropy, mini-batch gradient descent."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from fastbp import kernels
from fastbp._checks.arrays import as_choice, as_flag, as_float_dtype, as_positive_int, as_real
from fastbp._files import network_file
from fastbp._files.checkpoint import Checkpoint, identity_of
from fastbp.backprop import layout, passes, state, tasks
from fastbp.kernels.activation import ACTIVATIONS
from fastbp.optimizers import SGD, Adam, check_epsilon
from fastbp.training import threads
from fastbp.training.differentiate import Differentiator
from fastbp.training.fit import Fitting
from fastbp.training.inputs import (
    as_data,
    as_flat,
    as_layer_sizes,
    as_optimizer,
    as_rows,
    as_seed,
    as_validation,
    check_checkpoint,
    check_finite,
)
from fastbp.training.predict import accuracy, mean_loss
from fastbp.training.random import random_words
from fastbp.training.run import FIRST_SLICE, DivergenceError, Guard, History, Progress, Run

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike, NDArray

    Array = NDArray[Any]
    Callback = Callable[["Network", int, dict[str, float]], object]
    StrPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]

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
        self.layer_sizes = as_layer_sizes(layer_sizes)
        self.activation = as_choice(activation, "activation", ACTIVATIONS)
        self.dtype = as_float_dtype(dtype)
        self.seed = secrets.randbits(64) if seed is None else as_seed(seed)
        self._allocate()
        self.reset()

    def _allocate(self, with_second: bool = False) -> None:
        self._plan = layout.make_plan(self.layer_sizes, self.activation)
        parameters = state.make_parameters(self._plan, self.dtype)
        self._memory = state.make_optimizer_state(self._plan, self.dtype, with_second)
        self._parameters = parameters
        self._weights = layout.weight_views(self._plan, parameters)
        self._biases = layout.bias_views(self._plan, parameters)
        self._epoch = 0
        self._guard = Guard()
        self._spare: list[tuple[Array, Array]] = []

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
        words = random_words(self.seed, 0, self._plan.n_weights)
        uniform = (words >> np.uint64(11)) * 2.0**-52 - 1  # 53 bits in [-1, 1)
        for layer, w in enumerate(layout.weight_views(self._plan, uniform)):
            gain = _GAIN[self.activation] if layer > 0 else 1.0
            bound = gain * np.sqrt(6.0 / sum(w.shape))
            self._weights[layer][:] = bound * w
            self._biases[layer][:] = 0
        state.forget(self._memory)
        self._epoch = 0

    def forget(self) -> None:
        """Forget the velocity, or Adam's moments and steps; keep the parameters and the epoch.

        For instance before training goes on with other data.
        """
        state.forget(self._memory)

    def __getstate__(self) -> dict[str, Any]:
        """Return what makes the network up, without its views: these must share one vector."""
        facts, parameters, memory = self.copies()
        return {
            **facts._asdict(),
            "dtype": self.dtype.name,
            "parameters": parameters,
            "velocity": self._plain(memory.velocity),
            "second_moment": self._plain(memory.second_moment),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Rebuild the views around the flat vectors of ``state``."""
        self.layer_sizes = state["layer_sizes"]
        self.activation = state["activation"]
        self.dtype = as_float_dtype(state["dtype"])
        self.seed = state["seed"]
        self._allocate(with_second=len(state["second_moment"]) > 0)
        self._epoch = state["epoch"]
        self._parameters[:] = state["parameters"]
        layout.as_panels(self._plan, state["velocity"], self._memory.velocity)
        if self._memory.second_moment is not None:
            layout.as_panels(self._plan, state["second_moment"], self._memory.second_moment)
        self._memory.n_updates[0] = state["n_steps"]

    def _facts(self) -> network_file.Facts:
        return network_file.Facts(
            *(self.layer_sizes, self.activation, self.dtype, self.seed, self._epoch),
            n_steps=int(self._memory.n_updates[0]),
        )

    def copies(self) -> tuple[network_file.Facts, Array, state.OptimizerState]:
        """Return all that it is made of, as it is between two steps; for files."""
        with self._guard.steps():
            parameters = self._guard.newest(self._parameters)
            return self._facts(), parameters, state.copy_of(self._memory)

    def save(self, path: StrPath) -> None:
        """Write the network to a file in the safetensors format.

        The file holds the layers, the parameters (arrays ``weights.0``, ``biases.0``, ...), the
        seed, the number of epochs, and the momentum's memory, so that what `load` returns goes on
        with `fit` as this network would; `forget` before saves the room that the memory takes.

        Parameters
        ----------
        path : path-like
            Of a new file, or of one to be replaced.

        Raises
        ------
        OSError
            If it cannot be written; the old file is as it was then.
        ValueError
            If there are more than about 2500 layers.

        Notes
        -----
        Whatever happens meanwhile, the file is the old one or the new one: a temporary file beside
        it is written, brought to the disk, and then takes its name.  While another thread is
        training the network, the state between two of its steps is saved.

        Examples
        --------
        >>> import os, tempfile
        >>> import fastbp
        >>> net = fastbp.Network([2, 3, 2], seed=1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "net.safetensors")
        ...     net.save(path)
        ...     again = fastbp.Network.load(path)
        >>> again, bool((again.parameters == net.parameters).all())
        (<Network 2-3-2 float32, seed 1: 17 parameters, 0 epochs trained>, True)
        """
        network_file.save(path, "network", *self.copies())

    @classmethod
    def load(cls, path: StrPath) -> Self:
        """Read a network from a file that `save`, `fit` or ``MLPClassifier.save`` has written.

        Of a checkpoint, that is the network at that point of the run.

        Parameters
        ----------
        path : path-like

        Returns
        -------
        Network
            The same to the bit as the one that was saved.

        Raises
        ------
        ModelFileError
            A ValueError: if the file is damaged, of another kind or of a later version.  Nothing
            in a file is executed, and no more memory is taken than the file is long.
        OSError
            If it cannot be read.
        """
        with network_file.opened(path) as file:
            network = cls.of_file(file)
            file.finish()
        return network

    @classmethod
    def of_file(cls, file: network_file.NetworkFile) -> Self:
        """Make the network of an open file, which is not to be believed before it is finished."""
        network, facts = cls.__new__(cls), file.facts
        network.layer_sizes, network.activation = facts.layer_sizes, facts.activation
        network.dtype, network.seed = facts.dtype, facts.seed
        network._allocate(file.has_second)
        network._epoch = facts.epoch
        file.take_network(network._parameters, network._memory)
        return network

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
        self._parameters[:] = as_flat(values, "parameters", self._parameters)

    def _plain(self, numbers: Array | None) -> Array:
        """Return a vector in panel form laid out as the parameters; not to be written to."""
        plain = np.empty(0, self.dtype)
        if numbers is not None:
            plain = layout.as_plain(self._plan, numbers)
        plain.flags.writeable = False
        return plain

    @property
    def velocity(self) -> Array:
        """The momentum's memory v, laid out as ``parameters``: a copy; assign to change it.

        After training with `Adam` it is the first moment, and ``second_moment`` the second; see
        `forget`.
        """
        return self._plain(self._memory.velocity)

    @velocity.setter
    def velocity(self, values: ArrayLike) -> None:
        plain = as_flat(values, "velocity", self._parameters)
        layout.as_panels(self._plan, plain, self._memory.velocity)

    @property
    def second_moment(self) -> Array:
        """Adam's second moment, as ``velocity``; empty if Adam was not the last."""
        return self._plain(self._memory.second_moment)

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
    def plan(self) -> layout.Plan:
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
        checkpoint: StrPath | None = None,
        checkpoint_every: int | None = None,
        resume: bool = False,
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
        checkpoint : path-like, optional
            File, not there yet, to save the state of the run to: at the beginning, as often as
            ``checkpoint_every`` says, and when the call ends, be it by Ctrl-C or an error.
        checkpoint_every : int, optional
            Steps from one checkpoint to the next; by default an epoch.
        resume : bool
            Go on from ``checkpoint``, if that file is there: with the same network, data and
            arguments, to the same bits as if the run had never been interrupted.  What the network
            has learnt besides is replaced.  ``n_threads``, ``progress``, ``callback`` and
            ``checkpoint_every`` may be others, ``epochs`` may be more.

        Returns
        -------
        History
            Loss, accuracy and time of each epoch of this call, and of those it resumed.

        Raises
        ------
        TypeError
            If an argument is of the wrong type or dtype.
        ValueError
            If shapes disagree, a label or a number is out of range, X or the parameters are not
            finite, or there are no rows.  Nothing has been changed then.
        FileExistsError
            If ``checkpoint`` is there without ``resume``.
        ModelFileError
            A ValueError: if ``checkpoint`` is damaged, or of another network, run or data; it names
            what differs.
        OSError
            If ``checkpoint`` cannot be written or read; the last one is still there then.
        RuntimeError
            If the network is being trained already: by another thread, or when called back.
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

        Ctrl-C (KeyboardInterrupt) takes effect between two steps, within a tenth of a second if a
        step takes no longer.  The parameters are those after the last step, and the interrupted
        epoch does not count; with a ``checkpoint``, ``resume=True`` goes on with it.
        (Compilation, in the first call, has to end before.)

        Hidden activations and errors below 2^-60 in magnitude (float64: 2^-500) count as zero:
        their products would be subnormal numbers, which processors are slow with.

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
        optimizer = as_optimizer(optimizer, learning_rate, momentum)
        update = optimizer.update(as_real(l2, "l2", low=0.0))
        if n_threads is not None:
            n_threads = as_positive_int(n_threads, "n_threads")
        if callback is not None and not callable(callback):
            raise TypeError(f"callback must be callable or None, got {callback!r}")
        shuffle, progress = as_flag(shuffle, "shuffle"), as_flag(progress, "progress")
        resume = as_flag(resume, "resume")
        checkpoint_every = check_checkpoint(checkpoint, checkpoint_every, resume)
        data = as_data(X, y, sample_weight, self.layer_sizes, self.dtype)
        # Where nothing can be lost, no memory of steps and no file, training itself finds out.
        memory = self._memory
        if checkpoint is not None or memory.n_updates[0] or memory.velocity.any():
            check_finite(data.x)
        validation = as_validation(validation_data, self.layer_sizes, self.dtype)
        if not passes.all_finite(self._parameters):
            raise ValueError("parameters must be finite, got some that are infinite or NaN")
        saved = resumed = None
        first_epoch = self._epoch
        if checkpoint is not None:
            identity = identity_of(data, validation, optimizer, batch_size, update.l2, shuffle)
            saved = Checkpoint(checkpoint, checkpoint_every, identity, self._facts())
            if resume:
                resumed = saved.load(-(-len(data.x) // batch_size), update.is_adam)
        if resumed is not None and resumed.position.done > epochs:
            raise ValueError(
                f"epochs must be at least {resumed.position.done}, of which the checkpoint tells, "
                f"got {epochs}"
            )

        def validate() -> dict[str, float]:
            if validation is None:
                return {}
            z = self._logits(validation.x, n_threads)
            return {"val_loss": mean_loss(z, validation), "val_accuracy": accuracy(z, validation)}

        def end_epoch(entry: dict[str, float]) -> bool:
            self._epoch += 1
            if callback is None:
                return False
            return as_flag(callback(self, self._epoch, entry), "what callback returns")

        with self.run(data, update, batch_size, n_threads) as run:
            seed = self.seed if shuffle else None
            fitting = Fitting(run, update, seed, self._epoch, validate, end_epoch, saved)
            if resumed is not None:
                self._put_back(resumed.parameters, resumed.memory)
                first_epoch = resumed.position.first_epoch
                self._epoch = first_epoch + resumed.position.done
                fitting.resume(resumed)
            with Progress(progress, first_epoch, epochs, run.n_steps) as shown:
                try:
                    return fitting.train(epochs, shown)
                except DivergenceError:  # of finite rows; others are refused, as before a step
                    self._memory, forgotten = memory, self._memory
                    check_finite(data.x)
                    self._memory = forgotten
                    raise

    @contextmanager
    def run(
        self,
        data: state.Data,
        update: state.StepOptions,
        batch_size: int,
        n_threads: int | None,
        with_penalty: bool = False,
    ) -> Iterator[Run]:
        """Train on checked data, for `fit` and the estimator; nobody else may meanwhile.

        What updates of another kind have left in the memory is forgotten.
        """
        check_epsilon(update, self.dtype)
        with self._guard.training():
            if update.is_adam != (self._memory.second_moment is not None):
                state.forget(self._memory)
                second = None
                if update.is_adam:
                    second = state.make_second_moment(self._plan, self.dtype)
                self._memory = self._memory._replace(second_moment=second)
            yield Run(
                *(self._plan, data, self._parameters, self._memory, self._guard),
                *(batch_size, n_threads, with_penalty),
            )

    def _put_back(self, parameters: Array, memory: state.OptimizerState) -> None:
        self._parameters[:] = parameters
        for place, array in zip(self._memory, memory, strict=True):
            if place is not None and array is not None:
                place[:] = array

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
        return self._logits(self._rows(X), n_threads)

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
        z = self._logits(self._rows(X), n_threads)
        labels = np.empty(len(z), np.intp)
        bad = passes.largest(z, labels)
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
        z = self._logits(self._rows(X), n_threads)
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
        z = self._logits(self._rows(X), n_threads)
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
        data = as_data(X, y, sample_weight, self.layer_sizes, self.dtype)
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
        data = as_data(X, y, sample_weight, self.layer_sizes, self.dtype)
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
        data = as_data(X, y, sample_weight, self.layer_sizes, self.dtype)
        grad = np.empty_like(self._parameters)
        loss = Differentiator(self._plan, data)(self._parameters, grad)
        return (
            loss,
            list(layout.weight_views(self._plan, grad)),
            list(layout.bias_views(self._plan, grad)),
        )

    def _rows(self, X: ArrayLike) -> Array:
        return as_rows(X, self.layer_sizes[0], self.dtype)

    def _logits(self, x: Array, n_threads: int | None) -> Array:
        n = len(x)
        z = np.empty((n, self.layer_sizes[-1]), self.dtype)
        if n_threads is not None:
            n_threads = as_positive_int(n_threads, "n_threads")
        if n == 1:
            # In memory that an earlier call has left; of several threads, each gets its own.
            try:
                memory = self._spare.pop()
            except IndexError:
                memory = np.empty((1, self._plan.n_hidden), self.dtype), tasks.make_counters(1)
            hidden, board = memory
            board[tasks.ENTERED] = 0
            passes.logits(self._plan.table, self._parameters, x, z, 0, 1, hidden, board)
            self._spare.append(memory)
            return z
        if n <= _BLOCK:
            self._pass_forward(x, z, 0, n, tasks.make_counters(1))
            return z
        cost = layout.multiply_adds(self._plan, 1, passes=1)
        useful = min(1 + n * cost // _PER_THREAD, -(-n // _BLOCK))
        n_threads = min(n_threads or threads.default_threads(), useful)
        step = max(1, 2 * FIRST_SLICE * n_threads // (_BLOCK * cost)) * _BLOCK
        for first in range(0, n, step):
            rows = (first, min(first + step, n))
            work = partial(self._pass_forward, x, z, *rows, tasks.make_counters(1))
            threads.run(n_threads, work)
        return z

    def _pass_forward(self, x: Array, z: Array, first: int, last: int, board: Array) -> None:
        """Write the logits of some rows, together with whoever else calls this with the board."""
        capacity = min(_BLOCK, len(x))
        hidden = np.empty((capacity, self._plan.n_hidden), self.dtype)
        passes.logits(self._plan.table, self._parameters, x, z, first, last, hidden, board)
