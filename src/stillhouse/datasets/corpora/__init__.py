"""Corpora that others collected: read their files, understand their rows, say where each is from.

``row_files`` turns files and folders into rows; ``row_shapes`` a row into a conversation and what it says of its origin;
``origins`` that into stamps, which are *declared*; ``inventory`` counts what is there by origin, channel and decision.
"""
