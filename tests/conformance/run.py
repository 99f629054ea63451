"""Runs the conformance suite on every leg and prints the scores: `python tests/conformance/run.py [PYTEST OPTION]…`."""

import sys
from pathlib import Path

import pytest

sys.exit(pytest.main(["-m", "conformance", str(Path(__file__).parent), *sys.argv[1:]]))
