"""Coding tasks: where they come from (``suites``), the code in an answer (``extract``), what it is worth (``judge``)."""
