"""Exception tree: all errors that llmendpoint raises on purpose.

    LLMEndpointError
      x InputError                a flag, a file or a field from a user cannot be used
          ConfigError             the sidecar's configuration file
          QuestionError           a question file
          RunDocumentError        the document that describes a load run
      x ProtocolError             bytes are not valid HTTP/1.1
          HeadError               a head
              HeadTooLargeError   a head above the limit
          BodyError               the framing of a body
          UpstreamError           a response, or the connection that it came on
          RequestBodyError        the model in a request body is in doubt
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

from enum import StrEnum

from llmendpoint_common.process import exit_codes


class LLMEndpointError(Exception):
    """Base of all errors. `exit_code` is the exit code of a process that ends with the error."""

    exit_code = exit_codes.ERROR


class InputError(LLMEndpointError):
    """A flag, a file or a field from a user cannot be used."""

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
    """Bytes are not valid HTTP/1.1."""


class HeadError(ProtocolError):
    """A head is ambiguous, although llhttp accepted it."""


class HeadTooLargeError(HeadError):
    """A head is larger than a reader accepts."""


class BodyError(ProtocolError):
    """The framing of a body is invalid, or the end of the body is in doubt."""


class UpstreamError(ProtocolError):
    """The upstream violated HTTP or lost its connection before a response had ended."""


class RequestBodyError(ProtocolError):
    """The model in a request body is in doubt. The message gives the reason and quotes nothing of the body."""


class OllamaError(LLMEndpointError):
    """Ollama refused a call. The message is Ollama's; `status` is the HTTP status, or 0 if Ollama was not reached."""

    def __init__(self, sentence: str, status: int = 0) -> None:
        super().__init__(sentence)
        self.status = status


class ModelError(LLMEndpointError):
    """A declared model cannot be made available. `reason` is a `contracts.sidecar.ModelReason`."""

    def __init__(self, reason: StrEnum, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class ChannelClosedError(LLMEndpointError):
    """The process at the other end of a channel is gone."""


class PublishError(LLMEndpointError):
    """The result of a load run could not be written to the cluster."""


class NotReadyError(LLMEndpointError):
    """A load run cannot begin yet. The message names what it waits for."""


class StackError(LLMEndpointError):
    """A process of the local stack did not start. The message contains the end of its log."""


class QueueFullError(LLMEndpointError):
    """The simulator's queue is full."""
