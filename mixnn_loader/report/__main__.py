"""``python -m mixnn_loader.report`` is the command ``mixnn-labels``."""

import sys

from mixnn_loader.command.main import main

if __name__ == "__main__":
    sys.exit(main())
