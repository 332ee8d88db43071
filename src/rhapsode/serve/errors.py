"""Every failure in the shape that OpenAI's clients read: {"error": {message, type, param, code}}."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse

from rhapsode.core.errors import RhapsodeError
from rhapsode.engine.engine import ContextError
from rhapsode.engine.sampling import ParameterError
from rhapsode.engine.worker import QueueFullError

RETRY_AFTER = "1"
CLIENT_GONE = 499

_TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}


class ApiError(Exception):
    """An answer that is an error."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        kind = _TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}

    @property
    def response(self) -> JSONResponse:
        return JSONResponse(self.body, self.status, self.headers)


def from_failure(error: Exception) -> ApiError:
    """What a client is told about an exception. What we did not foresee is not described to strangers."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, TimeoutError):
        return ApiError(504, "the request's deadline has passed", code="deadline_exceeded")
    if not isinstance(error, RhapsodeError):
        return ApiError(500, "internal error", code="internal_error")
    message = f"{error.message}: {error.hint}" if error.hint else error.message
    if isinstance(error, QueueFullError):
        return ApiError(429, message, code="queue_full", headers={"Retry-After": RETRY_AFTER})
    if isinstance(error, ContextError):
        return ApiError(400, message, code="context_length_exceeded")
    if isinstance(error, ParameterError):
        return ApiError(400, message, param=error.parameter)
    return ApiError(400, message)


def from_engine(error: RhapsodeError) -> ApiError:
    """A request that failed while it ran: not the client's fault."""
    return ApiError(500, error.message, code="generation_failed")


def handle_errors(app: FastAPI) -> None:
    """Give every error of `app` the common shape."""

    async def known(_request: Request, error: Exception) -> JSONResponse:
        return from_failure(error).response

    async def http(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return ApiError(error.status_code, str(error.detail).lower(), headers=error.headers).response

    async def gone(_request: Request, _error: Exception) -> JSONResponse:
        return ApiError(CLIENT_GONE, "the client went").response

    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(ClientDisconnect, gone)
    app.add_exception_handler(ApiError, known)
    app.add_exception_handler(RhapsodeError, known)
    app.add_exception_handler(TimeoutError, known)
    app.add_exception_handler(Exception, known)
