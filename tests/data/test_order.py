"""The order of lists is a function of (seed, epoch, step), whatever reads it and however often it is looked at."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfmtl2r import Dense, MultiTaskRanker, Schema, Task
from tfmtl2r._backend import keras, tf
from tfmtl2r.data import Lists, batches
from tfmtl2r.data.order import Order
from tfmtl2r.data.passes import following

SHAPES = st.tuples(st.integers(1, 60), st.integers(1, 9), st.integers(1, 70), st.booleans())


def whole(order, epoch):
    return [order.batch(epoch, step).tolist() for step in range(order.num_batches)]


@settings(max_examples=30, deadline=None)
@given(SHAPES, st.sampled_from([(), (2,), (1, 3)]), st.integers(0, 3))
def test_an_epoch_is_every_list_once_in_batches_of_one_bucket(shape, bounds, epoch):
    lists, batch_size, window, shuffle = shape
    sizes = np.random.default_rng(lists).integers(1, 6, lists)
    order = Order(sizes, batch_size, shuffle=shuffle, seed=5, bounds=bounds, window=window)
    found = whole(order, epoch)
    assert sorted(itertools.chain(*found)) == list(range(lists))
    assert all(1 <= len(batch) <= batch_size for batch in found)
    assert all(len(set(np.searchsorted(bounds, sizes[batch]))) == 1 for batch in found)
    again = Order(sizes, batch_size, shuffle=shuffle, seed=5, bounds=bounds, window=window)
    assert again.batch(epoch, order.num_batches - 1).tolist() == found[-1]  # asked for alone, in a new process
    if not bounds:
        assert [len(batch) for batch in found[:-1]] == [batch_size] * (len(found) - 1)
    for workers in (1, 2, 3, 16):
        shares = [order.share(epoch, 0, worker, workers) for worker in range(workers)]
        assert sorted(np.concatenate(shares)) == sorted(found[0])


def test_shuffling_stays_inside_a_window_and_reaches_all_of_it():
    order = Order(np.ones(1000), 100, shuffle=True, seed=0, window=100)
    seen = [order.batch(0, step) for step in range(10)]
    assert sorted(batch.min() for batch in seen) == list(range(0, 1000, 100))
    assert [batch.min() for batch in seen] != list(range(0, 1000, 100))  # windows are shuffled, too
    assert all(batch.max() - batch.min() == 99 for batch in seen)
    small = Order(np.ones(50), 50, shuffle=True, seed=0)
    firsts = {int(small.batch(epoch, 0)[0]) for epoch in range(400)}
    assert firsts == set(range(50))  # every list may come first: a small table is shuffled as a whole
    assert whole(small, 1) != whole(small, 2)
    assert whole(Order(np.ones(50), 50, shuffle=True, seed=1), 1) != whole(small, 1)


def test_a_batch_goes_round_the_streams():
    order = Order(np.ones(64), 64, shuffle=True)
    batch = order.batch(0, 0)
    for workers in (2, 4, 8):  # a worker has whole streams: half of the workers read two workers' lists each
        for worker in range(workers // 2):
            both = [order.share(0, 0, w, workers).tolist() for w in (worker, worker + workers // 2)]
            assert sorted(itertools.chain(*both)) == sorted(order.share(0, 0, worker, workers // 2).tolist())
            assert len(both[0]) == len(both[1]) == 64 // workers
    assert order.share(0, 0, 3, 16).tolist() == batch[3::16].tolist()
    with pytest.raises(ValueError, match="worker 0 of 17: expected 0 <= worker < workers <= 16"):
        order.share(0, 0, 0, 17)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    columns = {"x": rng.normal(size=60), "click": rng.integers(0, 2, 60), "row": np.arange(60)}
    return Lists(columns, offsets=np.arange(0, 61, 3))


def ranker():
    keras.utils.set_random_seed(1)
    model = MultiTaskRanker({"name": "shared_bottom", "units": [2], "head_units": []},
                            [Task("click", kind="binary", metrics=())], Schema([Dense("x")]))
    model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    return model


def weights(model):
    return [np.array(v) for v in model.weights]


def test_looks_evaluations_and_pauses_are_no_epochs(data):
    """A peek, an evaluation and a second fit do not move the order; the ranker counts, also behind map and take."""
    task, schema = [Task("click", kind="binary", metrics=())], Schema([Dense("x")])
    seen = []

    def trained(disturb, *epochs):
        model, train = ranker(), batches(data, task, schema, batch_size=4, shuffle=True, seed=2)
        train = train.map(lambda x, y: (x, y)).take(2)  # made from the pipeline, and not all of it
        for number in epochs:
            if disturb:
                next(iter(train))
                model.evaluate(train, verbose=0)
                list(train)
            model.fit(train, epochs=number, verbose=0)
        seen.append([x["x"].numpy().ravel().tolist() for x, _ in train])
        return weights(model)

    for one, other in zip(trained(False, 2), trained(True, 1, 1), strict=True):
        np.testing.assert_array_equal(one, other)
    assert seen[0] == seen[1]  # after fit, the data show their first epoch again


def test_two_trainings_of_one_data_set_do_not_mix(data):
    passes = batches(data, (), Schema([Dense("x")]), batch_size=20, shuffle=True)

    def first():
        return next(iter(passes))["x"].numpy()[:, 0].tolist()

    with following(passes, lambda: 3):
        outer = first()
        with following(passes.map(lambda x: x), lambda: 4):
            assert first() != outer
        assert first() == outer
    assert first() != outer
    with following(tf.data.Dataset.range(3), lambda: 1), following(np.ones(3), lambda: 1):  # data without epochs
        pass


@pytest.mark.parametrize("window", [100, 3])
def test_draws_are_independent_orders_in_turn(window):
    """Each draw reads every list once in an epoch, in an order of its own; the first is that of one draw."""
    sizes = np.ones(11, int)
    order, plain = (Order(sizes, 4, shuffle=True, seed=5, window=window, draws=draws) for draws in (3, 1))
    assert (order.num_batches, [len(batch) for batch in whole(order, 1)]) == (plain.num_batches, [12, 12, 9])
    drawn = [[number for batch in whole(order, 1) for number in batch[draw::3]] for draw in range(3)]
    assert [sorted(one) for one in drawn] == [list(range(11))] * 3
    assert drawn[0] == [number for batch in whole(plain, 1) for number in batch]
    assert drawn[0] != drawn[1] != drawn[2]
    for wrong in ({"shuffle": False}, {"bounds": [1]}):
        with pytest.raises(ValueError, match="need a shuffled order without buckets"):
            Order(sizes, 4, **{"shuffle": True, **wrong}, draws=2)
