"""Classes of failed requests, and what to do about each of them."""

from __future__ import annotations

from enum import StrEnum
from http import HTTPStatus

from llmendpoint_common.contracts.loadrun.document import Api


class ErrorClass(StrEnum):
    """Classes of failed requests.

    REFUSED: no connection, for example because nothing listens. DNS: the name of the server does not resolve. TLS: no
    secure connection. TIMEOUT: no connection, or no complete response, in time. UNFINISHED: the run ended first.
    REDIRECT: an answer that sends the client elsewhere. CLIENT_ERROR, TOO_MANY_REQUESTS, SERVER_ERROR, UNAVAILABLE: an
    answer with such a status. RESET: the connection ended before an answer, or was not closed in an orderly way.
    TRUNCATED: the connection or the stream ended within the answer. STREAM_ERROR: an error within an answer of status
    200, or content that the server filtered out. INVALID_BODY: the answer is not HTTP, or not of the API. EMPTY: a
    complete answer of status 200 without content, thinking or tool call, whatever number of tokens it reports.
    """

    REFUSED = "refused"
    DNS = "dns"
    TLS = "tls"
    TIMEOUT = "timeout"
    UNFINISHED = "unfinished"
    REDIRECT = "3xx"
    CLIENT_ERROR = "4xx"
    TOO_MANY_REQUESTS = "429"
    SERVER_ERROR = "5xx"
    UNAVAILABLE = "503"
    RESET = "reset"
    TRUNCATED = "truncated"
    STREAM_ERROR = "stream_error"
    INVALID_BODY = "invalid_body"
    EMPTY = "empty"


def error_of_status(status: int) -> ErrorClass | None:
    """Return the class of a final HTTP status code, or None if it is not an error."""
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return ErrorClass.TOO_MANY_REQUESTS
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        return ErrorClass.UNAVAILABLE
    if status >= 500:
        return ErrorClass.SERVER_ERROR
    if status >= 400:
        return ErrorClass.CLIENT_ERROR
    return ErrorClass.REDIRECT if status >= 300 else None


_OTHER_APIS = {
    Api.OLLAMA_CHAT: f"{Api.OPENAI_CHAT} or {Api.OLLAMA_GENERATE}",
    Api.OLLAMA_GENERATE: f"{Api.OLLAMA_CHAT} or {Api.OPENAI_CHAT}",
    Api.OPENAI_CHAT: f"{Api.OLLAMA_CHAT}",
}

_ADVICE = {
    ErrorClass.REFUSED: "Check that a server listens at {target}, and that no firewall or network policy blocks it.",
    ErrorClass.DNS: "Check the host name in {target}. In a cluster, a Service is SERVICE.NAMESPACE.svc.",
    ErrorClass.TLS: "{tls}",
    ErrorClass.TIMEOUT: "If there was no connection, check the address and the firewalls. Otherwise lower the load, "
    "limit the length of responses (maxTokens), or raise the timeout of requests.{plain}",
    ErrorClass.UNFINISHED: "Raise the drain timeout, or lower the load: these requests were still running at the end.",
    ErrorClass.REDIRECT: "Set the URL to the address to which the server redirects. Redirects are not followed.",
    ErrorClass.CLIENT_ERROR: "Check the name of the model, the API key and the fields of the request. If the server "
    "does not know the path, check the URL, or try the API {other}.",
    ErrorClass.TOO_MANY_REQUESTS: "Lower the load, or raise the rate limit of the server.",
    ErrorClass.SERVER_ERROR: "Look at the log of the server.",
    ErrorClass.UNAVAILABLE: "The server is overloaded or still loading the model. Lower the load, or start the test "
    "when the server is ready.",
    ErrorClass.RESET: "Look at the log of the server and of the proxies in front of it: one of them closed the "
    "connection.{https}",
    ErrorClass.TRUNCATED: "Look at the log of the server and at the timeouts of the proxies in front of it: one of "
    "them ended the response early.",
    ErrorClass.STREAM_ERROR: "Look at the log of the server, for example for a lack of GPU memory.",
    ErrorClass.EMPTY: "Ask the model the same question by hand. If it thinks, it may need a higher maximum of tokens "
    "(maxTokens). Check its template and its stop sequences, and look at the log of the server.",
    ErrorClass.INVALID_BODY: "Check that {target} is a model server with the API {api}, or try the API {other}.",
}


#: Words of the client about a handshake that the server does not take part in.
_TLS_TIMEOUT = "no connection with TLS within"
#: Reason of an answer whose content a filter of the server left out, and what to do about it.
_FILTERED = "content_filter"
_FILTERED_ADVICE = "Use questions that the content filter of the server accepts, or switch the filter off for the test."
#: What to do about a TLS error, by words of its example. The words about a certificate are OpenSSL's.
_TLS_ADVICE = (
    ("certificate is not valid for", "The certificate is one for other names. Write a name that it contains in the "
     "URL, or issue a certificate that has the host of {target} among its names (subjectAltName)."),
    ("has expired", "Renew the certificate of the server, and check the clocks of both machines."),
    ("not yet valid", "Check the clocks of both machines: the certificate is not valid yet."),
    ("does not answer with TLS", "Write http:// in the URL if the server does not use TLS, or check the port."),
)  # fmt: skip


def advice(error_class: ErrorClass | str, api: Api, target: str, example: str = "") -> str:
    """Return what to do about a class of errors, as one line. An unknown class has no advice.

    `target` is the base URL, and `example` is what the server or the connection said in one of the errors.
    """
    try:
        text = _ADVICE[ErrorClass(error_class)]
    except ValueError:
        return ""
    if error_class == ErrorClass.STREAM_ERROR and _FILTERED in example:
        return _FILTERED_ADVICE
    https = "" if target.startswith("https:") else " If it expects TLS, write https:// in the URL."
    plain = " If the server does not use TLS, write http:// in the URL." if _TLS_TIMEOUT in example else ""
    text = text.replace("{tls}", _tls_advice(target, example))
    # The target is inserted last, so that braces in it are not replaced.
    return text.format(target=target, other=_OTHER_APIS[api], api=api, https=https, plain=plain)


def _tls_advice(target: str, example: str) -> str:
    if not target.startswith("https:"):
        return "The server expects TLS: write https:// in the URL."
    for words, text in _TLS_ADVICE:
        if words in example:
            return text
    return "Set the certificate of its authority (--cacert), or write http:// if the server does not use TLS."
