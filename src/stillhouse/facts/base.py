"""What every entry of the log has."""

import msgspec


class Fact(msgspec.Struct, frozen=True, kw_only=True, tag_field="fact"):
    """Something that happened. ``at`` is when it was written down; ``by`` who or what wrote it."""

    at: str
    by: str
