"""Network: hidden layers, a softmax output, cross-entropy, mini-batch gradient descent."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from fastbp import kernels
from fastbp._checks.docs import documented
from fastbp._checks.scalars import as_choice, as_flag, as_float_dtype, as_positive_int, as_real
from fastbp._files import network_file
from fastbp._files.checkpoint import Checkpoint, fingerprint, identity_of
from fastbp.backprop import layout, state
from fastbp.distributed.group import Group, SharedCheckpoint, as_group
from fastbp.distributed.steps import share_of
from fastbp.kernels.activation import ACTIVATIONS
from fastbp.optimizers import SGD, Adam, check_epsilon, step_options
from fastbp.training import inputs, predict, random
from fastbp.training.differentiate import Differentiator
from fastbp.training.fit import Epochs, Hooks, resumable
from fastbp.training.history import DivergenceError, History
from fastbp.training.learner import Learner
from fastbp.training.rows import Rows
from fastbp.training.stream import source_of
from fastbp.training.summary import Summary

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike, NDArray

    Array = NDArray[Any]
    Batches = Callable[[], Iterable[tuple[Any, ...]]] | Iterator[tuple[Any, ...]]
    Callback = Callable[["Network", int, dict[str, float]], object]
    StrPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]


# Rows of the data that ranks compare: not all of it, which may be more than memory holds
N_COMPARED = 4096


class Network:
    """A fully connected network that classifies: hidden layers and a softmax output.

    Layer l computes ``z^l = a^(l-1) W^l + b^l``.  Hidden layers then apply their activation, by
    default the sigmoid ``a = 1/(1 + e^-z)``, and the last layer applies the softmax
    ``a_i = e^(z_i) / sum_j e^(z_j)``.  Training minimises the cross-entropy
    ``C = -(1/n) sum_x sum_i y_i ln a_i`` by backpropagation and mini-batch gradient descent.

    Parameters
    ----------
    layer_sizes : sequence of int
        Units per layer, from the number of features to the number of classes; ``[64, 10]`` has no
        hidden layer and is multinomial logistic regression.
    activation : {"sigmoid", "tanh", "relu", "identity"}
        Activation of the hidden layers.
    dtype : {"float32", "float64"}
        Type of the parameters and of all computation.
    seed : int or None
        From 0 to 2^64 - 1.  Decides the first weights and the order of the rows in each epoch, on
        every machine and with every version of NumPy.  None draws one.  All four are attributes.

    Notes
    -----
    Biases start at 0; weights are uniform in ``±r sqrt(6 / (fan_in + fan_out))`` [1]_ with r = 1
    in the first layer and r = 4 in every layer that reads sigmoid units.  The sigmoid's slope at 0
    is 1/4, which shrinks activations and errors from layer to layer; r = 4 undoes it.  (In the
    first layer it would saturate units on standardised features.)  Layers that read relu have
    r = sqrt(2) [2]_, because half of those units are 0; all other layers have r = 1.

    Random numbers are the raw 64-bit words of Philox, which NumPy promises to be the same in all
    versions, with the key (seed, 0) for the weights and (seed, e) for the rows in epoch e.

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
        sizes = inputs.as_layer_sizes(layer_sizes)
        activation = as_choice(activation, "activation", ACTIVATIONS)
        seed = secrets.randbits(64) if seed is None else inputs.as_seed(seed)
        self._allocate(sizes, activation, as_float_dtype(dtype), seed)
        self.reset()

    def _allocate(
        self,
        layer_sizes: tuple[int, ...],
        activation: str,
        dtype: np.dtype[Any],
        seed: int,
        with_second_moment: bool = False,
        n_fixed: int = 0,
    ) -> None:
        """Make a network whose parameters are zeros; the first ``n_fixed`` logits stay so."""
        self.layer_sizes, self.activation, self.dtype = layer_sizes, activation, dtype
        self.seed, self._epoch, self._n_fixed = seed, 0, n_fixed
        self._plan = plan = layout.make_plan(layer_sizes, activation, n_fixed)
        self._learner = Learner(plan, dtype, with_second_moment)
        self._parameters = self._learner.parameters
        self._weights = layout.weight_views(plan, self._parameters)
        self._biases = layout.bias_views(plan, self._parameters)
        self._predictor = predict.Predictor(plan, self._parameters)

    def reset(self) -> None:
        """Start over: the first weights of the seed, no velocity, epoch 0."""
        random.first_weights(self.seed, self._weights, self.activation)
        for b in self._biases:
            b[:] = 0
        self.forget()
        self._epoch = 0

    def forget(self) -> None:
        """Forget the velocity, or Adam's moments and steps; keep the parameters and the epoch."""
        state.forget(self._learner.optimizer_state)

    def __getstate__(self) -> dict[str, Any]:
        """Return all that makes the network, as vectors of its own."""
        metadata, parameters, optimizer_state = self._copies()
        return {
            **metadata._asdict(),
            "dtype": self.dtype.name,
            "n_fixed": self._n_fixed,
            "parameters": parameters,
            "velocity": self._plain(optimizer_state.velocity),
            "second_moment": self._plain(optimizer_state.second_moment),
        }

    def __setstate__(self, content: dict[str, Any]) -> None:
        """Rebuild the network, whose views share one vector."""
        kind = content["layer_sizes"], content["activation"], as_float_dtype(content["dtype"])
        is_adam = len(content["second_moment"]) > 0
        self._allocate(*kind, content["seed"], is_adam, content["n_fixed"])
        self._epoch = content["epoch"]
        self._parameters[:] = content["parameters"]
        velocity, second_moment, n_updates = self._learner.optimizer_state
        layout.as_panels(self._plan, content["velocity"], velocity)
        if second_moment is not None:
            layout.as_panels(self._plan, content["second_moment"], second_moment)
        n_updates[0] = content["n_steps"]

    def _become(self, other: Network) -> None:
        """Take parameters, optimizer state and epoch of a network with the same layers."""
        _, parameters, optimizer_state = other._copies()
        with self._learner.training(optimizer_state.second_moment is not None):
            self._learner.put_back(parameters, optimizer_state)
        self._epoch = other._epoch

    def _metadata(self, n_updates: int) -> network_file.NetworkMetadata:
        kind = self.layer_sizes, self.activation, self.dtype, self.seed
        return network_file.NetworkMetadata(*kind, self._epoch, n_updates)

    def _copies(self) -> tuple[network_file.NetworkMetadata, Array, state.OptimizerState]:
        """Return copies of all that makes the network, as it is between two steps."""
        parameters, optimizer_state = self._learner.copies()
        return self._metadata(int(optimizer_state.n_updates[0])), parameters, optimizer_state

    def save(self, path: StrPath) -> None:
        """Write the network to a file in the safetensors format, for `load`.

        The file holds the layers, the parameters (arrays ``weights.0``, ``biases.0``, ...), the
        seed, the number of epochs and the optimizer's state, so that what `load` returns goes on
        with `fit` as this network would.  `forget` before saves the space of that state.  The file
        is the old one or the new one, whatever happens; while another thread trains the network,
        the state between two steps is saved.

        Parameters
        ----------
        path : path-like
            A file of this name is replaced.

        Raises
        ------
        OSError
            If the file cannot be written.

        Examples
        --------
        >>> import os, tempfile
        >>> net = Network([2, 3, 2], seed=1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     net.save(os.path.join(folder, "net.safetensors"))
        ...     again = Network.load(os.path.join(folder, "net.safetensors"))
        >>> bool((again.parameters == net.parameters).all())
        True
        """
        network_file.save(path, "network", *self._copies())

    @classmethod
    def load(cls, path: StrPath) -> Self:
        """Read a network, the same to the bit, from a file of `save` or ``MLPClassifier.save``.

        Parameters
        ----------
        path : path-like
            Or a checkpoint of `fit`: it gives the network at that point of the run.

        Returns
        -------
        Network
            It predicts and trains as the one that was saved.

        Raises
        ------
        ModelFileError
            A ValueError: if the file is damaged, of another kind or of a later version.  Nothing
            in a file is executed.
        """
        with network_file.opened(path) as file:
            network = cls._of_file(file)
            file.finish()
        return network

    @classmethod
    def _of_file(cls, file: network_file.NetworkFile, n_fixed: int = 0) -> Self:
        """Make the network of an open file; it is valid once the file is finished."""
        network, metadata = cls.__new__(cls), file.metadata
        kind = metadata.layer_sizes, metadata.activation, metadata.dtype, metadata.seed
        network._allocate(*kind, file.has_second_moment, n_fixed)
        network._epoch = metadata.epoch
        file.take_network(network._parameters, network._learner.optimizer_state)
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

    def summary(self) -> Summary:
        """Return a table of the layers, with parameters, memory and the optimizer's state.

        Returns
        -------
        Summary
            Text where it is printed, HTML in a notebook; ``rows`` has the values.

        Examples
        --------
        >>> print(Network([784, 30, 10]).summary())  # doctest: +ELLIPSIS
        <Network 784-30-10 float32, seed 0: 23860 parameters, 0 epochs trained>
        layer  activation   weights  biases  parameters   bytes
        1      sigmoid     784 x 30      30      23,550  94,200
        2      softmax      30 x 10      10         310   1,240
        all                                      23,860  95,440
        Optimizer: velocity after 0 updates, ... bytes
        """
        kept = self._learner.optimizer_state
        return Summary(repr(self), self._plan, self.activation, self.dtype.itemsize, kept)

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()

    @property
    def parameters(self) -> Array:
        """All weights, layer by layer, then all biases, as one vector; assigning copies."""
        return self._parameters

    @parameters.setter
    def parameters(self, values: ArrayLike) -> None:
        self._parameters[:] = inputs.as_flat(values, "parameters", self._parameters)

    def _plain(self, panels: Array | None) -> Array:
        """Return a vector in panel form laid out as the parameters, read-only."""
        plain = np.empty(0, self.dtype)
        if panels is not None:
            plain = layout.as_plain(self._plan, panels)
        plain.flags.writeable = False
        return plain

    @property
    def velocity(self) -> Array:
        """The velocity, or Adam's first moment: a copy; assign to change it."""
        return self._plain(self._learner.optimizer_state.velocity)

    @velocity.setter
    def velocity(self, values: ArrayLike) -> None:
        plain = inputs.as_flat(values, "velocity", self._parameters)
        layout.as_panels(self._plan, plain, self._learner.optimizer_state.velocity)

    @property
    def second_moment(self) -> Array:
        """Adam's second moment, a copy; empty if Adam was not the last optimizer."""
        return self._plain(self._learner.optimizer_state.second_moment)

    @property
    def weights(self) -> tuple[Array, ...]:
        """W of each layer, shape (fan_in, fan_out): views of ``parameters``, to be set in place."""
        return self._weights

    @property
    def biases(self) -> tuple[Array, ...]:
        """b of each layer, shape (fan_out,): views of ``parameters``, to be set in place."""
        return self._biases

    @property
    def epoch(self) -> int:
        """Number of epochs trained since the start, over all calls to ``fit``."""
        return self._epoch

    def fit(
        self,
        X: ArrayLike | Rows | Batches,
        y: ArrayLike | None = None,
        *,
        epochs: int = 10,
        batch_size: int | None = None,
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
        buffer_rows: int | None = None,
        comm: Any = None,
        shards: int = 1,
        timeout: float = 1800.0,
    ) -> History:
        """Train by mini-batch gradient descent; go on where the last call ended.

        Per mini-batch, with g the gradient of its mean cross-entropy (see `gradients`)::

            v     <- momentum * v - learning_rate * (g + l2 * W)     (biases: without l2 * W)
            theta <- theta + v

        or what ``optimizer`` makes of g + l2 * W.

        Parameters
        ----------
        X : array_like of shape (n, n_features)
            Finite numbers or bool, converted to the network's dtype.  Not copied if they have it,
            nor if they are large and of uint8.  Or what `open_rows` returns.  Or a function that
            returns an iterator of batches (X, y) or (X, y, sample_weight): it is called for each
            epoch, and its rows are taken as they come.
        y : array_like of shape (n,) or (n, n_classes)
            Labels (integers from 0 on), or rows of probabilities; left out where X has them.
        epochs : int
            Passes over the data.
        batch_size : int, optional
            Rows per step, by default 32; the last batch of an epoch may be short.  The batches of a
            function are cut into batches of this size, or stay whole by default.
        learning_rate, momentum : float, optional
            Above 0, by default 0.1; at least 0 and below 1, by default 0.9.
        optimizer : SGD or Adam, optional
            In place of the two: Nesterov's momentum, Adam or AdamW.
        l2 : float
            Strength of the penalty ``0.5 * l2 * ||W||^2`` on the weights (not on the biases).
        sample_weight : array_like of shape (n,), optional
            Weights of the rows, not negative.  A batch's gradient is the weighted mean
            ``sum w_i g_i / sum w_i``; a batch of which all weights are zero contributes none.
        validation_data : (X, y), optional
            Rows of which loss and accuracy are measured after each epoch.
        shuffle : bool
            Take the rows in another order in each epoch, by seed and number of the epoch.
        n_threads : int, optional
            Threads to compute with, at most; small steps use fewer.  By default as many as this
            process may use (affinity, control groups), or as ``FASTBP_NUM_THREADS``,
            ``NUMBA_NUM_THREADS`` or ``OMP_NUM_THREADS`` say.  No bit of the result depends on it.
        progress : bool
            Show a tqdm bar, or without tqdm or a terminal a line per epoch, on stderr.
        callback : callable, optional
            Called after each epoch as ``callback(network, epoch, entry)``; ``entry`` is a dict of
            the epoch's values, named as in `History`.  True ends training, None or False does not.
        checkpoint : path-like, optional
            New file for the state of the run: saved at the beginning, after every
            ``checkpoint_every`` steps, and when the call ends, be it by Ctrl-C or an error.
        checkpoint_every : int, optional
            By default the steps of an epoch.
        resume : bool
            Go on from the file ``checkpoint``, if it exists: with the same network, data and
            arguments, to the same bits as a run without interruption.  ``n_threads``,
            ``progress``, ``callback``, ``checkpoint_every``, ``comm`` and ``timeout`` may be
            others, ``epochs`` more.  A function makes again what has been learnt from.
        buffer_rows : int, optional
            Of a file of `open_rows`: rows in each of two buffers, by default of 256 MiB; whole
            batches.  Blocks of a 256th of it are read in random order, and rows shuffled within a
            buffer.  If all rows fit into one, the result is that of rows in memory.
        comm : mpi4py.MPI.Comm or Link, optional
            Train together with other processes: each calls this with the same arguments, and ends
            with the network and the history of one process, to the bit.  A rank reads its own rows
            of each batch; the first one calls ``callback``, shows ``progress`` and writes
            ``checkpoint``.  Ranks on one machine share its processors.  See `fastbp.distributed`.
        shards : int
            Cut a batch into at least so many blocks, for as many ranks, where it has fewer blocks
            of 128 rows.  The result depends on it, though not on the number of ranks.
        timeout : float
            Seconds that a rank waits for another one before the job ends.

        Returns
        -------
        History
            Of the epochs of this call, and of those it resumed.

        Raises
        ------
        TypeError, ValueError
            If an argument is of the wrong type, shape or range, X or the parameters are not
            finite, or there are no rows.  Nothing has been changed then.
        ModelFileError
            A ValueError: if ``checkpoint`` is damaged, or of another network, run or data.
        OSError
            If ``checkpoint`` cannot be written or read, or exists and ``resume`` is False.
        RuntimeError
            If the network is being trained already, by another thread or around a callback.
        DivergenceError
            If the loss or a parameter becomes infinite or NaN.  The parameters are those after
            the last finished epoch then, all finite, and the velocity is zero.
        DistributedError
            A RuntimeError: if another rank cannot go on.  All ranks end after the same step.

        Notes
        -----
        The result depends on the data, the arguments and the seed alone.  ``fit(epochs=2)`` and
        then ``fit(epochs=3)`` equals ``fit(epochs=5)``, because the epoch number and the
        optimizer's state are kept; a change between Adam and SGD forgets that state.

        Ctrl-C (KeyboardInterrupt) takes effect between two steps, within a tenth of a second if a
        step takes no longer, and in the first call after compilation.  The parameters are those
        after the last step; the interrupted epoch does not count.

        Activations and errors below 2^-60 (float64: 2^-500) count as 0: products would be slow.

        Examples
        --------
        Stop when the training loss is small enough:

        >>> net, X, y = Network([2, 4, 2]), [[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0]
        >>> small = lambda network, epoch, entry: entry["loss"] < 0.1
        >>> history = net.fit(X, y, epochs=1000, learning_rate=0.5, callback=small)
        >>> len(history) < 1000, history.loss[-1] < 0.1
        (True, True)
        """
        group, shards = as_group(comm, timeout), as_positive_int(shards, "shards")
        with group.session(shards):
            with group.agreement():
                epochs = as_positive_int(epochs, "epochs")
                if batch_size is not None:
                    batch_size = as_positive_int(batch_size, "batch_size")
                optimizer = inputs.as_optimizer(optimizer, learning_rate, momentum)
                options = step_options(optimizer, l2=as_real(l2, "l2", low=0.0))
                check_epsilon(options, self.dtype)
                shuffle, progress = as_flag(shuffle, "shuffle"), as_flag(progress, "progress")
                resume, n_threads = as_flag(resume, "resume"), inputs.as_n_threads(n_threads)
                inputs.check_callback(callback)
                every = inputs.check_checkpoint(checkpoint, checkpoint_every, resume)
                kind, seed = (self.layer_sizes, self.dtype), self.seed if shuffle else None
                source = source_of(X, y, sample_weight, buffer_rows, batch_size, *kind, seed)
                data, share = source.data, share_of(group, source, epochs, shards)
                validation = inputs.as_validation(validation_data, self.layer_sizes, self.dtype)
                inputs.check_parameters(self._parameters)
                if checkpoint is not None or not self._learner.is_fresh(options.is_adam):
                    inputs.check_finite(data.x)  # training finds bad rows, but may lose the state
                settings = optimizer, source.batch_size, options.l2, shuffle, shards
                file = resumed = None
                if checkpoint is not None:
                    identity = {}
                    if group.rank == 0:  # the others neither read nor write it
                        identity = identity_of(data, validation, *settings) | source.identity()
                    file = Checkpoint(checkpoint, every, identity, self._metadata(0))
                    if resume and group.rank == 0:
                        steps = source.steps_per_epoch
                        resumed = resumable(file, steps, epochs, options.is_adam)
            if group.size > 1:
                facts = identity_of(data, validation, *settings, N_COMPARED) | source.identity()
                group.compare({**self._facts(), "epochs": epochs, **facts})
                resumed, n_threads = group.agree(None, resumed)[0], group.n_threads(n_threads)
            # Rows in files are shuffled as they are read.
            is_shuffled = source.rows is None and source.maker is None
            begin = partial(group.begin_epoch, options, seed if is_shuffled else None)
            measure = partial(group.measures, self._predictor, validation, n_threads)
            hooks = Hooks(begin, measure, partial(self._end_epoch, group, callback))
            before = self._epoch if resumed is None else resumed.position.first_epoch
            with ExitStack() as stack:
                with group.agreement():
                    stack.enter_context(self._learner.training(options.is_adam))
                    run_on = source.run(self._learner, n_threads, before + epochs, share)
                    run = stack.enter_context(run_on)
                keeper = None if file is None else SharedCheckpoint(group, file)
                epoch_loop = Epochs(run, hooks, self._epoch, keeper)
                if resumed is not None:
                    self._epoch = epoch_loop.resume(resumed)
                try:
                    return epoch_loop.train(epochs, progress and group.rank == 0)
                except DivergenceError:
                    with group.agreement():
                        inputs.check_finite(data.x)
                    raise

    def _facts(self) -> dict[str, Any]:
        """Return what the ranks' networks must have in common."""
        metadata, parameters, optimizer_state = self._copies()
        vectors = {"parameters": parameters, **optimizer_state._asdict()}
        digests = {k: None if v is None else fingerprint(v) for k, v in vectors.items()}
        return metadata._asdict() | digests

    def _end_epoch(
        self, group: Group, callback: Callback | None, number: int, entry: dict[str, float]
    ) -> bool:
        self._epoch, group.where = number, f"the end of epoch {number}"
        if callback is None and group.size == 1:
            return False
        answer = None if callback is None else partial(callback, self, number, entry)
        ends = group.call(lambda: answer is not None and inputs.ends_training(answer()), True)
        return bool(ends[0])

    def _data(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None) -> state.Data:
        return inputs.as_data(X, y, sample_weight, self.layer_sizes, self.dtype)

    @documented
    def logits(self, X: ArrayLike, *, n_threads: int | None = None) -> Array:
        """Return the weighted inputs of the output layer, ``z^L``.

        {rows}

        Returns
        -------
        ndarray of shape (n, n_classes)
            In the network's dtype; infinite and NaN ones, too.  A row depends on no other row of
            the call, not by a bit.

        {network_errors}
        """
        x = inputs.as_samples(X, self.layer_sizes[0], self.dtype)
        return self._predictor.logits(x, inputs.as_n_threads(n_threads))

    @documented
    def predict(self, X: ArrayLike, *, n_threads: int | None = None) -> NDArray[np.intp]:
        """Return the most probable class of each row, the first of equals.

        {rows}

        Returns
        -------
        ndarray of shape (n,)
            Integers from 0 to n_classes - 1.

        {network_errors}
            Or if a row gives infinite or NaN logits.
        """
        return predict.largest(self.logits(X, n_threads=n_threads))

    @documented
    def predict_proba(self, X: ArrayLike, *, n_threads: int | None = None) -> Array:
        """Return the probabilities of the classes, ``softmax(z^L)``.

        {rows}

        Returns
        -------
        ndarray of shape (n, n_classes)
            NaN in the rows that give infinite or NaN logits, and in them alone.

        {network_errors}
        """
        z = self.logits(X, n_threads=n_threads)
        kernels.softmax(z, z)
        return z

    @documented
    def predict_log_proba(self, X: ArrayLike, *, n_threads: int | None = None) -> Array:
        """Return the logarithms of `predict_proba`, exact also where these round to 0 or 1.

        {rows}

        Returns
        -------
        ndarray of shape (n, n_classes)
            NaN where those of `predict_proba` are.

        {network_errors}
        """
        z = self.logits(X, n_threads=n_threads)
        kernels.log_softmax(z, z)
        return z

    @documented
    def loss(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        n_threads: int | None = None,
    ) -> float:
        """Return the mean cross-entropy, ``-(1/n) sum_x sum_i y_i ln a_i``, without L2 penalty.

        {data}
        n_threads : int, optional
            As in `fit`.

        Returns
        -------
        float
            Infinite or NaN if a row of ``X`` is not finite.

        {network_errors}
        """
        data = self._data(X, y, sample_weight)
        return self._predictor.loss(data, inputs.as_n_threads(n_threads))

    @documented
    def score(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        n_threads: int | None = None,
    ) -> float:
        """Return the fraction of rows whose most probable class is the label.

        {data}
        n_threads : int, optional
            As in `fit`.

        Returns
        -------
        float
            From 0 to 1.  Of a row of probabilities, the largest counts.

        {network_errors}
        """
        data = self._data(X, y, sample_weight)
        return self._predictor.score(data, inputs.as_n_threads(n_threads))

    @documented
    def gradients(
        self, X: ArrayLike, y: ArrayLike, *, sample_weight: ArrayLike | None = None
    ) -> tuple[float, list[Array], list[Array]]:
        """Return the mean cross-entropy and its gradient with respect to weights and biases.

        Backpropagation over all rows as one batch::

            BP1  delta^L   = a^L - y
            BP2  delta^l   = (delta^(l+1) W^(l+1)T) * a^l (1 - a^l)
            BP3  dC/db^l   = mean over the rows of delta^l
            BP4  dC/dW^l   = a^(l-1)T delta^l / n

        {data}

        Returns
        -------
        loss : float
            As of `loss`.
        grad_w, grad_b : list of ndarray
            Shaped as ``weights`` and ``biases``.

        {network_errors}

        Notes
        -----
        It takes memory for all rows' activations.

        A check by finite differences needs ``dtype="float64"``: with h = 1e-5,
        ``(C(w + h) - C(w - h)) / 2h`` agrees to some 9 digits.  In float32 it is 2 or 3.

        Examples
        --------
        >>> net = Network([2, 2])
        >>> net.parameters[:] = 0
        >>> loss, grad_w, grad_b = net.gradients([[1, 0], [0, 3]], [0, 1])
        >>> grad_w[0]
        array([[-0.25,  0.25],
               [ 0.75, -0.75]], dtype=float32)
        """
        grad = np.empty_like(self._parameters)
        data = self._data(X, y, sample_weight)
        differentiate = Differentiator(self._plan, data, self.dtype)
        loss = differentiate(self._parameters, grad)
        grad_w, grad_b = layout.weight_views(self._plan, grad), layout.bias_views(self._plan, grad)
        return loss, list(grad_w), list(grad_b)
