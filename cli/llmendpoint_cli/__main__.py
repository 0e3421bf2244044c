"""Entry point of `python -m llmendpoint_cli`."""

import sys

from llmendpoint_cli.program import main

if __name__ == "__main__":
    sys.exit(main())
