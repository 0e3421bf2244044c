"""Entry point of the command `llmendpoint`. It is imported quickly, and imports the command line itself."""

from __future__ import annotations

from llmendpoint_common.process.start import run_program


def main() -> int:
    """Run the command line of the process, and return its exit code."""
    return run_program("llmendpoint_cli.main")
