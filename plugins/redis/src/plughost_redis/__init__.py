"""Redis and Valkey for plugins of Plughost: time limits, a breaker, scripts, and what is left when the server is away."""
