"""Readers of what schedulers, metrics servers and clouds write: bytes in, tables out. Each is pure; fetching stands apart."""
