"""A store gives the batches and the results of the same files in memory, and nothing half-written or changed."""

import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest

from tfmtl2r import cli, datasets
from tfmtl2r.data import Lists, batches
from tfmtl2r.data.order import Seat
from tfmtl2r.data.store import writing
from tfmtl2r.data.store.manifest import Manifest
from tfmtl2r.errors import DamagedError
from tfmtl2r.experiment import Experiment
from tfmtl2r.task import Task
from tfmtl2r.training.fitting import batches_of

pytest.importorskip("duckdb", reason="DuckDB is in the extra [store]")
ROWS = 1000
TASKS = [{"name": "click", "kind": "binary", "weight_column": "w"}, {"name": "grade"},
         {"name": "seconds", "kind": "regression", "transform": "log1p"}]


def rows() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    query, x = rng.integers(0, 120, ROWS), rng.normal(size=ROWS)
    return pd.DataFrame({
        "q": query, "age": query * 7 % 50, "x": x, "z": np.where(rng.random(ROWS) < 0.1, np.nan, rng.normal(size=ROWS)),
        "brand": rng.choice(["a", "b", "c", ""], ROWS), "vector": list(rng.normal(size=(ROWS, 3))),
        "tags": [list(rng.choice(["a", "b", "d"], rng.integers(0, 4))) for _ in range(ROWS)],
        "click": (x + rng.normal(size=ROWS) > 0).astype(int), "grade": rng.integers(0, 4, ROWS),
        "seconds": rng.exponential(20, ROWS), "w": rng.random(ROWS),
    })


def experiment(folder, **data) -> Experiment:
    return Experiment(
        name="one", directory=str(folder / "runs"), tasks=TASKS, optimizer={"name": "sgd", "learning_rate": 0.05},
        features=["x", {"name": "age", "transform": "rank_gauss"}, "*"],
        training={"epochs": 2, "batch_size": 16, "seed": 3},
        data={"files": str(folder / "log.parquet"), "list_id": "q", "context": ["age"],
              "split": {"vali": 0.2, "test": 0.2}, **data})


