"""The official conformance suite, run against the SDK's everything server directly and through the host."""
