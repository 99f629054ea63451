"""Clients and upstreams for the tests of `plughost-upstream`: a hand-made line to a client, real servers behind it."""
