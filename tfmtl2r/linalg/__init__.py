"""Small convex problems on T x T matrices as TensorFlow operations: float64, in the graph, no Python callback."""

from tfmtl2r.linalg.correlation import correlation
from tfmtl2r.linalg.dual_cone import dual_cone
from tfmtl2r.linalg.fair import fair
from tfmtl2r.linalg.linear_program import linear_program
from tfmtl2r.linalg.max_min import max_min
from tfmtl2r.linalg.min_norm import min_norm
from tfmtl2r.linalg.nash import nash
from tfmtl2r.linalg.simplex import project, spread
from tfmtl2r.linalg.spectrum import spectrum

__all__ = [
    "correlation", "dual_cone", "fair", "linear_program", "max_min", "min_norm", "nash", "project", "spectrum",
    "spread",
]
