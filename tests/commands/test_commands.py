"""The command line, from training to export."""

import importlib
import json

import numpy as np
import pytest

from tfmtl2r import Experiment, architectures, cli
from tfmtl2r.commands import _options
from tfmtl2r.commands.list import PACKAGES, method_rows
from tfmtl2r.commands.train import COMMAND
from tfmtl2r.errors import InputError
from tfmtl2r.serving.check import METADATA

TRAIN = ["train", "--data", "synthetic_mslr", "--data.num-lists", "40", "--data.max-length", "12",
         "--data.num-tasks", "2", "--data.num-features", "8", "--architecture.units", "8", "4",
         "--epochs", "2", "--telemetry-every", "2"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_train_evaluate_export(here, capsys):
    wrong = [*TRAIN, "--name", "none", "--set", "export.blend={weights = {nothing = 1}}"]
    assert cli.main(wrong) == 1
    assert "nothing" in capsys.readouterr().err
    assert not (here / "runs/none/run.json").exists()
    assert cli.main([*TRAIN, "--name", "one", "--method", "graddrop", "--method.leak", "0.25",
                     "--set", "export.blend=rank"]) == 0
    card = json.loads((here / "runs/one/run.json").read_text())
    assert card["config"]["method"] == {"name": "graddrop", "leak": 0.25}
    assert card["config"]["architecture"]["units"] == [8, 4]
    assert card["data"]["train"]["num_lists"] == 40
    assert len(card["history"]["loss"]) == 2
    assert card["step_ms"] > 0
    assert f"kept: epoch {card['history']['kept'].index(1.0) + 1} of 2" in capsys.readouterr().out
    assert card["peak_memory_mb"] > 10
    task, result = next(iter(card["results"]["test"].items()))
    assert 0 < result["ndcg@5"]["value"] < 1
    assert result["ndcg@5"]["conventions"]["empty"] == "skip"
    per_list = np.load(here / "runs/one/per_list.npz")[f"test/{task}/ndcg@5"]
    np.testing.assert_allclose(np.nanmean(per_list), result["ndcg@5"]["value"], rtol=1e-5)
    assert list((here / "runs/one/logs/train").glob("events*"))

    capsys.readouterr()
    first, second = card["results"]["test"]
    assert cli.main(["evaluate", "one", "--preference", f"{first}=0.8", f"{second}=0.2", "--json", "served.json"]) == 0
    assert "the served ranking" in capsys.readouterr().out
    served = json.loads((here / "served.json").read_text())["served"]
    assert 0 < served[first]["ndcg@5"]["value"] < 1
    assert card["blend"] == {"by": "given", "kind": "rank"}
    again = json.loads((here / "runs/one/run.json").read_text())
    np.testing.assert_allclose(again["results"]["test"][task]["ndcg@5"]["value"], result["ndcg@5"]["value"], rtol=1e-5)
    assert cli.main(["evaluate", "one", "--split", "vali"]) == 0
    assert set(json.loads((here / "runs/one/run.json").read_text())["results"]) == {"test", "vali"}
    assert cli.main(["export", "one", "--blend", f"{task}=1"]) == 0
    assert (here / "saved_models/one/1/saved_model.pb").is_file()
    served = json.loads((here / "saved_models/one/1" / METADATA).read_text())
    assert (served["blend_kind"], served["blend"][task]) == ("rank", 1.0)  # the kind is that of the experiment


@pytest.mark.slow
def test_same_seed_same_run(here):
    for name in ("a", "b"):
        assert cli.main([*TRAIN, "--name", name]) == 0
    first, second = (json.loads((here / f"runs/{name}/run.json").read_text()) for name in ("a", "b"))
    assert first["history"] == second["history"]
    assert first["data"] == second["data"]
    assert first["blend"] == second["blend"]
    assert first["blend"]["by"] == "vali"
    assert {"deviation", "mixture", "rank", "sum"} <= {str(row["kind"]) for row in first["blend"]["table"]}
    assert cli.main(["export", "a"]) == 0
    served = json.loads((here / "saved_models/a/1" / METADATA).read_text())
    kind = first["blend"]["kind"]
    assert served["blend_kind"] == (kind if isinstance(kind, str) else kind["name"])
    assert served["blend_choice"] == first["blend"]


@pytest.mark.slow
def test_a_run_is_not_overwritten_unless_asked(here, capsys):
    assert cli.main([*TRAIN, "--name", "one"]) == 0
    before = (here / "runs/one/run.json").read_text()
    assert cli.main([*TRAIN, "--name", "one", "--seed", "1"]) == 1
    assert "holds a run already" in capsys.readouterr().err
    assert (here / "runs/one/run.json").read_text() == before
    assert cli.main([*TRAIN, "--name", "one", "--seed", "1", "--overwrite"]) == 0
    assert (here / "runs/one/run.json").read_text() != before
    assert len(list((here / "runs/one/logs/train").glob("events*"))) == 1


@pytest.mark.slow
def test_long_lists_are_cut_and_it_is_said(here):
    assert cli.main([*TRAIN, "--name", "cut", "--data.max-list-size", "5", "--data.truncate", "random"]) == 0
    cut = json.loads((here / "runs/cut/run.json").read_text())["data"]["train"]["cut"]
    assert cut["items_cut"] > 0


@pytest.mark.slow
def test_changed_data_are_noticed(here, capsys):
    assert cli.main([*TRAIN, "--name", "one"]) == 0
    path = here / "runs/one/run.json"
    card = json.loads(path.read_text())
    card["config"]["data"]["seed"] = 1
    path.write_text(json.dumps(card))
    assert cli.main(["evaluate", "one"]) == 1
    assert "the test split has changed since run 'one' was trained" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "did you mean 'train'"),
        (["train", "--method", "mgdaa"], "did you mean 'mgda'"),
        (["train", "--data", "nothing"], "no data set is called 'nothing'"),
        ([*TRAIN, "--name", "a b"], "run name 'a b'"),
        ([*TRAIN, "--name", "x", "--tasks", "clik"], "has no task 'clik'"),
        ([*TRAIN, "--name", "x", "--method", "mgda", "--preference", "task_1=1", "task_2=2"], "MGDA has no preference"),
        (["evaluate", "missing"], "is not a run of tfmtl2r train"),
        (["list", "everything"], "kind must be one of methods"),
        (["list", "cagard"], "did you mean 'cagrad'"),
    ],
)
def test_mistakes_are_one_line(here, capsys, arguments, message):
    assert cli.main(arguments) != 0
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


