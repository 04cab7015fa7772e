"""Caches of the test tools keep a bounded number of traces."""

from tfmtl2r.testing import steps


def test_a_cache_keeps_the_last_used_and_forgets_the_oldest():
    made = []

    @steps.cached_per_object
    def make(thing, number):
        made.append(number)
        return number

    thing = object()
    for number in range(steps.MOST_TRACES):
        make(thing, number)
    assert make(thing, 0) == 0
    make(thing, -1)  # one more than it keeps: number 1 is the one used least recently
    made.clear()
    assert (make(thing, 0), make(object(), 0), make(thing, 1)) == (0, 0, 1)
    assert made == [0, 1]
