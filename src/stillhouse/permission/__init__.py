"""Who may do what, and what may be used for what. No I/O but reading key files and the dated facts that ship beside the code.

Who signs: ``signing_keys``, ``signatures`` (what exactly is signed), ``roster`` (whose signature counts), ``chain`` and ``acts``
(what was agreed). The roster is changed only by a threshold of those who answer for permission, as the root of TUF is
(theupdateframework.io), and every version of it can be checked from the first one on.

What may be used: ``terms_registry`` (what each document says and since when), ``known_origins`` (hosts and weights), ``rules``
(the organisation's own) and ``verdict_table`` are what ``decide`` decides by. Covered: default deny, terms as of the day of
collection, the strictest member decides, duties add up. Not covered: whether a document binds you. This is a record of what was
read, not legal advice.
"""
