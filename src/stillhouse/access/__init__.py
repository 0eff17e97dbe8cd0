"""Grants, revocations and what they reach.

``changes`` says what one is, ``grants`` plans it, ``revocation_impact`` what it touches and what a clean retrain costs, ``gate``
whether a job may start; ``loader`` refuses rows in the job itself, ``egress`` finds calls that are in no record. ``people``
changes the roster, ``policy_adoption`` signs what decides; ``terms_history`` and ``policy_questions`` answer about terms and
rules.
"""
