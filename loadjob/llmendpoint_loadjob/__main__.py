"""Entry point of `python -m llmendpoint_loadjob`."""

import sys

from llmendpoint_common.process.start import run_program

if __name__ == "__main__":
    sys.exit(run_program("llmendpoint_loadjob.main"))
