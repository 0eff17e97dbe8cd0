"""One way to show a run: ``value`` is what is shown; ``html``, ``markdown`` and ``plots`` render it. JSON is the value."""
