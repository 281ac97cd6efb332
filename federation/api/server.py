"""How the application is served: plain bodies, bounded patience, and problems also for what is not even a request."""

from typing import Final

import structlog
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from federation.api.edge import set_headers
from federation.api.problems import malformed

KEEPALIVE_SECONDS: Final = 75.0
_log = structlog.get_logger("federation.api")


class Runner(web.AppRunner):
    """Reads no compressed bodies, writes no access log (the edge counts), and lets go of who sends no request."""

    def __init__(self, app: web.Application, *, shutdown_seconds: float = 5.0) -> None:
        super().__init__(
            app,
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=KEEPALIVE_SECONDS,
            shutdown_timeout=shutdown_seconds,
        )

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(
            made.request_handler,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            **made._kwargs,
        )


class _Server(web.Server):
    def __call__(self) -> RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Connection(RequestHandler):
    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What the parser could not take, or what failed before any handler: it never repeats what was sent."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        if status >= 500:
            _log.error("connection failed", exc_info=exc)
        response = malformed(status)
        set_headers(response, "")
        response.force_close()
        return response
