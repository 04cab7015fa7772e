"""``python -m tfmtl2r`` is the command ``tfmtl2r``."""

import sys

from tfmtl2r.cli import main

if __name__ == "__main__":
    sys.exit(main())
