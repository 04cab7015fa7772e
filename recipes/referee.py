"""Holds the aggregators of TorchJD to the promises that this library's methods of the same name make.

    python recipes/referee.py mgda upgrad

Without names, all aggregators are checked. ``--slow`` adds the checks that take seconds. TorchJD needs PyTorch, which
you install yourself; then ``pip install 'tfmtl2r[peers]'``.
"""

from __future__ import annotations

import dataclasses
import importlib
import textwrap
import warnings
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import tyro
from rich.table import Table

from tfmtl2r import methods
from tfmtl2r.report import show
from tfmtl2r.testing import SUITES

# isort: split
# After tfmtl2r, which holds back TensorFlow's start-up lines.
import tensorflow as tf

Aggregate = Callable[[np.ndarray, int], np.ndarray]
"""The update ``[P]`` from gradients ``[T, P]`` and a seed."""
# This library's name -> TorchJD's class, and its options for a number of tasks where it has no defaults.
AGGREGATORS: dict[str, tuple[str, Callable[[int], dict[str, Any]]]] = {
    "aligned_mtl": ("AlignedMTL", lambda tasks: {}),
    "cagrad": ("CAGrad", lambda tasks: {"c": 0.4}),
    "conflict_free": ("ConFIG", lambda tasks: {}),
    "dual_proj": ("DualProj", lambda tasks: {}),
    "excess_mtl": ("ExcessMTL", lambda tasks: {}),
    "fair_grad": ("FairGrad", lambda tasks: {"alpha": 1.0}),
    "graddrop": ("GradDrop", lambda tasks: {}),
    "gradvac": ("GradVac", lambda tasks: {}),
    "imtl_g": ("IMTLG", lambda tasks: {}),
    "krum": ("Krum", lambda tasks: {"n_byzantine": max(tasks - 3, 0)}),
    "linear_scalarization": ("Sum", lambda tasks: {}),
    "mgda": ("MGDA", lambda tasks: {}),
    "nash_mtl": ("NashMTL", lambda tasks: {"n_tasks": tasks}),
    "pcgrad": ("PCGrad", lambda tasks: {}),
    "random_loss_weighting": ("Random", lambda tasks: {}),
    "trimmed_mean": ("TrimmedMean", lambda tasks: {"trim_number": max((tasks - 1) // 2, 0)}),
    "upgrad": ("UPGrad", lambda tasks: {}),
}


@dataclasses.dataclass(frozen=True)
class Peer(methods.JacobianMethod):
    """Another library's aggregator as a method, with equal preferences.

    The aggregator receives the gradients of the present tasks only, and is made anew before the first step. One that
    returns the mean of equal gradients is multiplied by the number of tasks, as this library does with such methods.

    Args:
        name: for messages.
        make: returns a new aggregator for a number of tasks.
    """

    name: str
    make: Callable[[int], Aggregate]
    live: dict[int, tuple[Aggregate, float]] = dataclasses.field(default_factory=dict, repr=False, compare=False)

    def combine(self, rows: Any, signals: Any, state: Any) -> tuple[Any, Any]:
        """The aggregator's update, computed outside the graph."""
        update = tf.numpy_function(self._update, [rows, signals.present, signals.step, signals.seed], rows.dtype)
        return tf.ensure_shape(update, rows.shape[1:]), state

    def _update(self, rows: np.ndarray, present: np.ndarray, step: int, seed: np.ndarray) -> np.ndarray:
        rows, tasks = rows[present], int(present.sum())
        if not tasks:
            return np.zeros(rows.shape[1], rows.dtype)
        if step == 0 or tasks not in self.live:
            mean = np.allclose(self.make(tasks)(np.ones((tasks, 3)), 0), 1.0, atol=1e-3)
            self.live[tasks] = self.make(tasks), tasks if mean else 1.0
        aggregate, scale = self.live[tasks]
        return (scale * aggregate(rows, int(seed[0]) * 1_000_003 + int(seed[1]))).astype(rows.dtype)


def torchjd_peer(name: str) -> Peer:
    """The aggregator of TorchJD that is called like a method of this library."""
    torch, aggregation = importlib.import_module("torch"), importlib.import_module("torchjd.aggregation")
    class_name, options = AGGREGATORS[name]

    def make(tasks: int) -> Aggregate:
        aggregator = getattr(aggregation, class_name)(**options(tasks))

        def aggregate(rows: np.ndarray, seed: int) -> np.ndarray:
            torch.manual_seed(seed)
            return aggregator(torch.from_numpy(np.array(rows))).detach().numpy()

        return aggregate

    return Peer(f"TorchJD's {class_name}", make)


def verdicts(peer: Peer, promises: Collection[str], slow: bool = False) -> dict[str, dict[str, str]]:
    """For each promise: name of a check -> why it fails, an empty string where it does not."""
    found: dict[str, dict[str, str]] = {promise: {} for promise in promises}
    for check in SUITES["method"].checks(peer, promises=promises):
        if check.promise and (slow or not check.slow):
            try:
                check()
                found[check.promise][check.name] = ""
            except AssertionError as error:
                found[check.promise][check.name] = str(error).partition(f"fails {check.name}: ")[2]
    return found


def referee(peers: dict[str, Peer], slow: bool = False) -> dict[str, dict[str, dict[str, str]]]:
    """Prints who keeps which promise, and below the table why a promise is broken.

    Args:
        peers: name of a method of this library, whose promises count -> the peer to check.
        slow: also run the checks that take seconds.

    Returns:
        The verdicts of each peer.
    """
    table = Table(title="Promises of this library's methods, kept by their peers", title_justify="left")
    for column in ("promises of", "checked", "keeps", "breaks"):
        table.add_column(column)
    everything = {}
    for name, peer in peers.items():
        found = everything[name] = verdicts(peer, methods.card(name).promises, slow)
        broken = [promise for promise, checks in found.items() if any(checks.values())]
        kept = [promise for promise in found if promise not in broken]
        table.add_row(name, peer.name, *(", ".join(part).replace("_", " ") or "-" for part in (kept, broken)))
    show(table)
    for name, found in everything.items():
        for check, why in [pair for checks in found.values() for pair in checks.items() if pair[1]]:
            print(f"{peers[name].name}, {check}: {textwrap.shorten(why, 240)}")
    return everything


@dataclasses.dataclass
class Referee:
    """Which aggregators to check.

    Args:
        names: methods of this library whose peers are checked; all by default.
        slow: also run the checks that take seconds.
    """

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    slow: bool = False


def main() -> int:
    """Checks TorchJD's aggregators; without TorchJD there is nothing to check."""
    chosen = tyro.cli(Referee, description=__doc__)
    unknown = set(chosen.names) - set(AGGREGATORS)
    if unknown:
        print(f"TorchJD has no peer of {', '.join(sorted(unknown))}; it has those of {', '.join(AGGREGATORS)}")
        return 2
    try:
        importlib.import_module("torchjd")
    except ImportError as error:
        print(f"nothing was checked, since TorchJD is missing ({error}): install PyTorch, then "
              "pip install 'tfmtl2r[peers]'")
        return 0
    warnings.filterwarnings("ignore", module="torch|cvxpy")  # about degenerate gradients
    tf.get_logger().setLevel("ERROR")  # each peer is traced once, which TensorFlow takes for retracing
    referee({name: torchjd_peer(name) for name in chosen.names or AGGREGATORS}, chosen.slow)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
