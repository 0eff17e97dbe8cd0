"""Calls over kept connections, which their server may have closed meanwhile: that is found out only by using one."""

from typing import Any

import aiohttp
from yarl import URL


class _Used:
    """Over what a call went. ``kept``: a connection that had served a call before."""

    kept = False


def tracing() -> aiohttp.TraceConfig:
    """What a session needs for ``post`` to know whether a call went over a kept connection."""

    async def reused(session: object, context: Any, parameters: object) -> None:
        if isinstance(context.trace_request_ctx, _Used):
            context.trace_request_ctx.kept = True

    config = aiohttp.TraceConfig()
    config.on_connection_reuseconn.append(reused)
    return config


async def post(
    session: aiohttp.ClientSession, fresh: aiohttp.ClientSession, url: str | URL, **request: Any
) -> aiohttp.ClientResponse:
    """A POST without redirects. Where a kept connection broke before a byte of an answer came, the call is made once more over
    a new one (RFC 9112, 9.3.1): ``fresh`` keeps none. Raises what aiohttp raises.
    """
    used = _Used()
    try:
        return await session.post(url, allow_redirects=False, trace_request_ctx=used, **request)
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as failure:
        begun = isinstance(failure, aiohttp.ServerDisconnectedError) and not isinstance(failure.message, str)
        if not used.kept or begun:
            raise
        return await fresh.post(url, allow_redirects=False, **request)
