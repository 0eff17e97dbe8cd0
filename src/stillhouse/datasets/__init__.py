"""From answers to an immutable dataset.

``verify`` runs their code, ``filter`` drops and keeps with reasons, ``versions`` writes and exports versions, ``import_corpus``
reads what others collected (``corpora``); ``tasks`` are coding tasks and their verdicts.
"""
