"""A kind of feature of a plug-in file is named in an experiment file, with an option of its own."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import tfmtl2r
from tfmtl2r import cli, features, plugins
from tfmtl2r.settings import Feature, SettingError, Settings

KIND = '''
import dataclasses

import numpy as np
import tensorflow as tf

from tfmtl2r import features


@features.register("test_hour")
@dataclasses.dataclass(frozen=True)
class Hour(features.Feature):
    """The hour of the day as sine and cosine."""

    name: str
    context: bool = False
    zone: str = ""
    width = 2
    file_keys = ("zone",)

    @property
    def raw(self):
        return {self.name: features.Values("float32"), self.zone: features.Values("float32")}

    def encode(self, tensors, layers):
        angle = (tensors[self.name] + tensors[self.zone])[..., None] * np.pi / 12
        return tf.concat([tf.sin(angle), tf.cos(angle)], axis=-1)

    def example(self, shape, random):
        return {name: random.uniform(0, 24, shape).astype(np.float32) for name in self.raw}
'''
EXPERIMENT = """
name = "hours"
architecture = {name = "shared_bottom", units = [4], head_units = []}

[data]
files = "log.csv"
list_id = "q"
split = {vali = 0.2, test = 0.2}

[[features]]
name = "when"
kind = "test_hour"
zone = "offset"

[[features]]
name = "price"

[[tasks]]
name = "click"
kind = "binary"

[training]
epochs = 1
telemetry_every = 0
"""


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch):
    monkeypatch.setattr(plugins, "_LOADED", {})
    yield
    features.registry.unregister("test_hour")


@pytest.mark.slow
def test_train_on_a_file_that_names_the_kind(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    (tmp_path / "kind.py").write_text(KIND)
    (tmp_path / "hours.toml").write_text(EXPERIMENT)
    pd.DataFrame({
        "q": np.repeat(np.arange(40), 3), "when": rng.integers(0, 24, 120) + 0.5, "offset": rng.integers(-2, 3, 120),
        "price": rng.normal(size=120), "click": rng.integers(0, 2, 120),
    }).to_csv(tmp_path / "log.csv", index=False)

    assert cli.main(["train", "hours.toml"]) == 1
    error = capsys.readouterr().err
    assert "features.when.kind must be a registered kind of feature ('bag', 'category', 'dense'" in error
    assert "), not 'test_hour'" in error
    assert cli.main(["train", "hours.toml", "--plugins", "kind.py"]) == 0
    card = json.loads((tmp_path / "runs/hours/run.json").read_text())
    assert [plugin["name"] for plugin in card["plugins"]] == ["kind.py"]
    assert card["config"]["features"][0] == {"name": "when", "kind": "test_hour", "zone": "offset"}
    schema = tfmtl2r.load("runs/hours/model.keras").schema
    assert tuple(schema.inputs) == ("when", "offset", "price")
    assert (type(schema.features[0]).__name__, schema.features[0].zone) == ("Hour", "offset")
    assert cli.main(["train", "runs/hours/experiment.toml", "--plugins", "kind.py", "--name", "again"]) == 0
    again = json.loads((tmp_path / "runs/again/run.json").read_text())
    assert again["results"] == card["results"]


def test_keys_of_a_kind(tmp_path):
    (tmp_path / "kind.py").write_text(KIND)
    plugins.load(tmp_path / "kind.py")
    given = {"name": "when", "kind": "test_hour", "zone": "offset"}
    entry = Feature.of(given)
    assert entry.tree() == given
    assert Feature.of(entry.tree()) == entry
    with pytest.raises(SettingError, match=r"features\.when\.zon is not a key"):
        Settings.of({"features": [{"name": "when", "kind": "test_hour", "zon": "offset"}]})
    with pytest.raises(SettingError, match=r"features\.x\.kind .*not 'test_hou'; did you mean 'test_hour'"):
        Settings.of({"features": [{"name": "x", "kind": "test_hou"}]})


def test_a_kind_is_looked_up_without_tensorflow():
    code = ("import sys; from tfmtl2r.settings import Feature; Feature.of({'name': 'x', 'kind': 'number'})\n"
            "print([name for name in ('tensorflow', 'keras') if name in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
