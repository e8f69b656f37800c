"""Training in epochs, with the validation, the stopping and the messages of scikit-learn."""

from __future__ import annotations

import sys
import warnings
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from fastbp._checks.scalars import as_real
from fastbp.backprop import totals
from fastbp.backprop.state import StepOptions
from fastbp.estimator.callbacks import CallbackTasks
from fastbp.estimator.data import Rows, hold_out, lay_out
from fastbp.network import Network
from fastbp.optimizers import SGD, Adam, step_options
from fastbp.training import predict
from fastbp.training.fit import Epochs, Hooks
from fastbp.training.history import DivergenceError
from fastbp.training.run import Run

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

NOT_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and "
    "need to be preprocessed."
)

SCHEDULES = ("constant", "invscaling", "adaptive")

# An adaptive rate that is no larger ends training instead of shrinking once more.
_SMALLEST_RATE = 1e-6


def fit_epochs(
    classifier: Any,
    network: Network,
    rows: Rows,
    held_out: Rows | None,
    tasks: CallbackTasks,
    incremental: bool,
) -> None:
    """Train ``classifier`` on checked rows: until it is over, or, ``incremental``, for one epoch.

    Writes scikit-learn's fitted attributes; ``coefs_`` are the network's.
    """
    if classifier.early_stopping and held_out is None:
        n_classes, random_state = len(classifier.classes_), classifier._random_state
        fraction = classifier.validation_fraction
        rows, held_out = hold_out(rows, n_classes, fraction, random_state)
    _begin_curves(classifier, held_out is not None)
    batch_size = _batch_size(classifier, len(rows.labels))
    if not incremental or not hasattr(classifier, "_optimizer"):
        classifier._optimizer = new_schedule(classifier)
        network.forget()
    classifier.n_iter_ = 0
    learner, options = network._learner, classifier._optimizer.options(classifier.alpha)
    epochs = None
    try:
        with learner.training(options.is_adam):
            run = Run(learner, lay_out(rows), batch_size, classifier.n_threads, with_penalty=True)
            epochs = _ClassifierEpochs(classifier, network, run, held_out, tasks, incremental)
            hooks = Hooks(epochs.begin, epochs.measure, epochs.end)
            Epochs(run, hooks).train(1 if incremental else classifier.max_iter)
        if not epochs.is_over and not incremental:
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({classifier.max_iter}) "
                "reached and the optimization hasn't converged yet.",
                ConvergenceWarning,
                stacklevel=5,
            )
    except KeyboardInterrupt:
        warnings.warn("Training interrupted by user.", stacklevel=5)
    except DivergenceError as error:
        if not classifier.early_stopping or classifier.n_iter_ == 0:
            error.args = (f"{NOT_FINITE} {error}",)
            raise
        warnings.warn(
            f"{error}; what had the best validation score is kept",
            ConvergenceWarning,
            stacklevel=5,
        )
    if epochs is not None and epochs.best is not None:
        network.parameters[:] = epochs.best


def _begin_curves(classifier: Any, has_validation: bool) -> None:
    if classifier.early_stopping and classifier.best_validation_score_ is None:
        classifier.best_loss_, classifier.best_validation_score_ = None, -np.inf
    elif not classifier.early_stopping and classifier.best_loss_ is None:
        classifier.best_loss_, classifier.best_validation_score_ = np.inf, None
    if has_validation:
        classifier.validation_scores_ = classifier.validation_scores_ or []
        classifier.validation_loss_curve_ = classifier.validation_loss_curve_ or []


def _batch_size(classifier: Any, n: int) -> int:
    if classifier.batch_size == "auto":
        return min(200, n)
    if classifier.batch_size > n:
        warnings.warn(
            "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped",
            stacklevel=6,
        )
    return int(classifier.batch_size)


class _ClassifierEpochs:
    """What a classifier does around the steps of each epoch.

    Attributes
    ----------
    is_over : bool
        Whether training has ended before ``max_iter``.
    best : ndarray or None
        With early stopping, the parameters of the best validation score.
    """

    def __init__(
        self,
        classifier: Any,
        network: Network,
        run: Run,
        held_out: Rows | None,
        tasks: CallbackTasks,
        incremental: bool,
    ) -> None:
        self._classifier, self._network, self._run = classifier, network, run
        self._tasks, self._incremental = tasks, incremental
        self._X_val = None if held_out is None else held_out.X
        self._validation = None if held_out is None else lay_out(held_out)
        self.is_over = False
        self.best = network.parameters.copy() if classifier.early_stopping else None

    def begin(self, number: int, order: Array) -> StepOptions:
        """Put the rows in scikit-learn's order."""
        self._tasks.begin()
        if self._classifier.shuffle:
            permutation = np.arange(len(order))
            self._classifier._random_state.shuffle(permutation)
            order[:] = order[permutation]
        options: StepOptions = self._classifier._optimizer.options(self._classifier.alpha)
        return options

    def measure(self) -> dict[str, float]:
        """Return loss and accuracy of the validation rows."""
        if self._validation is None:
            return {}
        z = self._classifier._logits(self._network, self._X_val)
        return predict.measures(predict.rows_of(z, self._validation), self._validation)

    def end(self, number: int, entry: dict[str, float]) -> bool:
        """Write the curves; return whether training ends."""
        classifier, n = self._classifier, len(self._run.order)
        classifier.n_iter_ = number
        classifier.t_ += n
        classifier.loss_ = float(self._run.totals[totals.COST]) / n
        classifier.loss_curve_.append(classifier.loss_)
        if classifier.verbose:
            print(f"Iteration {classifier.n_iter_}, loss = {classifier.loss_:.8f}")
        if self._validation is not None:
            classifier.validation_scores_.append(entry["val_accuracy"])
            classifier.validation_loss_curve_.append(entry["val_loss"])
            if classifier.verbose:
                print(f"Validation score: {entry['val_accuracy']:f}")
        if _has_improved(classifier) and self.best is not None:
            self.best[:] = self._network.parameters
        classifier._optimizer.end_epoch(classifier.t_)
        self.is_over = self._tasks.end() or _has_converged(classifier)
        return self.is_over


