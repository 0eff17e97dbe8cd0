"""Take a managed key out of what passes, wherever it is split into pieces.

Covered: the key as it stands, in one piece or over several. Not covered: a key that is written another way (reversed, in
base64, with escapes in JSON): an answer that does that was asked to, and by somebody who can read it.
"""

MARK = b"[redacted key]"


class Redactor:
    """Holds back only what could be the beginning of the key. With an empty key, everything passes at once."""

    def __init__(self, key: str) -> None:
        self._key = key.encode()
        self._held = b""
        self.count = 0

    @property
    def armed(self) -> bool:
        """Is there a key to look for?"""
        return bool(self._key)

    def feed(self, data: bytes) -> bytes:
        """What may pass on now."""
        if not self._key:
            return data
        if not self._held and self._key[:1] not in data:
            return data
        data = self._held + data
        self.count += data.count(self._key)
        data = data.replace(self._key, MARK)
        keep = next(
            (size for size in range(min(len(self._key) - 1, len(data)), 0, -1) if data.endswith(self._key[:size])), 0
        )
        self._held = data[len(data) - keep :] if keep else b""
        return data[: len(data) - keep] if keep else data

    def rest(self) -> bytes:
        """What was held back, when nothing more comes."""
        held, self._held = self._held, b""
        return held

    def whole(self, data: bytes) -> bytes:
        """All at once."""
        return self.feed(data) + self.rest()
