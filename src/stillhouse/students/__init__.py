"""From a dataset to a model that is known: ``documents`` decides what feeds which step, ``signals`` what is learned from it,
``train`` is the loop, ``training`` asks policy and writes the log, ``scores`` and ``agreement`` say what it is worth.
"""
