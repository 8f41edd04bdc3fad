"""The command line: ``python -m fastnn {demo,warmup,info}``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from fastnn import __version__, demo
from fastnn.backends import BACKENDS
from fastnn.machine.versions import show_versions
from fastnn.warming import warmup

__all__ = ["main"]

_PICTURES = (".png", ".pdf", ".svg")
_INTERRUPTED = 130
_LARGEST = 2**32 - 1  # of a seed of scikit-learn's


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    arguments : sequence of str, optional
        The command's words; those of the process if left out.

    Returns
    -------
    int
        Exit status: 0 done, 1 failed, 2 not understood, 130 interrupted.

    Examples
    --------
    >>> main([])  # shows the help, on stderr
    2
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        if options.command == "demo":
            demo.run(
                options.output,
                epochs=options.epochs,
                seed=options.seed,
                compare=options.compare,
                backend=options.backend,
            )
        elif options.command == "warmup":
            seconds = warmup(all_layers=options.all_layers)
            print(f"kernels are ready, after {seconds:.1f} seconds")
        elif options.command == "info":
            show_versions()
        else:
            parser.print_help(sys.stderr)
            return 2
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return _INTERRUPTED
    except (ImportError, OSError) as problem:
        print(f"{parser.prog}: {problem}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m fastnn",
        description="Multilayer perceptrons on CPUs, trained and run in native code.",
    )
    parser.add_argument("--version", action="version", version=f"fastnn {__version__}")
    commands = parser.add_subparsers(dest="command", title="commands", metavar="COMMAND")

    summary = "train on handwritten digits, compare with scikit-learn, draw a picture"
    shown = commands.add_parser("demo", help=summary, description=f"{summary.capitalize()}.")
    shown.add_argument(
        "--output",
        type=_picture,
        default="fastnn-demo.png",
        metavar="PATH",
        help="where the picture goes (default: %(default)s)",
    )
    shown.add_argument(
        "--epochs",
        type=_whole(1),
        default=30,
        metavar="N",
        help="how many epochs at most (default: %(default)s)",
    )
    shown.add_argument(
        "--seed",
        type=_whole(0),
        default=0,
        metavar="N",
        help="for the parts, the first weights and the order (default: %(default)s)",
    )
    shown.add_argument(
        "--no-compare", dest="compare", action="store_false", help="leave scikit-learn's fit out"
    )
    shown.add_argument("--backend", choices=BACKENDS, help="which path computes (default: native)")

    summary = "compile the kernels now, once per machine, so that the first fit need not"
    warming = commands.add_parser("warmup", help=summary, description=f"{summary.capitalize()}.")
    warming.add_argument(
        "--all-layers",
        action="store_true",
        help="for layers of all kinds, not Dense and Dropout alone: twice as long",
    )

    summary = "versions, machine and settings, for a report of a problem"
    commands.add_parser("info", help=summary, description=f"{summary.capitalize()}.")
    return parser


def _whole(low: int) -> Callable[[str], int]:
    """Make the reader of a whole number of at least `low` that fits 32 bits."""

    def read(text: str) -> int:
        wanted = f"must be a whole number from {low} to {_LARGEST}; got {text!r}"
        try:
            number = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(wanted) from None
        if not low <= number <= _LARGEST:
            raise argparse.ArgumentTypeError(wanted)
        return number

    return read


def _picture(text: str) -> Path:
    """Take the picture's path, or refuse it before anything is computed."""
    path = Path(text)
    if path.suffix.lower() not in _PICTURES:
        raise argparse.ArgumentTypeError(f"must end in one of {', '.join(_PICTURES)}; got {text!r}")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {str(path.parent)!r}")
    return path


if __name__ == "__main__":
    sys.exit(main())
