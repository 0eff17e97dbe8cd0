"""Custody: what must not be lost, what may be deleted and by whom, and whether copies are what they should be."""
