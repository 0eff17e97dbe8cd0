"""From a dataset to a model that is known: ``documents`` decides what feeds which step, ``signals`` what is learned from it,
``training_loop`` takes the steps, ``training`` asks policy and writes the log, ``scores`` and ``agreement`` evaluate.
"""
