"""The promises that a method can make on its card: names and meanings.

:mod:`tfmtl2r.testing` checks a method against the promises that its card claims, and against no others. The formulas
use ``T`` for the number of tasks, ``g_t`` for the gradient of task t, ``l_t`` for its loss, ``r_t`` for its preference
and ``d`` for the update (the optimizer steps along ``-d``).
"""

from __future__ import annotations

from collections.abc import Iterable

from tfmtl2r.errors import InputError

PROMISES: dict[str, str] = {
    "sums_to_tasks": "Equal gradients give the plain sum: d = T g where every g_t = g. A single task gives d = g.",
    "permutation_equivariant": "The order of the tasks does not matter: permuted g, l and r give the same d.",
    "ignores_row_scale": "Scaling a gradient does not change d: c_t g_t gives the same d for every c_t > 0.",
    "ignores_loss_scale": "Scaling a loss does not change d: c_t l_t with c_t g_t gives the same d for every c_t > 0.",
    "has_a_main_task": "One task, by default the first, is trained first; d = 0 in a batch without a label of it.",
    "non_conflicting": "The update increases no loss: <d, g_t> >= 0 for every t, with equal preferences.",
    "non_conflicting_if_independent": "The update increases no loss, with equal preferences, if no gradient is a "
                                      "linear combination of the others.",
    "stationary": "d = 0 where the gradients are Pareto stationary: sum_t a_t g_t = 0 for some a_t > 0.",
    "identity_without_conflict": "d = sum_t g_t where <g_s, g_t> >= 0 for every two tasks.",
    "identity_without_sign_conflict": "d = sum_t g_t where no coordinate has two signs among the tasks.",
    "ends_on_the_pareto_set": "Descent along -d with shrinking steps ends on the Pareto set, for two smooth losses.",
    "ends_on_the_ray": "Descent along -d ends on the Pareto set where r_1 l_1 = r_2 l_2, for two convex losses; with "
                       "each l_t divided by its value at the start for a method that ignores the scale of losses. A "
                       "method with a smoothing option ends there as the smoothing goes to 0.",
}


def check_known(promises: Iterable[str]) -> None:
    """Refuses a promise that does not exist.

    Raises:
        InputError: naming the promise, and all that exist.

    >>> check_known(["stationery"])
    Traceback (most recent call last):
    tfmtl2r.errors.InputError: no promise is called 'stationery'; a card can promise sums_to_tasks, ...
    """
    for promise in promises:
        if promise not in PROMISES:
            raise InputError(f"no promise is called {promise!r}; a card can promise {', '.join(PROMISES)}")
