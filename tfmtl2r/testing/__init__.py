"""Checks of the contract of a method, loss, metric or architecture, for this project and for extensions.

``check_*`` runs all checks of a thing and raises at the first one that fails. ``*_checks`` returns single checks as
parameters for pytest.
"""

from __future__ import annotations

from tfmtl2r.promises import PROMISES
from tfmtl2r.testing import architecture, loss, method, method_promises, metric  # noqa: F401  adds its checks
from tfmtl2r.testing.architecture import architecture_checks, check_architecture
from tfmtl2r.testing.checks import Check, Suite
from tfmtl2r.testing.loss import check_loss, loss_checks
from tfmtl2r.testing.method import check_method, method_checks
from tfmtl2r.testing.metric import check_metric, metric_checks

__all__ = [
    "PROMISES", "SUITES", "Check", "Suite", "architecture_checks", "check_architecture", "check_loss", "check_method",
    "check_metric", "loss_checks", "method_checks", "metric_checks",
]

SUITES: dict[str, Suite] = {
    suite.kind: suite for suite in (architecture.SUITE, loss.SUITE, method.SUITE, metric.SUITE)
}
"""All checks of each kind of thing: ``SUITES["method"].checks("mgda")`` returns them without pytest."""
