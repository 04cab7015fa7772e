"""Serialized requests of any content: an answer with finite numbers or an error, and neither a crash nor a hang."""

import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving_problem import SCHEMA, asked

from tfmtl2r._backend import tf
from tfmtl2r.serving.parsing import item_messages, list_messages, one_item_lists

pytestmark = pytest.mark.slow
EXAMPLES = 2000
LONGEST = 60.0  # seconds; a first call compiles, and the machine may be busy: only a call that hangs takes longer
"""Seconds for one request; a sound one takes milliseconds."""
LISTS = [m.SerializeToString() for m in list_messages(asked(), SCHEMA, {"blend_weights": 3})]
ITEMS = [m.SerializeToString() for m in item_messages(one_item_lists(asked(), SCHEMA), SCHEMA)]
KINDS = {"float_list": st.floats(width=32), "int64_list": st.integers(-(2**63), 2**63 - 1),
         "bytes_list": st.binary(max_size=20)}


@st.composite
def spoilt(draw, sound):
    """A sound message with bytes changed, cut out, repeated or put in."""
    data = bytearray(draw(st.sampled_from(sound)))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(data)))
        upto = min(len(data), place + draw(st.integers(0, 8)))
        data[place:upto] = draw(st.one_of(st.binary(max_size=8), st.just(bytes(data[place:upto]) * 3)))
    return bytes(data)


@st.composite
def examples(draw):
    """A valid example whose features have any type, any width and sometimes another name."""
    example = tf.train.Example()
    for name in draw(st.lists(st.sampled_from([*SCHEMA.names, "blend_weights", "list_size", ""]), max_size=6)):
        kind = draw(st.sampled_from(list(KINDS)))
        feature = example.features.feature[name]
        feature.Clear()
        getattr(feature, kind).value.extend(draw(st.lists(KINDS[kind], max_size=5)))
    return example


@st.composite
def list_of_examples(draw):
    """A valid ExampleListWithContext of such examples."""
    from tensorflow_serving.apis import input_pb2

    message = input_pb2.ExampleListWithContext()
    message.examples.extend(draw(st.lists(examples(), max_size=3)))
    message.context.CopyFrom(draw(examples()))
    return message.SerializeToString()


def answered(exported, signature, inputs):
    """Runs a request; an answer must be finite and as long as the request."""
    start = time.perf_counter()
    try:
        answer = exported.run({"inputs": inputs}, signature)
    except tf.errors.OpError:
        answer = None
    assert time.perf_counter() - start < LONGEST
    if answer is not None:
        for name, values in answer.items():
            assert len(values) == len(inputs), name
            assert values.dtype.kind != "f" or np.isfinite(values).all(), name
    return answer is not None


many = settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None,
                suppress_health_check=list(HealthCheck))


@pytest.mark.long
def test_lists(exported):
    outcomes = []

    @many
    @given(st.lists(st.one_of(st.binary(max_size=60), spoilt(LISTS), list_of_examples()), min_size=1, max_size=2))
    def run(inputs):
        outcomes.append(answered(exported, "predict_elwc", inputs))

    run()
    assert len(outcomes) >= EXAMPLES
    assert 0.02 < np.mean(outcomes) < 0.98, "the inputs should be neither all wrong nor all right"


def test_items(exported):
    outcomes = []

    @many
    @given(st.lists(st.one_of(st.binary(max_size=60), spoilt(ITEMS), examples().map(lambda e: e.SerializeToString())),
                    min_size=1, max_size=2))
    def run(inputs):
        outcomes.append(answered(exported, "classify", inputs))

    run()
    assert len(outcomes) >= EXAMPLES
    assert 0.02 < np.mean(outcomes) < 0.98, "the inputs should be neither all wrong nor all right"
