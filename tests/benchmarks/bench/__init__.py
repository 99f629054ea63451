"""Benchmarks of the host against its neighbours; `run.py` beside this package is the command."""
