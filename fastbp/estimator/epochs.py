"""Training in epochs, with the validation, the stopping and the messages of scikit-learn."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from fastbp.backprop import state
from fastbp.estimator.callbacks import Tasks
from fastbp.estimator.data import as_data, hold_out
from fastbp.estimator.schedule import Schedule
from fastbp.network import Network
from fastbp.optimizers import SGD, Adam
from fastbp.training.predict import accuracy, mean_loss
from fastbp.training.run import DivergenceError, Progress, Run

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

NOT_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and "
    "need to be preprocessed."
)


def fit_epochs(
    classifier: Any,
    network: Network,
    X: Any,
    labels: Array,
    row_weight: Array,
    held_out: tuple[Any, Array, Array] | None,
    tasks: Tasks,
    incremental: bool,
) -> None:
    """Train ``classifier`` on checked data: until it is over, or, ``incremental``, for one epoch.

    Writes what scikit-learn calls fitted attributes, ``coefs_`` being the network's.
    """
    if classifier.early_stopping and held_out is None:
        X, labels, row_weight, held_out = hold_out(
            *(X, labels, row_weight, len(classifier.classes_)),
            *(classifier.validation_fraction, classifier._random_state),
        )
    if classifier.early_stopping and classifier.best_validation_score_ is None:
        classifier.best_loss_, classifier.best_validation_score_ = None, -np.inf
    elif not classifier.early_stopping and classifier.best_loss_ is None:
        classifier.best_loss_, classifier.best_validation_score_ = np.inf, None
    validation, X_val = None, None
    if held_out is not None:
        validation, X_val = as_data(*held_out), held_out[0]
        classifier.validation_scores_ = classifier.validation_scores_ or []
        classifier.validation_loss_curve_ = classifier.validation_loss_curve_ or []
    n = X.shape[0]
    if classifier.batch_size == "auto":
        batch_size = min(200, n)
    else:
        batch_size = classifier.batch_size
        if batch_size > n:
            warnings.warn(
                "Got `batch_size` less than 1 or larger than sample size. It is going to be "
                "clipped",
                stacklevel=5,
            )
    if not incremental or not hasattr(classifier, "_optimizer"):
        classifier._optimizer = new_schedule(classifier)
        network.forget()
    running = network.run(
        *(as_data(X, labels, row_weight), classifier._optimizer.update(classifier.alpha)),
        *(batch_size, classifier.n_threads),
        with_penalty=True,
    )
    best = network.parameters.copy() if classifier.early_stopping else None
    classifier.n_iter_ = 0
    try:
        with running as run:
            while classifier.n_iter_ < classifier.max_iter:
                tasks.begin()
                _train_epoch(classifier, run, n)
                if validation is not None:
                    _validate(classifier, network, X_val, validation)
                if _has_improved(classifier) and best is not None:
                    best[:] = network.parameters
                classifier._optimizer.end_epoch(classifier.t_)
                if tasks.end() or _is_over(classifier) or incremental:
                    break
                if classifier.n_iter_ == classifier.max_iter:
                    warnings.warn(
                        f"Stochastic Optimizer: Maximum iterations ({classifier.max_iter}) "
                        "reached and the optimization hasn't converged yet.",
                        ConvergenceWarning,
                        stacklevel=5,
                    )
    except KeyboardInterrupt:
        warnings.warn("Training interrupted by user.", stacklevel=5)
    except DivergenceError as error:
        if best is None or classifier.n_iter_ == 0:
            error.args = (f"{NOT_FINITE} {error}",)
            raise
        warnings.warn(
            f"{error}; what had the best validation score is kept",
            ConvergenceWarning,
            stacklevel=5,
        )
    if best is not None:
        network.parameters[:] = best


def new_schedule(classifier: Any) -> Schedule:
    """Return the optimizer and the course of its rate that ``classifier`` asks for."""
    if classifier.solver == "adam":
        beta_1, beta_2, epsilon = classifier.beta_1, classifier.beta_2, classifier.epsilon
        adam = Adam(classifier.learning_rate_init, beta_1, beta_2, epsilon)
        return Schedule(adam, "constant", classifier.power_t)
    sgd = SGD(classifier.learning_rate_init, classifier.momentum, classifier.nesterovs_momentum)
    return Schedule(sgd, classifier.learning_rate, classifier.power_t)


def _train_epoch(classifier: Any, run: Run, n: int) -> None:
    if classifier.shuffle:
        permutation = np.arange(n)
        classifier._random_state.shuffle(permutation)
        run.order[:] = run.order[permutation]
    update = classifier._optimizer.update(classifier.alpha)
    run.begin()
    run.advance(classifier.n_iter_ + 1, update, Progress(False, 0, 0, 0))
    classifier.n_iter_ += 1
    classifier.t_ += n
    classifier.loss_ = float(run.totals[3]) / n
    classifier.loss_curve_.append(classifier.loss_)
    if classifier.verbose:
        print(f"Iteration {classifier.n_iter_}, loss = {classifier.loss_:.8f}")


def _validate(classifier: Any, network: Network, X_val: Any, validation: state.Data) -> None:
    z = classifier._logits(network, X_val)
    classifier.validation_scores_.append(accuracy(z, validation))
    classifier.validation_loss_curve_.append(mean_loss(z, validation))
    if classifier.verbose:
        print(f"Validation score: {classifier.validation_scores_[-1]:f}")


def _has_improved(classifier: Any) -> bool:
    """Whether this epoch is the best; counts those that are not better by ``tol``."""
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


def _is_over(classifier: Any) -> bool:
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