def _has_improved(classifier: Any) -> bool:
    """Tell whether this epoch is the best; count those that are not better by ``tol``."""
    if classifier.early_stopping:
        now, best = classifier.validation_scores_[-1], classifier.best_validation_score_
        too_little, is_best = now < best + classifier.tol, now > best
    else:
        now, best = classifier.loss_, classifier.best_loss_
        too_little, is_best = now > best - classifier.tol, now < best
    classifier._no_improvement_count = classifier._no_improvement_count + 1 if too_little else 0
    if is_best and classifier.early_stopping:
        classifier.best_validation_score_ = now
    elif is_best:
        classifier.best_loss_ = now
    return bool(is_best)


def _has_converged(classifier: Any) -> bool:
    if classifier._no_improvement_count <= classifier.n_iter_no_change:
        return False
    what = "Validation score" if classifier.early_stopping else "Training loss"
    reason = (
        f"{what} did not improve more than tol={classifier.tol:f} for "
        f"{classifier.n_iter_no_change} consecutive epochs."
    )
    if classifier._optimizer.stop(reason, bool(classifier.verbose)):
        return True
    classifier._no_improvement_count = 0
    return False


def new_schedule(classifier: Any) -> Schedule:
    """Return the optimizer that ``classifier`` describes, and the schedule of its rate."""
    if classifier.solver == "adam":
        beta_1, beta_2, epsilon = classifier.beta_1, classifier.beta_2, classifier.epsilon
        adam = Adam(classifier.learning_rate_init, beta_1, beta_2, epsilon)
        return Schedule(adam, "constant", classifier.power_t)
    sgd = SGD(classifier.learning_rate_init, classifier.momentum, classifier.nesterovs_momentum)
    return Schedule(sgd, classifier.learning_rate, classifier.power_t)


class Schedule:
    """An optimizer whose learning rate follows one of scikit-learn's schedules.

    Parameters
    ----------
    optimizer : SGD or Adam
    kind : {"constant", "invscaling", "adaptive"}
        Of Adam always "constant".
    power_t : float
        Exponent of "invscaling".
    """

    def __init__(self, optimizer: SGD | Adam, kind: str, power_t: float) -> None:
        self._optimizer = optimizer
        self._first_rate = optimizer.learning_rate
        self._kind = kind
        self._power_t = power_t

    def state(self) -> dict[str, Any]:
        """Return all of it, JSON-like; see `of_state`."""
        return {
            "optimizer": type(self._optimizer).__name__,
            "fields": asdict(self._optimizer),
            "first_rate": self._first_rate,
            "kind": self._kind,
            "power_t": self._power_t,
        }

    @classmethod
    def of_state(cls, state: dict[str, Any]) -> Schedule:
        """Make a schedule that goes on from a `state`.

        Raises
        ------
        TypeError, ValueError, KeyError
            If it makes no sense.
        """
        optimizer = {"SGD": SGD, "Adam": Adam}[state["optimizer"]](**state["fields"])
        if state["kind"] not in SCHEDULES or asdict(optimizer).keys() != state["fields"].keys():
            raise ValueError(state)
        schedule = cls(optimizer, state["kind"], as_real(state["power_t"], "power_t", low=0.0))
        schedule._first_rate = as_real(state["first_rate"], "first_rate", low=0.0)
        return schedule

    @property
    def learning_rate(self) -> float:
        """The rate of the next epoch."""
        return self._optimizer.learning_rate

    def options(self, alpha: float) -> StepOptions:
        """Return how a step uses the gradient, with the penalty ``alpha`` over a batch's weight.

        Adam's epsilon is added before the bias of v is corrected, as in scikit-learn.
        """
        alpha = as_real(alpha, "alpha", 0.0)  # a float: integers would be compiled anew
        return step_options(self._optimizer, alpha=alpha, epsilon_is_corrected=False)

    def end_epoch(self, n_seen: int) -> None:
        """Lower an inversely scaled rate, after ``n_seen`` rows in all."""
        if self._kind == "invscaling":
            try:
                rate = self._first_rate / (n_seen + 1.0) ** float(self._power_t)
            except OverflowError:
                rate = 0.0
            self._set_rate(max(rate, sys.float_info.min))

    def stop(self, reason: str, verbose: bool) -> bool:
        """Answer epochs without success: return True to end training, or lower the rate."""
        is_adaptive = self._kind == "adaptive"
        ends = not is_adaptive or self.learning_rate <= _SMALLEST_RATE
        if not ends:
            self._set_rate(self.learning_rate / 5)
            consequence = f"Setting learning rate to {self.learning_rate:f}"
        elif is_adaptive:
            consequence = "Learning rate too small. Stopping."
        else:
            consequence = "Stopping."
        if verbose:
            print(reason, consequence)
        return ends

    def _set_rate(self, learning_rate: float) -> None:
        self._optimizer = replace(self._optimizer, learning_rate=learning_rate)
