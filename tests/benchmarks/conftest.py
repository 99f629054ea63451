"""Makes the package `bench` importable for the tests, as it is for `run.py`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
