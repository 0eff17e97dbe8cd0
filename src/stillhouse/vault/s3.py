"""Bytes in an S3-compatible bucket, and their locks.

Relied on: a conditional put (``If-None-Match: *``) succeeds once per key; a put that is answered is durable; versions are on, so
a DELETE hides and does not remove. What a client sees as a failed put may have succeeded: it is read back before anything is
said.

Covers: COMPLIANCE retention of each object's version, which no credential can shorten; a legal hold; versions that others put
over ours, which are passed over for the one that has the bytes of its name. Does not cover: the end of
the account or of its payment, the loss of a KMS key that the bucket encrypts with, and retention that nobody renews, which ends.
"""

import contextlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from stillhouse.canon import digest_bytes
from stillhouse.clock import utc_now
from stillhouse.errors import MissingExtra, StorageError

_DIGEST_DIGITS = 64


class ObjectLock(NamedTuple):
    """What keeps an object's version: until when nobody can remove it ("" where nothing does), and a legal hold."""

    mode: str
    until: str
    held: bool


class Version(NamedTuple):
    """A version of a key, as a listing has it."""

    key: str
    version: str
    size: int
    etag: str


class S3Backend:
    """The keys below a prefix of a bucket with versions. Credentials, region and endpoint come as boto3 and obstore take them."""

    def __init__(self, bucket: str, prefix: str = "", endpoint: str = "") -> None:
        """Raises StorageError where the bucket cannot be reached or keeps no versions, MissingExtra."""
        try:
            import boto3
            import botocore.config
            import obstore.store
            from obstore.auth.boto3 import Boto3CredentialProvider
        except ImportError:
            raise MissingExtra("(s3)", next_step="pip install 'stillhouse[s3]'") from None
        self.place = f"s3://{bucket}/{prefix}".rstrip("/")
        self._several: dict[str, list[str]] | None = None  # keys with more than one version, newest first, once listed
        self._right: dict[str, str] = {}
        self._bucket, self._prefix = bucket, f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        settings = botocore.config.Config(retries={"mode": "standard", "max_attempts": 4})
        with self._errors(" could not be reached"):
            session = boto3.Session()
            self._client: Any = session.client("s3", endpoint_url=endpoint or None, config=settings)
            # Asked again before they expire, in a backup of hours. A checksum: buckets with a default retention ask for one.
            provider = Boto3CredentialProvider(session) if session.get_credentials() else None
            known: Any = {"region": self._client.meta.region_name or "us-east-1", "checksum_algorithm": "SHA256"}
            known |= {"endpoint": endpoint} if endpoint else {}
            # A put that is not answered is tried again no longer than this; then it is read back.
            self._store: Any = obstore.store.S3Store(
                bucket,
                config=known,
                credential_provider=provider,
                client_options={"timeout": "120s", "allow_http": endpoint.startswith("http://")},
                retry_config={"max_retries": 4, "retry_timeout": timedelta(seconds=120)},
            )
            versions = self._client.get_bucket_versioning(Bucket=bucket).get("Status")
        if versions != "Enabled":
            raise StorageError(
                f"{self.place} keeps no versions, so what is deleted there is gone.",
                next_step="Switch versioning on for the bucket (Object Lock needs it, too), then run the command again.",
            )

    def put(self, key: str, data: bytes) -> None:
        """Store bytes under a key; what is there already stays."""
        import obstore
        import obstore.exceptions

        try:
            obstore.put(self._store, self._prefix + key, data, mode="create")
        except obstore.exceptions.AlreadyExistsError:
            return
        except (obstore.exceptions.BaseError, OSError) as failure:
            if not self._holds(key, data):
                raise StorageError(f"{self.place}/{key} could not be written: {_brief(failure)}.") from failure

    def get(self, key: str) -> bytes:
        """The bytes of a key."""
        import obstore

        with self._errors(f"/{key} could not be read"):
            data = bytes(obstore.get(self._store, self._prefix + key).bytes())
        if _is_of(key, data):
            return data
        version = self.version_of(key)  # somebody put something else over it
        return b"".join(self.read_version(key, version)) if version else data

    def read(self, key: str, start: int, length: int) -> bytes:
        """Some bytes of a key."""
        import obstore

        version = self.version_of(key)
        if version:
            return self._read_range(key, version, start, length)
        size = self.size(key)
        if start >= size or length <= 0:
            return b""
        with self._errors(f"/{key} could not be read"):
            found = obstore.get_range(self._store, self._prefix + key, start=start, end=min(start + length, size))
            return bytes(found)

    def size(self, key: str) -> int:
        """How many bytes a key has."""
        import obstore

        version = self.version_of(key)
        with self._errors(f"/{key} could not be looked at"):
            if version:
                return int(self._client.head_object(**self._named(key, version))["ContentLength"])
            return int(obstore.head(self._store, self._prefix + key)["size"])

    def exists(self, key: str) -> bool:
        """Is there such a key?"""
        import obstore

        try:
            with self._errors(f"/{key} could not be looked at"):
                obstore.head(self._store, self._prefix + key)
        except KeyError:
            return False
        return True

    def list(self) -> Iterator[str]:
        """All keys, in order."""
        import obstore

        with self._errors(" could not be listed"):
            for batch in obstore.list(self._store, self._prefix or None):
                for item in batch:
                    name = str(item["path"]).removeprefix(self._prefix)
                    if "/" not in name:
                        yield name

    def discard(self, key: str) -> None:
        """Hide a key behind a delete marker; its versions stay."""
        if self.exists(key):
            with self._errors(f"/{key} could not be hidden"):
                self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key)

    def recover(self, key: str) -> bool:
        """Take the delete markers off a key."""
        with self._errors(f"/{key} could not be recovered"):
            markers = [one for one in self._versions(key, "DeleteMarkers") if one["Key"] == self._prefix + key]
            for marker in markers:
                self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key, VersionId=marker["VersionId"])
        return bool(markers) and self.exists(key)

    def discarded(self) -> Iterator[str]:
        """All hidden keys, in order."""
        with self._errors(" could not be listed"):
            for one in self._versions("", "DeleteMarkers"):
                if one["IsLatest"]:
                    yield one["Key"].removeprefix(self._prefix)

    def peek(self, key: str, length: int) -> bytes:
        """The first bytes of the newest version of a hidden key."""
        with self._errors(f"/{key} could not be read"):
            for one in self._versions(key, "Versions"):
                if one["Key"] == self._prefix + key:
                    found = self._client.get_object(
                        Bucket=self._bucket, Key=one["Key"], VersionId=one["VersionId"], Range=f"bytes=0-{length - 1}"
                    )
                    return bytes(found["Body"].read())
        return b""

    def reclaim(self, key: str) -> None:
        """Remove every version of a hidden key. Raises StorageError where a lock keeps one."""
        with self._errors(f"/{key} is kept by the store"):
            hidden = {one["Key"] for one in self._versions(key, "DeleteMarkers") if one["IsLatest"]}
            if self._prefix + key not in hidden:
                return
            for kind in ("Versions", "DeleteMarkers"):
                for one in list(self._versions(key, kind)):
                    if one["Key"] == self._prefix + key:
                        self._client.delete_object(Bucket=self._bucket, Key=one["Key"], VersionId=one["VersionId"])

    # Versions: an object's key ends in the digest of its bytes, so the right one of several can be told by anybody.

    def version_of(self, key: str) -> str:
        """The version of a key whose bytes its name is of, where the newest is not that one; empty where it is the only one, or
        the newest, or where none is.

        Whoever may write can put a version over a locked one: that hides it, and neither removes nor unlocks it.
        """
        if key in self._right:
            return self._right[key]
        if self._several is None:
            found: dict[str, list[str]] = {}
            with self._errors(" could not be listed"):
                for one in self._versions("", "Versions"):
                    found.setdefault(one["Key"].removeprefix(self._prefix), []).append(str(one["VersionId"]))
            self._several = {name: versions for name, versions in found.items() if len(versions) > 1}
        right = ""
        for place, version in enumerate(self._several.get(key, ())):
            if _is_of(key, b"".join(self.read_version(key, version))):
                right = version if place else ""
                break
        self._right[key] = right
        return right

    def covered(self) -> dict[str, int]:
        """The keys that have several versions, and how many: others than ours wrote there."""
        self.version_of("")
        return {key: len(versions) for key, versions in (self._several or {}).items()}

    def put_over(self, key: str, data: bytes) -> None:
        """Put another version over a key, as a probe does."""
        import obstore

        with self._errors(f"/{key}: putting a version over it could not be tried"):
            obstore.put(self._store, self._prefix + key, data)
        self._several, self._right = None, {}

    def _named(self, key: str, version: str) -> dict[str, str]:
        """How a request names a version of a key; the newest where none is given."""
        return {"Bucket": self._bucket, "Key": self._prefix + key} | ({"VersionId": version} if version else {})

    def _read_range(self, key: str, version: str, start: int, length: int) -> bytes:
        size = self.size(key)
        if start >= size or length <= 0:
            return b""
        with self._errors(f"/{key} could not be read"):
            asked = {**self._named(key, version), "Range": f"bytes={start}-{min(start + length, size) - 1}"}
            return bytes(self._client.get_object(**asked)["Body"].read())

    # Data in place.

    def newest_versions(self) -> Iterator[Version]:
        """The newest version of every key below the prefix that is not hidden, in the order of the keys' bytes."""
        with self._errors(" could not be listed"):
            for one in self._versions("", "Versions"):
                if one["IsLatest"]:
                    key = one["Key"].removeprefix(self._prefix)
                    yield Version(key, str(one["VersionId"]), int(one["Size"]), str(one["ETag"]).strip('"'))

    def read_version(self, key: str, version: str) -> Iterator[bytes]:
        """The bytes of a version, in pieces. Raises KeyError."""
        with self._errors(f"/{key} could not be read"):
            found = self._client.get_object(Bucket=self._bucket, Key=self._prefix + key, VersionId=version)
            yield from found["Body"].iter_chunks(1 << 23)

    def close(self) -> None:
        """Close connections."""
        self._client.close()

    # Locks.

    def lock_until(self, key: str, until: datetime) -> None:
        """Keep a key's version until then, in COMPLIANCE mode: the one that its name is of. An earlier moment than its present
        one changes nothing.

        Raises KeyError, StorageError.
        """
        present, version = self.lock(key), self.version_of(key)
        if present.mode == "COMPLIANCE" and present.until >= _text(until):
            return
        with self._errors(f"/{key} could not be locked"):
            kept = {"Mode": "COMPLIANCE", "RetainUntilDate": until}
            self._client.put_object_retention(**self._named(key, version), Retention=kept)

    def hold(self, key: str, *, on: bool) -> None:
        """Place or lift a legal hold on a key's version."""
        version = self.version_of(key)
        with self._errors(f"/{key} could not be held"):
            self._client.put_object_legal_hold(**self._named(key, version), LegalHold={"Status": "ON" if on else "OFF"})

    def lock(self, key: str) -> ObjectLock:
        """What keeps a key's version."""
        version = self.version_of(key)
        with self._errors(f"/{key} could not be looked at"):
            head = self._client.head_object(**self._named(key, version))
        until = head.get("ObjectLockRetainUntilDate")
        return ObjectLock(
            head.get("ObjectLockMode", ""), _text(until) if until else "", head.get("ObjectLockLegalHoldStatus") == "ON"
        )

    def shorten(self, key: str) -> bool:
        """Try to shorten a lock to an hour, as a probe does; True where the store lets it happen, False where it refuses.

        Raises StorageError where it does neither: then nobody knows.
        """
        soon = utc_now() + timedelta(hours=1)
        return self._allowed(
            lambda: self._client.put_object_retention(
                Bucket=self._bucket, Key=self._prefix + key,
                Retention={"Mode": "COMPLIANCE", "RetainUntilDate": soon},
            ),
            f"/{key}: shortening its lock could not be tried",
        )  # fmt: skip

    def remove_version(self, key: str) -> bool:
        """Try to remove a key's newest version for good, as a probe does; True where the store lets it happen, False where it
        refuses. Raises StorageError where it does neither.
        """
        with self._errors(f"/{key} could not be looked at"):
            version = self._client.head_object(Bucket=self._bucket, Key=self._prefix + key)["VersionId"]
        return self._allowed(
            lambda: self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key, VersionId=version),
            f"/{key}: removing a version could not be tried",
        )

    def _allowed(self, act: Callable[[], object], what: str) -> bool:
        import botocore.exceptions

        with self._errors(what):
            try:
                act()
            except botocore.exceptions.ClientError as failure:
                if failure.response.get("Error", {}).get("Code") == "AccessDenied":
                    return False
                raise
        return True

    def has_lock(self) -> bool:
        """Does the bucket have Object Lock?"""
        import botocore.exceptions

        try:
            found = self._client.get_object_lock_configuration(Bucket=self._bucket)
        except botocore.exceptions.ClientError:
            return False
        return bool(found.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") == "Enabled")

    def lifecycle_rules(self) -> tuple[str, ...]:
        """Rules by which the bucket itself removes objects. Raises StorageError where this credential may not know."""
        import botocore.exceptions

        with self._errors(": its lifecycle rules could not be read"):
            try:
                found = self._client.get_bucket_lifecycle_configuration(Bucket=self._bucket)
            except botocore.exceptions.ClientError as failure:
                if failure.response.get("Error", {}).get("Code") == "NoSuchLifecycleConfiguration":
                    return ()
                raise
        return tuple(
            str(rule.get("ID", "unnamed")) for rule in found.get("Rules", []) if rule.get("Status") == "Enabled"
        )

    def _holds(self, key: str, data: bytes) -> bool:
        """After a put whose outcome nobody told: is it there, whole?"""
        try:
            return self.get(key) == data
        except (KeyError, StorageError):
            return False

    def _versions(self, key: str, kind: str) -> Iterator[dict[str, Any]]:
        pages = self._client.get_paginator("list_object_versions")
        for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix + key):
            yield from page.get(kind, [])

    @contextlib.contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        import botocore.exceptions
        import obstore.exceptions

        try:
            yield
        except (obstore.exceptions.NotFoundError, FileNotFoundError) as failure:
            raise KeyError(what) from failure
        except botocore.exceptions.ClientError as failure:
            if failure.response.get("Error", {}).get("Code") in ("404", "NoSuchKey", "NoSuchVersion"):
                raise KeyError(what) from failure
            raise StorageError(f"{self.place}{what}: {_brief(failure)}.", next_step=_NEXT) from failure
        except (botocore.exceptions.BotoCoreError, obstore.exceptions.BaseError, ValueError) as failure:
            raise StorageError(f"{self.place}{what}: {_brief(failure)}.", next_step=_NEXT) from failure


_NEXT = (
    "Look at the address, the credentials and their rights, then run the command again; it resumes where it stopped."
)


def _is_of(key: str, data: bytes) -> bool:
    """Are these the bytes that a key is the name of? A key without a digest is the name of any."""
    digest = key.rpartition("-")[2]
    return len(digest) != _DIGEST_DIGITS or digest_bytes(data).partition(":")[2] == digest


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _brief(failure: BaseException) -> str:
    return str(failure).strip().splitlines()[0][:300].rstrip(".") if str(failure).strip() else type(failure).__name__