@pytest.mark.parametrize("width", [80, 120])
def test_methods_are_readable_at_the_width_of_a_terminal(width, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    assert cli.main(["list", "methods"]) == 0
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= width
    assert len(printed.splitlines()) < 11 * len(method_rows())
    flowing = " ".join(printed.split())
    for name, also, title, needs, _, costs, promises, _ in method_rows():
        assert f"{name}{f' ({also})' if also else ''}: {title} needs {needs}" in flowing
        assert f"costs {costs} {f'promises {promises} ' if promises else ''}source" in flowing


@pytest.mark.parametrize("width", [80, 120])
def test_list_is_a_page_of_names_with_a_line_each(width, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    assert cli.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    assert [line.split()[0] for line in lines if line.startswith("  ")] == [
        name for package in PACKAGES.values() for name in importlib.import_module(package).names()]


@pytest.mark.parametrize(("name", "expected"), [
    ("cagrad", ("CAGrad (conflict-averse", "Liu et al. 2021", "promises sums to tasks", "c = 0.4 radius around")),
    ("dwa", ("dynamic_weight_average (methods)", "also dwa", "temperature = 2.0")),
    ("mse", ("mse (losses)", "mse (metrics)")),
    ("dense", ("name (required)", "context = False")),
])
def test_list_explains_a_name(name, expected, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    assert cli.main(["list", name]) == 0
    flowing = " ".join(capsys.readouterr().out.split())
    assert not [part for part in expected if part not in flowing], flowing


def test_list_shows_everything_as_markdown(capsys):
    assert cli.main(["list", "--markdown"]) == 0
    out = capsys.readouterr().out
    for name in ("`mgda`", "`softmax`", "`ndcg`", "`shared_bottom`", "`kuairand_excerpt`"):
        assert name in out


def test_only_options_of_the_chosen_things_are_flags():
    flags = ["--method", "pcgrad", "--architecture.dropout", "0.5", "--seed", "4"]
    tree, _ = _options.parse(COMMAND, flags)
    assert tree == {"method": {"name": "pcgrad"}, "architecture": {"name": "shared_bottom", "dropout": 0.5},
                    "training": {"seed": "4"}}
    with pytest.raises(ValueError, match=r"--method.leak is not a flag of tfmtl2r train"):
        _options.parse(COMMAND, ["--method", "pcgrad", "--method.leak", "0.5"])


def test_base_and_ablations_are_flags():
    """The base of ``dml``, the base's own options, and the six runs of the paper."""
    def architecture(*flags):
        tree, _ = _options.parse(COMMAND, ["--architecture", "dml", *flags])
        return Experiment.of(tree).tree()["architecture"]

    base = ["--architecture.base", "ple", "--set", "architecture.base.levels=1", "--architecture.head-units", "9"]
    found = architecture(*base)
    assert found == {"name": "dml", "base": {"name": "ple", "levels": 1}, "head_units": [9]}
    assert architectures.get(found).base.num_levels == 1
    made = set()
    for switches in ("ctfm gkd", "gkd", "gkd stop-gradient", "ctfm", "", "stop-gradient"):
        off = [f"--no-architecture.{switch}" for switch in switches.split()]
        built = architectures.get(architecture("--architecture.base", "shared_bottom", *off))
        made.add((built.uses_ctfm, built.uses_gkd, built.stop_gradient))
    assert len(made) == 6
    with pytest.raises(InputError, match=r"--architecture.base is not a flag"):
        _options.parse(COMMAND, ["--architecture", "mmoe", "--architecture.base", "ple"])
