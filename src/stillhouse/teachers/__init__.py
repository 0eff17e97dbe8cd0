"""Where answers come from: one protocol, four implementations, and the loop that collects.

``client`` is the protocol; ``local_teacher``, ``openai`` and ``anthropic`` (over ``http_teacher``, whose ``queue`` and ``pace``
say what is sent when) and ``replay_teacher`` implement it; ``register`` checks what is declared; ``questions`` says what to ask,
``collect`` asks for what is missing and records what comes; ``gateway`` records what others ask through it.
"""
