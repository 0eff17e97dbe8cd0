"""From answers to an immutable dataset: ``verify`` runs their code, ``form`` drops and keeps with reasons, ``store``
writes and exports versions.
"""
