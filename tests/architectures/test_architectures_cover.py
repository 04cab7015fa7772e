"""Architectures x methods x gradient modes x lists or rows: short fits that hold every pair of choices.

Methods stand for kinds of machinery, see :func:`kinds`. The cases that always run hold every pair of choices but those
of architecture and method, of which there are several times as many as cases; the slow ones hold those as well. What
architecture and method have to do with each other passes through the engine, which ``test_architectures_contract``
holds exact for every architecture.
"""

import functools
import itertools

import numpy as np
import pytest
from architecture_problem import small

from tfmtl2r import MultiTaskRanker, Task, architectures, methods
from tfmtl2r._backend import keras, tf
from tfmtl2r.methods.base import MODES
from tfmtl2r.testing.architecture import SCHEMA, TASKS

MOST = 40  # cases that always run


@functools.cache
def kinds():
    """The first method of every kind of machinery: what it needs, and whether it keeps rows."""
    found = {}
    for name in methods.names():
        method = methods.get(name)
        found.setdefault((method.needs, method.per_parameter), name)
    return sorted(found.values())


@functools.cache
def candidates():
    """All choices that go together; a scalarisation, which is the same in both modes, in one of them."""
    modes = {}
    for name in kinds():
        method = methods.get(name)
        modes[name] = method.modes if method.needs & {"gram", "rows"} else MODES[:1]
    context = {name: architectures.get(name).list_context for name in architectures.names()}
    return [
        (architecture, method, mode, layout)
        for architecture, method, mode, layout in itertools.product(context, modes, MODES, ("lists", "rows"))
        if mode in modes[method] and not (context[architecture] and layout == "rows")
    ]


def covering(chosen, kept):
    """Adds cases, each of which covers the most pairs of choices that none before it has, until none is left.

    Args:
        chosen: cases that are there already.
        kept: whether a pair of choices counts, given their places in a case.
    """
    pairs = {case: {pair for pair in itertools.combinations(enumerate(case), 2) if kept(pair[0][0], pair[1][0])}
             for case in candidates()}  # fmt: skip
    chosen, missing = [*chosen], set().union(*pairs.values()).difference(*map(pairs.get, chosen))
    while missing:
        chosen.append(max(pairs, key=lambda case: len(pairs[case] & missing)))
        missing -= pairs[chosen[-1]]
    return chosen


FAST = covering([], lambda first, second: (first, second) != (0, 1))
CASES = [
    pytest.param(*case, marks=[] if case in FAST else [pytest.mark.long], id="-".join(case))
    for case in covering(FAST, lambda *_: True)
]


def funnel(rng, layout):
    """16 lists of 1 to 5 items, or as many rows; who buys has clicked, who likes has bought."""
    shape = (16, 5) if layout == "lists" else (16,)
    x = {
        "x": rng.normal(size=(*shape, 3)).astype(np.float32),
        "age": rng.normal(size=16).astype(np.float32),
        "brand": rng.integers(0, 4, shape).astype(np.int32),
    }
    if layout == "lists":
        x["list_size"] = rng.integers(1, 6, 16).astype(np.int32)
    drive = x["x"][..., 0] + 0.5 * (x["brand"] == 1)
    thresholds = dict(zip(TASKS, (-0.5, 0.0, 0.5), strict=True))
    return x, {task: (drive > threshold).astype(np.float32) for task, threshold in thresholds.items()}


@pytest.mark.product
@pytest.mark.parametrize(("architecture", "method", "mode", "layout"), CASES)
def test_trains(rng, architecture, method, mode, layout):
    tasks = [Task(task, kind="binary", loss="bce", metrics=()) for task in TASKS]
    model = MultiTaskRanker({"name": architecture, **small(architecture)}, tasks, SCHEMA)
    # A small rate: on such separable data some methods overshoot as soon as a loss is nearly 0.
    model.compile(keras.optimizers.Adam(0.005), method=method, gradients=mode, train_metrics=False)
    before = [np.array(v) for v in model.trainable_variables]
    data = tf.data.Dataset.from_tensors(funnel(rng, layout)).repeat(4)
    losses = model.fit(data, epochs=6, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    still = [v.path for v, start in zip(model.trainable_variables, before, strict=True) if (np.array(v) == start).all()]
    assert not still, "a variable that no step has moved"


def test_the_cases_that_always_run_are_few_and_hold_every_choice():
    assert len(FAST) <= MOST
    assert [{case[i] for case in FAST} for i in range(4)] == [{case[i] for case in candidates()} for i in range(4)]
    held = {(case[0], *case[2:]) for case in FAST}
    assert all(any(h[0] == c[0] and h[i] == c[i + 1] for h in held) for c in candidates() for i in (1, 2))
