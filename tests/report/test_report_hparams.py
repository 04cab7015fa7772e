"""Runs appear in TensorBoard's HParams with their settings and results."""

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from tfmtl2r.report import hparams


def test_settings_and_results_arrive(tmp_path):
    config = {"name": "one", "directory": "runs", "method": {"name": "graddrop", "leak": 0.5}, "units": [8, 4],
              "list_limit": None}
    hparams.write(tmp_path, config, {"click": {"ndcg@5": {"value": 0.25}}})
    events = EventAccumulator(str(tmp_path / "results"))
    events.Reload()
    metadata = events.summary_metadata["_hparams_/session_start_info"]
    data = plugin_data_pb2.HParamsPluginData.FromString(metadata.plugin_data.content)
    found = dict(data.session_start_info.hparams)
    assert found["method"].string_value == "graddrop"
    assert found["method.leak"].number_value == 0.5
    assert found["units"].string_value == "8,4"
    assert not {"list_limit", "name", "directory"} & {*found}
    assert "test/click/ndcg@5" in events.Tags()["tensors"]
