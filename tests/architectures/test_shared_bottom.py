"""Shared-bottom written out task by task; what it shares with all architectures is in test_architectures_contract."""

import numpy as np
from architecture_problem import VALID, connected

from tfmtl2r.batch import Batch
from tfmtl2r.testing.architecture import TASKS, make_features


def test_heads_are_separate_networks(rng):
    """Scores written out with NumPy."""
    architecture, features = connected("shared_bottom"), make_features(rng)
    x = architecture.encoder(batch=Batch(features, valid=VALID)).numpy()
    for layer in architecture.trunk.dense:
        x = np.maximum(x @ layer.kernel.numpy() + layer.bias.numpy(), 0)
    scores = architecture(batch=Batch(features, valid=VALID))
    (tower,), scorer = architecture.towers.dense, architecture.scorers
    for t, task in enumerate(TASKS):
        hidden = np.maximum(x @ tower.kernel[t].numpy() + tower.bias[t].numpy(), 0)
        expected = (hidden @ scorer.kernel[t].numpy() + scorer.bias[t].numpy())[..., 0]
        np.testing.assert_allclose(scores[task][VALID], expected, rtol=1e-4, atol=1e-6)
