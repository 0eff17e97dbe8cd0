"""The batch APIs of OpenAI and Anthropic. A request that creates a batch is never sent twice: its fate would be unknown."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import msgspec

from stillhouse.conversations.content import decoded
from stillhouse.conversations.troubles import reason_in
from stillhouse.errors import TeacherRejected, TeacherUnreachable
from stillhouse.teachers.batch import BatchState, Result
from stillhouse.teachers.dialect import error_message
from stillhouse.teachers.http_teacher import LARGEST_ANSWER

_TRIES, _PAUSE_SECONDS = 4, 0.5
_SECONDS = 300.0
# Clocks of providers and of this machine differ by less.
_CLOCKS_DIFFER = timedelta(minutes=5)
_A_PAGE = 100
_LONGEST_REASON = 320
_BOM = b"\xef\xbb\xbf"
_ENDED = frozenset({"completed", "failed", "expired", "cancelled"})


class _Api:
    """Requests to one provider; those that change nothing are tried again."""

    def __init__(self, base: str, headers: dict[str, str]) -> None:
        self._base, self._headers = base.rstrip("/"), headers
        self._session: aiohttp.ClientSession | None = None

    async def get(self, path: str) -> Any:
        """The JSON of a resource."""
        return decoded(await self._again(path))

    async def lines(self, path: str) -> AsyncIterator[bytes]:
        """The lines of a resource, one in memory at a time. A download that breaks off begins again, so lines may come twice."""
        for attempt in range(1, _TRIES + 1):
            try:
                async for line in self._download(path):
                    yield line
                return
            except (aiohttp.ClientError, TimeoutError, OSError) as failure:
                problem = str(failure) or type(failure).__name__
            if attempt < _TRIES:
                await asyncio.sleep(_PAUSE_SECONDS * 2**attempt)
        raise TeacherUnreachable(f"{self._base}{path}: {problem}.")

    async def _download(self, path: str) -> AsyncIterator[bytes]:
        async with self._opened().get(self._base + path, headers=self._headers, allow_redirects=False) as response:
            await self._check(response)
            rest, first = b"", True
            async for piece in response.content.iter_any():
                *whole, rest = (rest + piece).split(b"\n")
                if len(rest) > LARGEST_ANSWER:
                    raise TeacherRejected(f"{self._base}{path}: a line is larger than {LARGEST_ANSWER >> 20} MiB.")
                for line in whole:
                    text, first = line.removeprefix(_BOM) if first else line, False
                    if text.strip():
                        yield text
            rest = rest.removeprefix(_BOM) if first else rest
            if rest.strip():
                yield rest

    async def post(self, path: str, data: Any, kind: str = "application/json") -> Any:
        """Create something, once. Raises TeacherUnreachable where nobody knows whether it was created."""
        headers = {**self._headers, **({"Content-Type": kind} if kind else {})}
        try:
            async with self._opened().post(
                self._base + path, data=data, headers=headers, allow_redirects=False
            ) as response:
                await self._check(response)
                return msgspec.json.decode(await response.read())
        except (aiohttp.ClientError, TimeoutError, OSError, msgspec.MsgspecError) as failure:
            raise TeacherUnreachable(
                f"{self._base}{path}: {failure or type(failure).__name__}.",
                next_step="Run the command again later: it finds out what became of the batch, and submits nothing twice.",
            ) from failure

    async def close(self) -> None:
        """Close connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _again(self, path: str) -> bytes:
        for attempt in range(1, _TRIES + 1):
            try:
                async with self._opened().get(
                    self._base + path, headers=self._headers, allow_redirects=False
                ) as response:
                    if response.status < 500 and response.status != 429:
                        await self._check(response)
                        return await response.read()
                    problem = f"{response.status}"
            except (aiohttp.ClientError, TimeoutError, OSError) as failure:
                problem = str(failure) or type(failure).__name__
            if attempt < _TRIES:
                await asyncio.sleep(_PAUSE_SECONDS * 2**attempt)
        raise TeacherUnreachable(f"{self._base}{path}: {problem}.")

    async def _check(self, response: aiohttp.ClientResponse) -> None:
        if response.status >= 500:
            raise aiohttp.ClientError(f"it answered {response.status}")
        if response.status >= 300:
            text = (await response.content.read(1 << 16)).decode("utf-8", "replace")
            raise TeacherRejected(f"{response.url} answered {response.status}: {error_message(text)[:300]}.")

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_SECONDS), trust_env=False)
        return self._session


