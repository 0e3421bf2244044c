"""Exception tree: all errors that llmendpoint raises on purpose.

    LLMEndpointError
      x InputError                a flag, a file or a field from a user is invalid
          ConfigError             the sidecar's configuration file
          QuestionError           a question file
          TraceError              a trace of recorded requests
          RunDocumentError        a run document
          APIKeyError             a file with an API key
          PolicyError             the operator's policy file
          ManifestError           the file of an LLMEndpoint on one machine
          OutputError             a folder for results, or a file with a result
              StdoutError         a result that could not be written to stdout
          TargetError             the URL, the headers, the key or the certificates of a load run
      x ModelfileError            a Modelfile is invalid
      x ProtocolError             bytes are not valid HTTP/1.1
          HeadError               a head is invalid or ambiguous
              HeadTooLargeError   a head above the limit
          BodyError               the framing of a body is invalid or ambiguous
          UpstreamError           the connection to the upstream failed, or ended before the response
          RequestBodyError        the model in a request body is ambiguous, or the body cannot be decoded
      x OllamaError               Ollama returned an error, or could not be reached
          OllamaSilentError       Ollama did not answer in time
          NotOllamaError          something else answers at the address of Ollama
      x ModelError                a declared model cannot be made available
      x ChannelClosedError        a worker process or its supervisor has ended
      x FileLimitError            a load needs more open files than the process may have
      x PublishError              a load run's result was not written to the cluster
      x RunResultError            a load run's result, as read from the cluster, is invalid
      x NotReadyError             a load run cannot start yet
      x RunRefusedError           a load run cannot start with its spec
      x NotLeaderError            another operator process may serve the namespace of a write
      x StackError                the local stack, or a process of it, did not start or end
      x ClusterError              the command line cannot read or write an object of a cluster
      x QueueFullError            the simulator's queue is full

A message is one human-readable sentence. It names the field, the file or the address, and quotes no secret and no body.
"""

from __future__ import annotations

from enum import StrEnum

from llmendpoint_common.process import exit_codes


class LLMEndpointError(Exception):
    """Base of all errors. `exit_code` is the exit code of a process that ends with the error."""

    exit_code = exit_codes.ERROR


class InputError(LLMEndpointError):
    """A flag, a file or a field from a user is invalid."""

    exit_code = exit_codes.USAGE


class ConfigError(InputError):
    """The sidecar's configuration file cannot be read or is invalid. The message names the file and the field."""


class QuestionError(InputError):
    """A question file is invalid. The message is `file:line: reason`, or `file: reason` if the line is 0.

    The line is 0 if the error concerns the whole file, for example because it cannot be read.
    """

    def __init__(self, file: str, line: int, reason: str) -> None:
        super().__init__(_located(file, line, reason))
        self.file = file
        self.line = line
        self.reason = reason


class TraceError(InputError):
    """A trace is invalid. Its message is that of a QuestionError."""

    def __init__(self, file: str, line: int, reason: str) -> None:
        super().__init__(_located(file, line, reason))


class RunDocumentError(InputError):
    """A run document cannot be read or is invalid. The message names the file and the field."""


class APIKeyError(InputError):
    """A file with an API key cannot be read, or its content cannot be sent. The message names the file, not the key."""


class ModelfileError(LLMEndpointError, ValueError):
    """A Modelfile is invalid. The message names the line, and quotes at most a word of it."""

    def __init__(self, line: int, sentence: str) -> None:
        super().__init__(f"line {line} of the Modelfile: {sentence}.")


class PolicyError(InputError):
    """The operator's policy file cannot be read or is invalid. The message names the file, and the field or line."""


class ManifestError(InputError):
    """A manifest cannot be read or is invalid. The message has one line per error: `FILE:LINE: FIELD: SENTENCE`."""


class OutputError(InputError):
    """A folder for results cannot be written, or a result cannot be read. The message names the path and the reason."""


class StdoutError(OutputError):
    """A result could not be written to stdout, for example because its disk is full. The message has the reason."""

    exit_code = exit_codes.ERROR


class TargetError(InputError, ValueError):
    """The URL, the headers, the API key or the certificates of a load run cannot be used. The message quotes no key."""


class ProtocolError(LLMEndpointError):
    """Bytes are not valid HTTP/1.1."""


class HeadError(ProtocolError):
    """A head is not valid HTTP/1.1, or is ambiguous although llhttp accepts it."""


class HeadTooLargeError(HeadError):
    """A head is larger than a reader accepts."""


class BodyError(ProtocolError):
    """The framing of a body is invalid, or the end of the body is ambiguous."""


class UpstreamError(ProtocolError):
    """No connection to the upstream could be opened, or the connection ended before the response."""


class RequestBodyError(ProtocolError):
    """The model in a request body is ambiguous, or the body cannot be decoded. The message does not quote the body."""


class OllamaError(LLMEndpointError):
    """A call to Ollama failed.

    The message is Ollama's, if there is one. `status` is the HTTP status, or 0 if there is no response.
    """

    def __init__(self, sentence: str, status: int = 0) -> None:
        super().__init__(sentence)
        self.status = status


class OllamaSilentError(OllamaError):
    """Ollama accepted a request, and did not answer in time."""


class NotOllamaError(OllamaError):
    """Something else than Ollama answers at its address. The message is a part of a sentence that says so."""


class ModelError(LLMEndpointError):
    """A declared model cannot be made available. `reason` is a `contracts.sidecar.ModelReason`."""

    def __init__(self, reason: StrEnum, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class ChannelClosedError(LLMEndpointError):
    """The process at the other end of a channel has ended."""


class FileLimitError(LLMEndpointError):
    """A load needs more connections than the limit of open files allows. The message says how to raise it."""

    exit_code = exit_codes.USAGE


class PublishError(LLMEndpointError):
    """The result of a load run could not be written to the cluster."""


class RunResultError(LLMEndpointError):
    """The result of a load run, as read from the cluster, is invalid. The message names the field."""


class NotReadyError(LLMEndpointError):
    """A load run cannot start yet. `obstacle` is the reason. The message also says when the run starts, if it can.

    A run that has ended because it could not start in time shows only the obstacle.
    """

    def __init__(self, obstacle: str, start: str = "") -> None:
        super().__init__(f"{obstacle} {start}".rstrip())
        self.obstacle = obstacle


class RunRefusedError(LLMEndpointError):
    """A load run cannot start until its spec, or that of its endpoint, is changed.

    `reason` is the reason of its conditions.
    """

    def __init__(self, reason: StrEnum, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class NotLeaderError(LLMEndpointError):
    """A write was not sent, because another operator process may serve the namespace. The message names it."""


class StackError(LLMEndpointError):
    """The local stack, or a process of it, did not start or end.

    The message says why, and may have the end of a log.
    """


class ClusterError(LLMEndpointError):
    """An object of a cluster cannot be read or written. The message names it, and quotes the API server."""


class NoClusterError(ClusterError):
    """No kubeconfig was named, and there is none in the usual places. The message has the reason."""


class QueueFullError(LLMEndpointError):
    """The simulator's queue is full."""


def _located(file: str, line: int, reason: str) -> str:
    return f"{file}:{line}: {reason}" if line else f"{file}: {reason}"
