"""Stillhouse: distil coding models from a teacher's outputs, under custody."""

__version__ = "0.1.0"
