"""Bytes and log: content-addressed objects, and the one append-only log of everything that happens.

``backend`` is the seam (``local``, ``memory``); ``objects`` stores by digest over any backend; ``entries`` is the format of
a log segment; ``writer`` appends, ``log`` reads; ``checkpoints`` proves what can be proved. FORMAT.md is the contract on disk.
"""