def store(one: Experiment, folder, shard_items):
    data = one.dataset()
    return data.to_store(folder, one.select(data), shard_items)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The data set in memory and in a store of shards of about 100 items."""
    folder = tmp_path_factory.mktemp("store")
    rows().to_parquet(folder / "log.parquet")
    store(experiment(folder), folder / "store", 100)
    return experiment(folder), experiment(folder, files=str(folder / "store"))


def equal(one, other):
    flat, same = _leaves(one), _leaves(other)
    assert list(flat) == list(same)
    for name, value in flat.items():
        np.testing.assert_array_equal(value, same[name], err_msg=str(name))
        assert value.dtype == same[name].dtype


def _leaves(batch):
    parts = batch if isinstance(batch, tuple) else (batch,)
    found = {}
    for number, part in enumerate(parts):
        for name, value in part.items():
            found |= {(number, name, kind): np.asarray(one) for kind, one in value.items()} if isinstance(value, dict) \
                else {(number, name): np.asarray(value)}
    return found


@pytest.mark.parametrize("options", [
    {"shuffle": True, "seed": 5, "epoch": 3}, {"buckets": "auto", "drop_remainder": True},
    {"list_limit": 5, "truncate": "first", "shuffle": True}, {"list_limit": 5, "truncate": "random", "epoch": 1},
    {"propensity_weights": {"click": "w"}},
])
def test_the_batches_of_memory(both, options):
    memory, stored = (one.dataset() for one in both)
    tasks = memory.select(None)
    made = []
    for data in (memory, stored):
        found = batches(data.lists("train"), tasks, data.schema(tasks), batch_size=7, **options)
        made.append(list(found))
        equal(made[-1][3], next(iter(found.from_step(3))))  # a resumed epoch starts where the position says
    assert len(made[0]) == len(made[1])
    for one, other in zip(*made, strict=True):
        equal(one, other)
    some = np.array([3, 1, 40, 7])
    parts = [next(iter(batches(data.lists("train").select(some), tasks, data.schema(tasks)))) for data in
             (memory, stored)]
    equal(*parts)


def test_every_list_once_per_epoch(both):
    memory, stored = (one.dataset() for one in both)
    train, x = stored.lists("train"), memory.lists("train").column("x").astype(np.float32)
    assert sum(memory.lists(split).num_items for split in memory.splits) == ROWS
    assert (train.num_lists, train.num_items) == (memory.lists("train").num_lists, len(x))
    data = batches(train, (), stored.schema(), batch_size=9, shuffle=True)
    for _ in range(2):
        seen = [row[:size] for batch in data
                for row, size in zip(batch["x"].numpy(), batch["list_size"].numpy(), strict=True)]
        assert len(seen) == train.num_lists
        np.testing.assert_array_equal(np.sort(np.concatenate(seen)), np.sort(x))


def test_the_statistics_and_the_fingerprints_of_memory(both):
    memory, stored = (one.dataset() for one in both)
    assert stored.schema() == memory.schema()
    for split in memory.splits:
        assert stored.lists(split).fingerprint() == memory.lists(split).fingerprint()
        assert stored.lists(split).order() == memory.lists(split).order()
        assert stored.lists(split).ids.tolist() == memory.lists(split).ids.tolist()
    parts = [*stored.lists("train").parts(100)]
    assert len(parts) == 7
    assert sum(part.num_items for part in parts) == stored.lists("train").num_items


@pytest.mark.slow
@pytest.mark.long
def test_the_results_of_memory(both):
    cards = [one.run(verbose=0, overwrite=True)[1] for one in both]
    for task, metrics in cards[0].results["test"].items():
        for metric, found in metrics.items():
            assert cards[1].results["test"][task][metric]["value"] == pytest.approx(found["value"], abs=1e-5), metric
    for one in cards:
        one.data["train"].pop("source", None)
    assert cards[0].data == cards[1].data


def test_a_changed_or_truncated_shard_is_an_error_before_training(both, tmp_path):
    shutil.copytree(both[1].data.files, tmp_path / "store")
    shard = tmp_path / "store" / "train-00002.bin"
    content = shard.read_bytes()
    for wrong, message in ((content[:-1], r"train-00002.bin: .* bytes"),
                           (b"\x01" + content[1:], r"train-00002.bin: .* has changed")):
        shard.write_bytes(wrong)
        with pytest.raises(ValueError, match=message):
            both[1].but(data={"files": str(tmp_path / "store")}, directory=str(tmp_path)).run(verbose=0)
    shard.unlink()
    with pytest.raises(ValueError, match=r"train-00002.bin: .* is missing"):
        both[1].but(data={"files": str(tmp_path / "store")}, directory=str(tmp_path)).run(verbose=0)


def test_a_shard_that_ends_too_early_during_training_is_named(both, tmp_path):
    shutil.copytree(both[1].data.files, tmp_path / "store")
    experiment = both[1].but(data={"files": str(tmp_path / "store")})
    dataset = experiment.dataset()
    model = experiment.model(dataset)
    train, _ = batches_of(experiment, model, dataset.lists("train"), dataset.lists("vali"))
    shard = tmp_path / "store" / "train-00000.bin"
    os.truncate(shard, shard.stat().st_size // 2)
    with pytest.raises(DamagedError, match=r"train-00000.bin: the file of the store ends too early: make the store"):
        model.fit(train, epochs=1, verbose=0)


def test_an_interrupted_preparation_continues(both, tmp_path, monkeypatch):
    made, real = [], writing._shard

    def interrupted(folder, split, number, *rest):
        if len(made) == 4:
            raise KeyboardInterrupt
        made.append(number)
        return real(folder, split, number, *rest)

    monkeypatch.setattr(writing, "_shard", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store(both[0], tmp_path / "store", 100)
    with pytest.raises(FileNotFoundError, match="no whole store"):
        both[1].but(data={"kind": "store", "files": str(tmp_path / "store")}).dataset()
    (tmp_path / "store" / "train-00001.bin").write_bytes(b"half")
    whole = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "store").glob("train-*.bin")}
    monkeypatch.setattr(writing, "_shard", real)
    found = store(both[0], tmp_path / "store", 100)
    expected = Manifest.open(both[1].data.files)
    assert found.content == expected.content
    kept = {name for name, when in whole.items() if (found.folder / name).stat().st_mtime_ns == when}
    assert kept == {"train-00000.bin", "train-00002.bin", "train-00003.bin"}
    assert not (found.folder / writing.WORK).exists()
    assert store(both[0], tmp_path / "store", 100).content == expected.content  # whole already
    with pytest.raises(ValueError, match="another preparation"):
        store(both[0], tmp_path / "store", 99)


def test_what_was_not_prepared_is_an_error(both, tmp_path):
    with pytest.raises(ValueError, match=r"prepared with data.split = .*, not .*: leave it out"):
        both[1].but(data={"split": {"vali": 0.3, "test": 0.2}}).dataset()
    stored = both[1].dataset()
    with pytest.raises(ValueError, match="not prepared for the task 'x' with the label 'x'"):
        stored.schema([Task("x")])
    lists: Lists = stored.lists("train")
    with pytest.raises(ValueError, match=r"the column 'brand' is not in the store .*Set data.files"):
        lists.column("brand")
    with pytest.raises(ValueError, match="is a store already"):
        store(both[1], tmp_path / "other", 100)


def test_plain_rows_of_a_text_file_with_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows().drop(columns=["vector"]).assign(tags="a|b").to_csv("log.csv", index=False)
    (tmp_path / "e.toml").write_text('[data]\nfiles = "log.csv"\n[[tasks]]\nname = "click"\n'
                                     'kind = "binary"\nweight_column = "w"\n')
    assert cli.main(["prepare", "e.toml", "--to", "store", "--shard-items", "200"]) == 0
    out = capsys.readouterr().out
    assert "store: the store is whole; train from it with --data.files store" in out
    assert "train split: " in out
    memory, stored = (datasets.get(kind, files=files, goals=TASKS[:1]) for kind, files in
                      (("table", "log.csv"), ("store", "store")))
    assert len(json.loads((tmp_path / "store" / "manifest.json").read_text())["splits"]["train"]["shards"]) > 2
    parts = [batches(data.lists("train"), data.tasks(), data.schema(), batch_size=256, shuffle=True)
             for data in (memory, stored)]
    for one, other in zip(*parts, strict=True):
        equal(one, other)


def test_letor_files(tmp_path):
    rng = np.random.default_rng(0)
    lines = [f"{rng.integers(0, 3)} qid:{row // 4} 1:{rng.random():.3f} 3:{row} # inc = 1\n" for row in range(400)]
    (tmp_path / "log.txt").write_text("".join(lines))
    memory = datasets.get("table", files=str(tmp_path / "log.txt"), kind="letor",
                          goals=[{"name": "grade", "label": "label"}])
    memory.to_store(tmp_path / "store", shard_items=50)
    stored = datasets.get("store", files=str(tmp_path / "store"), goals=memory.goals)
    parts = [batches(data.lists("test"), data.tasks(), data.schema(), batch_size=32) for data in (memory, stored)]
    assert stored.lists("test").ids.tolist() == memory.lists("test").ids.tolist()
    for one, other in zip(*parts, strict=True):
        equal(one, other)


def test_two_workers_read_shares_of_the_same_batches(both):
    """The last batch has one list, so that the second worker has none."""
    stored = both[1].dataset()
    tasks = stored.select(None)
    train = stored.lists("train").select(np.arange(15))
    data = batches(train, tasks, stored.schema(tasks), batch_size=7)
    shares = [list(data.at_seat(Seat(worker, 2))) for worker in range(2)]
    assert len(shares[0]) == 3
    for (whole, *_), *parts in zip(data, *shares, strict=True):
        for worker, (x, *_) in enumerate(parts):
            np.testing.assert_array_equal(x["list_size"], whole["list_size"][worker::2])
            np.testing.assert_array_equal(x["age"], whole["age"][worker::2])


@pytest.mark.slow
def test_from_files_over_a_store_to_an_export_by_commands_alone(tmp_path, monkeypatch, capsys):
    """Each command is the one that the command before it names."""
    monkeypatch.chdir(tmp_path)
    for split, some in rows().groupby(rows()["q"] % 3):
        some.drop(columns=["vector"]).to_parquet(f"{('train', 'vali', 'test')[split]}.parquet")
    (tmp_path / "e.toml").write_text(
        'tasks = [{name = "click", kind = "binary"}]\ntraining = {epochs = 1}\narchitecture = {name = "shared_bottom", '
        'units = [4]}\n[data]\ntrain = "train.parquet"\nvali = "vali.parquet"\ntest = "test.parquet"\nlist_id = "q"\n')
    assert cli.main(["prepare", "e.toml", "--to", "store"]) == 0
    assert "train from it with --data.files store" in capsys.readouterr().out
    assert cli.main(["train", "e.toml", "--name", "a", "--data.files", "store"]) == 0
    assert cli.main(["export", "a"]) == 0
    said = capsys.readouterr()
    assert "a store holds no raw values, so warm-up requests have generated values" in said.err
    assert "exported and checked: saved_models/a/1" in said.out
    assert cli.main(["evaluate", "a", "--importance"]) == 1
    said = capsys.readouterr()
    assert "a store contains no columns whose values could be exchanged" in said.err
    assert said.out == "", "a result came before the refusal"
    assert cli.main(["train", "e.toml", "--name", "b", "--data.files", "store", "--from", "a"]) == 0
