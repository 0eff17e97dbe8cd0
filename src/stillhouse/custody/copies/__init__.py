"""Copies of a home: snapshots, other places, rebuilding from them, and what is known of each."""
