"""`python -m llmendpoint_operator`."""

import sys

from llmendpoint_operator.main import main

if __name__ == "__main__":
    sys.exit(main())
