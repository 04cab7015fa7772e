"""Times from every kind of column: points on circles by hand, ages, zones, missing ones."""

import datetime
import zoneinfo

import numpy as np
import pandas as pd
import pytest

from tfmtl2r import Dense, Schema, Task
from tfmtl2r._backend import tf
from tfmtl2r.batch import Batch
from tfmtl2r.data import Lists, fit_schema, from_frame, read_lists
from tfmtl2r.data.columns import feature_values
from tfmtl2r.errors import InputError
from tfmtl2r.features import Time
from tfmtl2r.features.base import MISSING
from tfmtl2r.layers.calendar import Moments, changes_of, day_of_year
from tfmtl2r.layers.features import Encoder, Lookup

MOMENT = 1_700_000_000  # 2023-11-14 22:13:20, a Tuesday


def encoded(feature, **values):
    schema = Schema([feature, Dense("other")])
    raw = {name: tf.constant(value, tf.int64) for name, value in values.items()}
    raw["other"] = tf.zeros(len(next(iter(values.values()))))
    return Encoder(schema)(batch=Batch(Lookup(schema)(raw))).numpy()[:, :-1]


@pytest.mark.parametrize("texts", [["20240131", "20240201"], ["20240131", "2024-02-01"], ["2024", ""], ["-5", "7"]])
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_text_of_digits_is_no_date(texts, suffix, tmp_path):
    """It would be a date in one table, and seconds since 1970 in another, where all cells are digits."""
    frame = pd.DataFrame({"t": texts, "y": [0, 1]})
    path = tmp_path / f"a.{suffix}"
    frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path)
    with pytest.raises(InputError, match=f"'t' is no ISO 8601 time: '{texts[0]}' in row 0.*set unit"):
        fit_schema(read_lists([path]), [Task("y", kind="binary")], [Time("t")])


