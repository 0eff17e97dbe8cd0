"""An S3 server on loopback, as a program: moto, made strict where it is not.

moto lets PutObjectRetention shorten a COMPLIANCE lock; a real store refuses that, so this does before moto sees it. ``--drop N``
breaks the connection of the N-th upload after it was stored: what a client sees as a time-out whose outcome nobody knows.
"""

import argparse
import io
import itertools
import re
import socket
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from moto.s3.models import s3_backends
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

DENIED = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Locked</Message></Error>"
_RETENTION = re.compile(rb"<Mode>(\w+)</Mode>.*?<RetainUntilDate>([^<]+)<", re.S)


class Strict:
    """A WSGI application around moto's."""

    def __init__(self, inner: Callable[..., Iterable[bytes]], drop: int) -> None:
        self.inner, self._drop = inner, drop
        self._uploads = itertools.count(1)

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        query = environ.get("QUERY_STRING", "")
        if environ["REQUEST_METHOD"] == "PUT" and "retention" in query:
            size = int(environ.get("CONTENT_LENGTH") or 0)
            body = environ["wsgi.input"].read(size)
            environ["wsgi.input"] = io.BytesIO(body)
            if self._shortens(environ["PATH_INFO"], query, body):
                start("403 Forbidden", [("Content-Type", "application/xml"), ("Content-Length", str(len(DENIED)))])
                return [DENIED]
        answer = self.inner(environ, start)
        is_upload = environ["REQUEST_METHOD"] == "PUT" and not query and environ["PATH_INFO"].count("/") > 1
        if is_upload and next(self._uploads) == self._drop:
            list(answer)
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        return answer

    @staticmethod
    def _shortens(path: str, query: str, body: bytes) -> bool:
        _, bucket, key = path.split("/", 2)
        version = re.search(r"versionId=([^&]+)", query)
        backend = s3_backends["123456789012"]["aws"]
        found = backend.get_object(bucket, key, version_id=version[1] if version else None)
        if found is None or found.lock_mode != "COMPLIANCE" or not found.lock_until:
            return False
        asked = _RETENTION.search(body)
        if asked is None or asked[1] != b"COMPLIANCE":
            return True
        return _moment(asked[2].decode()) < _moment(found.lock_until)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--drop", type=int, default=0)
    options = parser.parse_args()
    server = make_server(
        "127.0.0.1", 0, Strict(DomainDispatcherApplication(create_backend_app), options.drop), threaded=True
    )
    sys.stdout.write(f"{server.port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
