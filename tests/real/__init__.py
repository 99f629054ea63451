"""Servers that others wrote, each reached directly and through the host by clients that share no code."""
