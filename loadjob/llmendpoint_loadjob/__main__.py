"""Entry point of `python -m llmendpoint_loadjob`."""

import sys

from llmendpoint_loadjob.main import main

if __name__ == "__main__":
    sys.exit(main())
