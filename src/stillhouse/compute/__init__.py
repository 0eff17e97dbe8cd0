"""Compute: which GPU-second was used for what, what will stand idle, and what to do with it. It decides and advises; it never
acts on a cluster by itself.

Covers: what schedulers, metrics and bills say, imported with their digests. Does not cover: what they do not say; that is
unknown, and counted as such.
"""
