"""Architectures x methods x gradient modes x lists or rows: 40 short fits, the first of which always run.

Methods stand for kinds of machinery, see :func:`kinds`. One case per architecture comes first: these always run, and
hold each architecture, kind, mode and layout at least once. After them each case covers as many pairs of choices as
possible that no earlier one has. The 40 hold every pair but some of architecture and kind, of which there are several
times as many as cases. What these have to do with each other passes through the engine, which
``test_architectures_contract`` holds exact for every architecture.
"""

import functools
import itertools

import numpy as np
import pytest
from architecture_problem import SCHEMA, TASKS, small

from tfmtl2r import MultiTaskRanker, Task, architectures, methods
from tfmtl2r._backend import keras, tf
from tfmtl2r.methods._base import MODES

FAST, ALL = len(architectures.names()), 40


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


def covering_set(limit):
    """One case per architecture, then others, in the order in which they cover most new pairs."""
    pairs = {case: {*itertools.combinations(enumerate(case), 2)} for case in candidates()}
    covered, chosen = set(), []
    while len(chosen) < limit:
        seen = {case[0] for case in chosen}
        open_to = [case for case in candidates() if case[0] not in seen] or candidates()
        best = max(open_to, key=lambda case: len(pairs[case] - covered))
        if not pairs[best] - covered:
            break
        covered |= pairs[best]
        chosen.append(best)
    return chosen


CASES = [
    pytest.param(*case, marks=[pytest.mark.slow] if i >= FAST else [], id="-".join(case))
    for i, case in enumerate(covering_set(ALL))
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


@pytest.mark.parametrize(("architecture", "method", "mode", "layout"), CASES)
def test_trains(rng, architecture, method, mode, layout):
    tasks = [Task(task, kind="binary", loss="bce", metrics=()) for task in TASKS]
    model = MultiTaskRanker({"name": architecture, **small(architecture)}, tasks, SCHEMA)
    model.compile(keras.optimizers.Adam(0.02), method=method, gradients=mode, train_metrics=False)
    before = [np.array(v) for v in model.trainable_variables]
    data = tf.data.Dataset.from_tensors(funnel(rng, layout)).repeat(4)
    losses = model.fit(data, epochs=6, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    still = [v.path for v, start in zip(model.trainable_variables, before, strict=True) if (np.array(v) == start).all()]
    assert not still, "a variable that no step has moved"


def test_the_covering_set_covers():
    """Every pair of choices that can go together, but for some of architecture and method."""
    cases = covering_set(ALL)
    for first, second in [(0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]:
        wanted = {(case[first], case[second]) for case in candidates()}
        assert wanted == {(case[first], case[second]) for case in cases}
    fast = cases[:FAST]
    assert [{case[i] for case in fast} for i in range(4)] == [{case[i] for case in candidates()} for i in range(4)]
    assert len(cases) == ALL
