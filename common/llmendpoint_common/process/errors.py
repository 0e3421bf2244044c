"""The exception tree: every error that llmendpoint raises on purpose.

    LLMEndpointError
      x InputError                what a user gave cannot be used
          ConfigError             the sidecar's configuration file
          QuestionError           a question file
          RunDocumentError        the document that describes a load run
      x ProtocolError             bytes that are not the HTTP/1.1 they should be
          HeadError               a head
              HeadTooLargeError   a head above the limit
          BodyError               a body's framing
          UpstreamError           a response, or the connection that it came on
          RequestBodyError        a request body whose model is in doubt
      x OllamaError               Ollama refused, or could not be reached
      x ModelError                a declared model cannot be made available
      x ChannelClosedError        a worker process or its parent is gone
      x PublishError              a load run's result was not written to the cluster
      x NotReadyError             a load run cannot begin yet
      x StackError                a process of the local stack did not start
      x QueueFullError            the simulator's queue is full

A message is one sentence for a person. It names the field, the file or the address, and quotes no secret and no body.
"""

from __future__ import annotations

from llmendpoint_common.process import exit_codes


class LLMEndpointError(Exception):
    """Base of all errors here. `exit_code` is that of a process that ends with the error."""

    exit_code = exit_codes.ERROR


class InputError(LLMEndpointError):
    """A flag, a file or a field that a user gave cannot be used."""

    exit_code = exit_codes.USAGE


class ConfigError(InputError):
    """The sidecar's configuration file cannot be used. The message names the file and the field."""


class QuestionError(InputError):
    """A question file cannot be used. The message is `file:line: reason`."""

    def __init__(self, file: str, line: int, reason: str) -> None:
        super().__init__(f"{file}:{line}: {reason}")


class RunDocumentError(InputError):
    """A run document cannot be used. The message names the file and the field."""


class ProtocolError(LLMEndpointError):
    """Bytes are not the HTTP/1.1 that they should be."""


class HeadError(ProtocolError):
    """A head cannot be read beyond doubt, although llhttp accepted it."""


class HeadTooLargeError(HeadError):
    """A head is larger than a reader accepts."""


class BodyError(ProtocolError):
    """A body's framing is not valid, or its end is in doubt."""


class UpstreamError(ProtocolError):
    """The upstream broke HTTP, or its connection, before a response had ended."""


class RequestBodyError(ProtocolError):
    """A request body does not name its model beyond doubt. The message says why and quotes nothing of the body."""


class OllamaError(LLMEndpointError):
    """Ollama refused a call, in its own words. `status` is the HTTP status, or 0 if Ollama could not be reached."""

    def __init__(self, sentence: str, status: int = 0) -> None:
        super().__init__(sentence)
        self.status = status


class ModelError(LLMEndpointError):
    """A declared model cannot be made available. `reason` is a documented condition reason."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class ChannelClosedError(LLMEndpointError):
    """The process at the other end of a channel is gone."""


class PublishError(LLMEndpointError):
    """The result of a load run could not be written to the cluster."""


class NotReadyError(LLMEndpointError):
    """A load run cannot begin yet. The message says what it waits for."""


class StackError(LLMEndpointError):
    """A process of the local stack did not start. The message holds the end of its log."""


class QueueFullError(LLMEndpointError):
    """More requests wait at the simulator than it keeps."""
