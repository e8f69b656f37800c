"""Training on all rows at once: SciPy's L-BFGS-B on the flat vector of parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.optimize import _check_optimize_result

from fastbp.backprop import layout, state
from fastbp.estimator.callbacks import CallbackTasks
from fastbp.estimator.epochs import NOT_FINITE
from fastbp.network import Network
from fastbp.training.differentiate import Differentiator
from fastbp.training.history import DivergenceError, History

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vector = NDArray[np.float64]
    Cost = Callable[[Vector], tuple[float, Vector]]


def fit_lbfgs(classifier: Any, network: Network, data: state.Data, tasks: CallbackTasks) -> None:
    """Minimise mean cross-entropy + 0.5 alpha / weight ||W||^2, with the weight of all rows.

    Parameters
    ----------
    classifier : MLPClassifier
        Its fitted attributes are written.
    network : Network, updated
    data : Data
        Of float64: L-BFGS divides differences of gradients, which in float32 have few digits.
    tasks : CallbackTasks
        An iteration each.

    Raises
    ------
    DivergenceError
        If the loss or a parameter ends infinite or NaN; the network keeps its last finite
        parameters.
    """
    from scipy.optimize import minimize

    history = History()
    cost = _penalized(network._plan, data, classifier.alpha, classifier.n_threads)

    def end_iteration(intermediate_result: Any) -> None:
        if np.isfinite(intermediate_result.x).all():
            network.parameters[:] = intermediate_result.x
            history.loss.append(float(intermediate_result.fun))
        if tasks.end():
            raise StopIteration
        if tasks.n_ended < classifier.max_iter:
            tasks.begin()

    tasks.begin()
    result = minimize(
        cost,
        network.parameters.astype(np.float64),
        method="L-BFGS-B",
        jac=True,
        callback=end_iteration,
        options={
            "maxiter": classifier.max_iter,
            "maxfun": classifier.max_fun,
            "gtol": classifier.tol,
            # the relative decrease of the cost: SciPy's own, or less for a small tol
            "ftol": min(2.220446049250313e-09, 1e-4 * classifier.tol),
        },
    )
    if tasks.is_open:
        tasks.end()
    if not (np.isfinite(result.x).all() and np.isfinite(result.fun)):
        error = DivergenceError(NOT_FINITE, epoch=len(history) + 1)
        error.history = history
        raise error
    network.parameters[:] = result.x
    if classifier.verbose:
        print(f"{result.nit} iterations, {result.nfev} evaluations, loss = {result.fun:.8f}")
    classifier.loss_ = classifier.best_loss_ = float(result.fun)
    was_stopped = result.status == 99  # by a callback, which is nothing to warn of
    classifier.n_iter_ = (
        result.nit if was_stopped else _check_optimize_result("lbfgs", result, classifier.max_iter)
    )


def _penalized(plan: layout.Plan, data: state.Data, alpha: float, n_threads: int | None) -> Cost:
    """Return a function of the parameters: cost and gradient."""
    differentiate = Differentiator(plan, data, np.float64, n_threads)
    parameters = state.make_parameters(plan, np.float64)
    grad = np.empty(plan.n_parameters)
    l2 = alpha / (float(data.row_weight.sum()) if data.row_weight.size else state.n_rows(data))
    weights = slice(0, plan.n_weights)

    def cost(theta: Vector) -> tuple[float, Vector]:
        parameters[:] = theta
        loss = differentiate(parameters, grad)
        w = parameters[weights]
        grad[weights] += l2 * w
        return loss + 0.5 * l2 * float(np.square(w).sum()), grad.copy()

    return cost