def test_circles_by_hand():
    """A missing time is no point of a circle, and has an indicator."""
    found = encoded(Time("t"), t=[MOMENT, -1])
    expected = [-0.448799180, 0.893632640, 0.987557985, -0.157255288, -0.727023215, 0.686612879, 0]
    np.testing.assert_allclose(found, [expected, [0] * 6 + [1]], atol=2e-6)
    whole = encoded(Time("t", parts="weekday", unit="D", missing=False), t=[MOMENT // 86400])
    np.testing.assert_allclose(whole, [[0.781831482, 0.623489802]], atol=1e-6)


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_units(unit):
    parts = {"ms": 1000, "us": 10**6, "ns": 10**9}[unit]
    seconds = encoded(Time("t"), t=[MOMENT, -12345, 1])
    np.testing.assert_allclose(
        encoded(Time("t", unit=unit), t=[MOMENT * parts, -12345 * parts, parts]), seconds, atol=1e-5)


def test_ages_by_hand():
    ages = np.array([0, 1, 3600, 86400, -5])
    feature = Time("t", parts=(), reference="now", missing=False)
    now = np.full(5, MOMENT)
    np.testing.assert_allclose(
        encoded(feature, t=now - ages, now=now)[:, 0], (0, 0.693147181, 8.188966864, 11.366754529, 0), atol=2e-6)
    columns = {"t": pd.to_datetime(now - ages, unit="s"), "now": pd.to_datetime(now, unit="s")}
    lists = Lists({name: one.to_numpy() for name, one in columns.items()} | {"y": np.array([0, 1, 0, 1, 0])})
    fitted = fit_schema(lists, [Task("y", kind="binary")], [feature]).features[0]
    logs = np.log1p(np.maximum(ages, 0))
    assert (fitted.mean, fitted.variance) == (pytest.approx(logs.mean()), pytest.approx(logs.var()))
    found = encoded(fitted, t=[*(now - ages), -1, MOMENT], now=[*now, MOMENT, -1])[:, 0]
    np.testing.assert_allclose(found, [*(logs - logs.mean()) / logs.std(), 0, 0], atol=1e-5)


def test_half_lives_and_buckets_by_hand():
    ages = np.array([0, 1, 3600, 86400, -5])
    feature = Time("t", parts=(), reference="now", missing=False, half_life=1.0, age_buckets=True)
    found = encoded(feature, t=[*(MOMENT - ages), -1], now=np.full(6, MOMENT))
    assert found.shape == (6, feature.width)
    np.testing.assert_allclose(found[:, 1], [1, 0.999991977, 0.971531941, 0.5, 1, 0], atol=1e-7)
    np.testing.assert_array_equal(found[:5, 2:].argmax(axis=1), [0, 1, 11, 16, 0])
    np.testing.assert_array_equal(found[:, 2:].sum(axis=1), [1, 1, 1, 1, 1, 0])
    bounds = 2 ** np.arange(1, 24)
    for ages, expected in ((bounds - 1, np.arange(1, 24)), (bounds - 2, np.arange(23))):
        found = encoded(feature, t=MOMENT - ages, now=np.full(23, MOMENT))[:, 2:]
        np.testing.assert_array_equal(found.argmax(axis=1), expected)


@pytest.mark.parametrize(("zone", "start"), [
    ("Europe/Berlin", 1_711_846_800), ("Europe/Berlin", 1_729_990_800), ("America/New_York", 1_710_054_000),
    ("Australia/Lord_Howe", 1_712_415_600), ("+05:30", MOMENT),
])
def test_an_age_does_not_notice_a_change_of_the_clocks(zone, start):
    """Half an hour and a day before and after the change; calendars do notice it."""
    moments = start + np.array([-86400, -1800, -1, 0, 1800, 86400])
    now = np.full(6, start + 7200)
    for reference in (now, now + 90 * 86400):
        feature = Time("t", parts=("hour",), reference="now", zone=zone, missing=False)
        found = encoded(feature, t=moments, now=reference)
        np.testing.assert_allclose(found[:, 2], np.log1p(np.maximum(reference - moments, 0)), rtol=1e-6)
        plain = encoded(Time("t", parts=("hour",), reference="now", missing=False), t=moments, now=reference)
        np.testing.assert_array_equal(found[:, 2], plain[:, 2])
        assert (np.abs(found[:, :2] - plain[:, :2]).max(axis=1) > 0.1).all()


def test_several_times_have_one_reference():
    """The reference may be a time itself, in its own zone."""
    shown = Time("shown", reference="now", parts=(), missing=False)
    made = Time("made", reference="now", zone="Asia/Tokyo")
    request = Time("now", zone="Europe/Berlin", parts=("hour",), missing=False)
    times = {"shown": [MOMENT - 10, -1], "made": [MOMENT - 86400, MOMENT], "now": [MOMENT, MOMENT + 5]}
    alone = [encoded(one, **{name: times[name] for name in one.raw}) for one in (shown, made, request)]
    for order in ((shown, made, request), (request, made, shown)):
        schema = Schema(order)
        assert sorted(schema.inputs) == ["made", "now", "shown"]
        assert schema.inputs["now"] is request
        raw = {name: tf.constant(value, tf.int64) for name, value in times.items()}
        found = Encoder(schema)(batch=Batch(Lookup(schema)(raw))).numpy()
        parts = [alone[(shown, made, request).index(one)] for one in order]
        np.testing.assert_allclose(found, np.concatenate(parts, axis=1), atol=1e-6)
    assert Schema([shown, made]).inputs["now"] is shown
    frame = pd.DataFrame({name: pd.to_datetime(value, unit="s") for name, value in times.items()} | {"y": [0, 1]})
    fitted = fit_schema(from_frame(frame), [Task("y", kind="binary")], [shown, made])
    assert Schema.from_config(fitted.get_config()) == fitted


@pytest.mark.parametrize(("others", "message"), [
    ([Time("b", reference="now", unit="ms")], "'a' and 'b' both read 'now', but in different ways .* 's'.* 'ms'"),
    ([Time("b", reference="now", context=True)], "both read 'now', but in different ways"),
    ([Time("now", unit="ms")], "'now' and 'a' both read 'now', but in different ways"),
    ([Dense("now")], "'now' and 'a' both read 'now', but in different ways"),
])
def test_a_reference_that_is_read_in_two_ways_is_refused(others, message):
    with pytest.raises(ValueError, match=message):
        Schema([Time("a", reference="now"), *others])


def test_the_calendar_is_that_of_python():
    """Days of 1890 to 2110, and moments of zones with and without summer time."""
    days = np.arange(-29_000, 51_000, 37)
    first = datetime.date(1970, 1, 1)
    expected = [(first + datetime.timedelta(int(day))).timetuple().tm_yday - 1 for day in days]
    np.testing.assert_array_equal(day_of_year(tf.constant(days, tf.float32)), expected)
    moments = np.random.default_rng(0).integers(-10**8, 2 * 10**9, 200)
    for zone in ("Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"):
        found = Moments("s", changes_of(zone))(tf.constant(moments)).numpy()
        local = [datetime.datetime.fromtimestamp(int(one), zoneinfo.ZoneInfo(zone)) for one in moments]
        late = moments >= 0  # the first offset holds before 1970
        seconds = np.array([one.hour * 3600 + one.minute * 60 + one.second for one in local])
        np.testing.assert_array_equal(found[late, 1], seconds[late], err_msg=zone)
        np.testing.assert_array_equal(found[late, 0], np.array([(one.date() - first).days for one in local])[late])


SPELLED = ["2023-11-14T22:13:20", "2023-11-14 22:13:20+00:00", "2023-11-14T23:13:20+01:00"]


@pytest.mark.parametrize("cells", [
    pd.Series(pd.to_datetime([MOMENT, None], unit="s")), pd.Series(pd.to_datetime([MOMENT, None], unit="s", utc=True)),
    pd.Series(pd.to_datetime([MOMENT, None], unit="s", utc=True)).dt.tz_convert("Asia/Tokyo"),
    *(pd.Series([text, ""]) for text in SPELLED), *(pd.Series([text, None]) for text in SPELLED),
    pd.Series([datetime.datetime(2023, 11, 14, 22, 13, 20, tzinfo=datetime.UTC), None]),
    pd.Series([pd.Timestamp(MOMENT, unit="s"), pd.NaT], dtype=object),
    pd.Series(pd.to_datetime([MOMENT, None], unit="s")).astype("timestamp[us][pyarrow]"),
], ids=str)
def test_every_column_of_times(cells, tmp_path):
    frame = pd.DataFrame({"t": cells, "y": [0, 1]})
    feature = fit_schema(from_frame(frame), [Task("y", kind="binary")], [Time("t")]).features[0]
    assert feature_values(from_frame(frame), feature)["t"].tolist() == [MOMENT, -1]
    frame.to_csv(tmp_path / "a.csv", index=False)
    assert feature_values(read_lists([tmp_path / "a.csv"]), feature)["t"].tolist() == [MOMENT, -1]


@pytest.mark.parametrize(("cells", "unit", "expected"), [
    ([MOMENT, -5], "s", [MOMENT, -5]), ([MOMENT + 0.75, np.nan], "s", [MOMENT, -1]), ([1, None], "D", [1, -1]),
    ([MOMENT * 10**9, 3], "ns", [MOMENT * 10**9, 3]),
    ([datetime.date(1970, 1, 3), None], "D", [2, -1]), (["1970-01-03", ""], "ms", [2 * 86_400_000, -1]),
])
def test_epoch_numbers(cells, unit, expected, tmp_path):
    frame = pd.DataFrame({"t": cells})
    assert feature_values(from_frame(frame), Time("t", unit=unit))["t"].tolist() == expected
    frame.to_csv(tmp_path / "a.csv", index=False)
    assert feature_values(read_lists([tmp_path / "a.csv"]), Time("t", unit=unit))["t"].tolist() == expected


@pytest.mark.parametrize(("make", "message"), [
    (lambda: Time("t", parts=("month",)), "parts must be among hour, weekday, day_of_year, not 'month'"),
    (lambda: Time("t", unit="h"), "unit must be one of s, ms, us, ns, D"),
    (lambda: Time("t", parts=()), "give parts, or a reference"),
    (lambda: Time("t", half_life=1.0), "half_life and age_buckets read the age: give a reference"),
    (lambda: Time("t", reference="now", half_life=0.0), "half_life must be a number of days above 0"),
    (lambda: Lookup(Schema([Time("t", zone="Europe/Berlyn")])), r"zone is a name such as .*, not 'Europe/Berlyn'"),
    (lambda: Lookup(Schema([Time("t", zone="+5h")])), r"not '\+5h'"),
    (lambda: feature_values(from_frame(pd.DataFrame({"t": [1, 2]})), Time("t")), "contains numbers .*set unit"),
    (lambda: feature_values(from_frame(pd.DataFrame({"t": ["2024-01-01", "soon"]})), Time("t")),
     "is no ISO 8601 time: 'soon' in row 1"),
    (lambda: feature_values(from_frame(pd.DataFrame({"t": [np.inf]})), Time("t", unit="s")), "inf in row 0"),
])
def test_what_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("missing", MISSING)
def test_every_spelling_of_a_missing_cell_in_a_text_file(missing, tmp_path):
    (tmp_path / "t.csv").write_text(f"t,y\n2023-11-14T22:13:20,1\n{missing},0\n2023-11-14 22:13:20.5,1\n")
    lists = read_lists([tmp_path / "t.csv"])
    for unit, expected in (("s", [MOMENT, -1, MOMENT]), (None, [MOMENT, -1, MOMENT])):
        assert feature_values(lists, Time("t", unit=unit))["t"].tolist() == expected


def test_a_time_that_nobody_declared_is_refused_with_the_kind():
    lists = from_frame(pd.DataFrame({"t": pd.to_datetime([1, 2], unit="s"), "y": [0, 1]}))
    with pytest.raises(ValueError, match="declare it as a time"):
        fit_schema(lists, [Task("y", kind="binary")])
