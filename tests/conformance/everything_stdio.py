"""Serves the SDK's everything server over stdio, which its own command does not offer.

The folder of its package is the only argument: a child of the host gets no `PYTHONPATH`.
"""

import importlib
import sys

sys.path.insert(0, sys.argv[1])
importlib.import_module("mcp_everything_server.server").mcp.run("stdio")