class OpenAIBatches:
    """OpenAI's batches: a file of requests, a batch over it, a file of answers and one of errors."""

    def __init__(self, base_url: str, headers: dict[str, str]) -> None:
        self._api = _Api(base_url, headers)

    async def submit(self, name: str, calls: Sequence[tuple[str, bytes]]) -> str:
        """Upload the requests, then create the batch; only that is paid for. Its metadata carries our name for it."""
        lines = [
            msgspec.json.encode(
                {"custom_id": id, "method": "POST", "url": "/v1/chat/completions", "body": msgspec.Raw(body)}
            )
            for id, body in calls
        ]
        form = aiohttp.FormData({"purpose": "batch"})
        form.add_field("file", b"\n".join(lines), filename=f"{name}.jsonl", content_type="application/jsonl")
        file = await self._api.post("/files", form, kind="")
        body = {
            "input_file_id": file["id"],
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            "metadata": {"stillhouse": name},
        }
        return str((await self._api.post("/batches", msgspec.json.encode(body)))["id"])

    async def ended(self, remote: str) -> bool:
        """By its status."""
        return (await self._api.get(f"/batches/{remote}"))["status"] in _ENDED

    async def results(self, remote: str) -> AsyncIterator[Result]:
        """Answers and errors; what stands in neither file was never run."""
        batch = await self._api.get(f"/batches/{remote}")
        for name in ("output_file_id", "error_file_id"):
            if batch.get(name):
                async for line in self._api.lines(f"/files/{batch[name]}/content"):
                    yield _openai_result(line)

    async def reason(self, remote: str) -> str:
        """What stands under its errors, else its status where that is not the usual one."""
        batch = await self._api.get(f"/batches/{remote}")
        errors = batch.get("errors") or {}
        said = [str(error.get("message") or error.get("code")) for error in errors.get("data") or () if error]
        status = str(batch.get("status"))
        return "; ".join(dict.fromkeys(said)) or ("" if status == "completed" else f"the batch is {status}")

    async def find(self, name: str, custom_ids: frozenset[str], since: datetime) -> BatchState:
        """By the name in its metadata."""
        after = ""
        while True:
            page = await self._api.get(f"/batches?limit={_A_PAGE}{after}")
            for batch in page["data"]:
                if (batch.get("metadata") or {}).get("stillhouse") == name:
                    return BatchState(remote=str(batch["id"]))
            oldest = min((float(batch["created_at"]) for batch in page["data"]), default=0.0)
            if not page.get("has_more") or oldest < (since - _CLOCKS_DIFFER).timestamp():
                return BatchState(absent=True)
            after = f"&after={page['data'][-1]['id']}"

    async def close(self) -> None:
        """Close connections."""
        await self._api.close()


class AnthropicBatches:
    """Anthropic's message batches. They carry no name, so a lost one is known by its results, once it has ended."""

    def __init__(self, base_url: str, headers: dict[str, str]) -> None:
        self._api = _Api(base_url, headers)

    async def submit(self, name: str, calls: Sequence[tuple[str, bytes]]) -> str:
        """One request."""
        requests = [{"custom_id": id, "params": msgspec.Raw(body)} for id, body in calls]
        return str((await self._api.post("/v1/messages/batches", msgspec.json.encode({"requests": requests})))["id"])

    async def ended(self, remote: str) -> bool:
        """By its status."""
        return bool((await self._api.get(f"/v1/messages/batches/{remote}"))["processing_status"] == "ended")

    async def results(self, remote: str) -> AsyncIterator[Result]:
        """From the documented path: an address in an answer is not followed with the key."""
        async for line in self._api.lines(f"/v1/messages/batches/{remote}/results"):
            yield _anthropic_result(line)

    async def reason(self, remote: str) -> str:
        """Every call has a result of its own here."""
        return ""

    async def find(self, name: str, custom_ids: frozenset[str], since: datetime) -> BatchState:
        """By the custom ids in the results of what was created since; what has not ended can still be it."""
        after, absent = "", True
        while True:
            page = await self._api.get(f"/v1/messages/batches?limit={_A_PAGE}{after}")
            for batch in page["data"]:
                created = datetime.fromisoformat(batch["created_at"]).astimezone(UTC)
                if created < since - _CLOCKS_DIFFER:
                    return BatchState(absent=absent)
                if batch["processing_status"] != "ended":
                    absent = False
                    continue
                async for result in self.results(str(batch["id"])):
                    if result.custom_id in custom_ids:
                        return BatchState(remote=str(batch["id"]))
                    if result.custom_id:
                        break  # the calls of one batch are all ours, or none is
            if not page.get("has_more"):
                return BatchState(absent=absent)
            after = f"&after_id={page['last_id']}"

    async def close(self) -> None:
        """Close connections."""
        await self._api.close()


def _openai_result(line: bytes) -> Result:
    return _result(line, _of_openai)


def _anthropic_result(line: bytes) -> Result:
    return _result(line, _of_anthropic)


def _result(line: bytes, read: Callable[[str, Any], Result]) -> Result:
    """A line of results; one that is none costs no other line anything, and whose it is is told as far as it can be read."""
    id = ""
    try:
        row = decoded(line)
        id = row["custom_id"] if isinstance(row["custom_id"], str) else ""
        return read(id, row)
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as failure:
        return Result(id, b"", f"a line of the results cannot be read ({failure})")


def _of_openai(id: str, row: Any) -> Result:
    response = row.get("response")
    response = response if isinstance(response, Mapping) else {}
    if response.get("status_code") == 200:
        return Result(id, _as_sent(response["body"]))
    said = row.get("error") or response.get("body") or {}
    return Result(id, b"", _reason(said) or f"status {response.get('status_code')}")


def _of_anthropic(id: str, row: Any) -> Result:
    result = row["result"]
    if result["type"] == "succeeded":
        return Result(id, _as_sent(result["message"]))
    return Result(id, b"", _reason(result.get("error") or {}) or str(result["type"]))


def _reason(said: Any) -> str:
    """What an error says: a text, an object in some dialect, or one within another."""
    if isinstance(said, str):
        return " ".join(said.split())[:_LONGEST_REASON]
    inner = said.get("error") if isinstance(said, Mapping) else None
    return reason_in(said) if not isinstance(inner, Mapping) else reason_in(inner) or reason_in(said)


def _as_sent(body: Any) -> bytes:
    """A body as JSON again. Half a surrogate pair stays one, and so does a number that JSON does not know."""
    return json.dumps(body, ensure_ascii=True).encode()
