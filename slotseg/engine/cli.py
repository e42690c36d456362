"""What every command-line tool does about errors that its user can act on."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from slotseg.config import get_cfg
from slotseg.errors import SlotSegError

INTERRUPTED = 130

_KEY = re.compile(r"[A-Z][A-Z0-9_]*(\.[A-Z0-9_]+)*")


@contextmanager
def user_errors() -> Iterator[None]:
    """Print a :class:`SlotSegError` as one line on stderr and leave with exit status 1.

    Ctrl-C leaves with status 130. Both without a traceback; every other exception is a defect of
    the program and keeps its own. Usable as ``with user_errors():`` and as a decorator.
    """
    try:
        yield
    except SlotSegError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)


def mark_overrides(arguments: Sequence[str]) -> list[str]:
    """Put ``--`` before the first config key, so that no option before it takes it as a value.

    For parsers whose last positional argument is ``KEY VALUE ...`` and that have options with
    several values, such as ``--names a b SOLVER.BASE_LR 0.1``.

    Args:
        arguments: of a command line, without the program.
    """
    sections = set(get_cfg())
    for position, argument in enumerate(arguments):
        if argument == "--":
            break
        if _KEY.fullmatch(argument) and argument.partition(".")[0] in sections:
            return [*arguments[:position], "--", *arguments[position:]]
    return list(arguments)


def split_overrides(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """What comes before the first config key, and ``KEY VALUE ...`` from it on.

    For parsers with a positional argument of their own, which would leave no place for another one
    behind the options.

    Args:
        arguments: of a command line, without the program.
    """
    marked = mark_overrides(arguments)
    end = marked.index("--") if "--" in marked else len(marked)
    return marked[:end], marked[end + 1 :]


def one_line(error: BaseException) -> str:
    """The message of ``error`` as one line.

    An error raised in a data worker arrives with the worker's whole traceback as its message;
    its last line, without the name of the class, is the message it was raised with.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    if len(lines) == 1:
        return lines[0]
    if not lines[0].startswith("Caught "):
        return " ".join(lines)
    prefix, separator, message = lines[-1].partition(": ")
    return message if separator and prefix.endswith(type(error).__name__) else lines[-1]
