"""`python -m mixup_modalities`: the data and the experiments of the book from the command line.

Each command lives in a module of its own with a function `configure(parser)`, which adds arguments and calls
`parser.set_defaults(run=function)`; `function(args)` does the work and returns an exit status or `None`. Only the
module of the command that was asked for is imported. A `LabError` is printed in one line, and so is a package that is
not installed: the library needs torch and numpy, the lab everything in the extra `book`. Other errors are faults of
ours and keep their traceback. Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
"""

import argparse
import os
import signal
import sys
from importlib import import_module

from mixup_modalities.lab.errors import LabError

COMMANDS = {
    "data": ("mixup_modalities.lab.data_command", "prepare and list the data sets"),
    "run": ("mixup_modalities.lab.run_command", "train recipes of the book and write the ledger"),
    "bench": ("mixup_modalities.lab.benchmark", "measure what mixing costs, beside other libraries"),
    "results": ("mixup_modalities.lab.results_command", "show the ledger beside published figures"),
}


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: arguments, without the program's name; default: those of the process.

    Returns:
        The exit status.
    """
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog="python -m mixup_modalities", description="Mixup across modalities: the lab.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, (module, text) in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text.capitalize() + ".")
        if argv[:1] == [name]:
            try:
                import_module(module).configure(command)
            except ModuleNotFoundError as error:
                return report_missing(error)
    args = parser.parse_args(argv)
    try:
        status = args.run(args) or 0
        sys.stdout.flush()
        return status
    except ModuleNotFoundError as error:
        return report_missing(error)
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe has gone, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def report_missing(error: ModuleNotFoundError) -> int:
    """Say which package is not installed, and how to install it; a module of our own that is missing is our fault."""
    package = (error.name or "").partition(".")[0]
    if package in ("", "mixup_modalities"):
        raise error
    print(f'error: this needs {package}, which is not installed: pip install "mixup-modalities[book]"', file=sys.stderr)
    return 1


def terminate(signum: int, frame: object) -> None:
    """End the process as `sys.exit` does."""
    raise SystemExit(128 + signum)  # so that temporary files are removed on the way out


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, terminate)
    sys.exit(main())
