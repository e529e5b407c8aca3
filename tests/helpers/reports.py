"""The command ``advdrop report``, called as a function."""

import argparse

from lightning_advdrop.report import add_arguments, run


def report(*arguments: str) -> int:
    """Run the command with the arguments of a command line."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return run(parser.parse_args(arguments))
