"""Training on all rows at once: SciPy's L-BFGS-B on the flat vector of parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from fastbp.backprop import layout, state
from fastbp.training.differentiate import Differentiator

if TYPE_CHECKING:
    from numpy.typing import NDArray


def minimize(
    plan: layout.Plan,
    data: state.Data,
    start: NDArray[np.float64],
    *,
    alpha: float,
    tol: float,
    max_iter: int,
    max_fun: int,
    callback: Callable[[NDArray[np.float64]], object] | None,
) -> Any:
    """Minimise the mean cross-entropy plus ``0.5 alpha / weight ||W||^2`` from ``start``.

    Parameters
    ----------
    plan, data
        Layout, and rows of float64: L-BFGS divides differences of gradients, which in float32 hold
        few digits.
    start : (n_parameters,) float64
    alpha : float
        Divided by the rows' total weight.
    tol : float
        Largest entry of the gradient at which to stop.  The relative decrease of the cost at which
        to stop is SciPy's own, or ``1e-4 * tol`` if that is less.
    max_iter, max_fun : int
        Iterations, and evaluations of the cost.
    callback : callable or None
        Called with the parameters after each iteration; may raise StopIteration.

    Returns
    -------
    scipy.optimize.OptimizeResult
    """
    from scipy.optimize import minimize as scipy_minimize

    n = state.n_rows(data)
    differentiate = Differentiator(plan, data)
    parameters = state.make_parameters(plan, np.float64)
    grad = np.empty(plan.n_parameters)
    l2 = alpha / (float(data.row_weight.sum()) if data.row_weight.size else n)
    weights = slice(0, plan.n_weights)

    def cost(theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        parameters[:] = theta
        loss = differentiate(parameters, grad)
        w = parameters[weights]
        grad[weights] += l2 * w
        return loss + 0.5 * l2 * float(np.square(w).sum()), grad.copy()

    options = {
        "maxiter": max_iter,
        "maxfun": max_fun,
        "gtol": tol,
        "ftol": min(2.220446049250313e-09, 1e-4 * tol),
    }
    return scipy_minimize(
        cost, start, method="L-BFGS-B", jac=True, options=options, callback=callback
    )
