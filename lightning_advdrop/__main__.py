"""``python -m lightning_advdrop`` is the ``advdrop`` command."""

import sys

from lightning_advdrop.cli import main

if __name__ == "__main__":
    sys.exit(main())
