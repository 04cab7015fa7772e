"""Small convex problems on T x T matrices as TensorFlow operations: float64, in the graph, no Python callback."""

from tfmtl2r.linalg.min_norm import min_norm
from tfmtl2r.linalg.nash import nash

__all__ = ["min_norm", "nash"]
