"""What every command-line tool does about errors that its user can act on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from slotseg.errors import SlotSegError

INTERRUPTED = 130


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
