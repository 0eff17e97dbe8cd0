"""Where answers come from: one protocol, four implementations, and the loop that collects.

``client`` is the protocol; ``local``, ``openai`` and ``anthropic`` (over ``http``) and ``replay`` implement it;
``register`` checks what is declared; ``collect`` asks for what is missing and records what comes.
"""
