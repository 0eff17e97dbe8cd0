"""One way to show a run: ``report_value`` is what is shown; ``render`` and ``plots`` show it. JSON is the value."""
