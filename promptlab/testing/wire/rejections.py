"""Requests that are not answered, and how each provider says so."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

Provider: TypeAlias = Literal["openai", "anthropic"]

TOO_LONG = "context_length_exceeded"

_OPENAI = {  # status -> type and code; where none is given: invalid_request_error below 500, server_error from there
    401: ("invalid_request_error", "invalid_api_key"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
}
_ANTHROPIC = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class Rejected(Exception):
    """An HTTP status and what is said with it; never leaves the server.

    `kind` is the error's type where it is not the status's own, `code` what OpenAI says beside it. `final` asks the
    clients not to try again: what a test's own code raised will be raised again.
    """

    def __init__(
        self,
        status: int,
        message: str,
        kind: str | None = None,
        code: str | None = None,
        *,
        retry_after: str | None = None,
        final: bool = False,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.kind, self.code = status, message, kind, code
        self.retry_after, self.final = retry_after, final

    def headers(self, provider: Provider, number: int) -> dict[str, str]:
        headers = request_id(provider, number)
        if self.retry_after is not None:
            headers["retry-after"] = self.retry_after
        if self.final:
            headers["x-should-retry"] = "false"
        return headers

    def body(self, provider: Provider, number: int) -> dict[str, Any]:
        if provider == "openai":
            return {"error": self._openai()}
        kind = self.kind or _ANTHROPIC.get(self.status, "invalid_request_error" if self.status < 500 else "api_error")
        message = self.message
        if self.code == TOO_LONG and "prompt is too long" not in message:  # what clients know it by: there is no code
            message = f"prompt is too long: {message}"
        return {"type": "error", "error": {"type": kind, "message": message}, "request_id": f"req_{number}"}

    def _openai(self) -> dict[str, Any]:
        of_class = ("invalid_request_error" if self.status < 500 else "server_error", None)
        kind, code = _OPENAI.get(self.status, of_class)
        return {
            "message": self.message,
            "type": self.kind or kind,
            "param": None,
            "code": self.code or self.kind or code,
        }


def request_id(provider: Provider, number: int) -> dict[str, str]:
    return {"x-request-id" if provider == "openai" else "request-id": f"req_{number}"}
