"""May this stamp set serve that use? Pure: no I/O but reading the dated facts that ship beside the code.

``registry`` holds what each document says and since when; ``table`` turns a verdict into a decision per use; ``decide``
joins the two for a stamp, a stamp set, a dataset; ``known`` says what is known of hosts and weights.
Covered: default deny, terms as of the day of collection, the strictest member decides, duties add up.
Not covered: whether a document binds you. This is a record of what was read, not legal advice.
"""
