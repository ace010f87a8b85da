"""How the command line reads its options, and how it ends."""

from typing import Any

import typer
from typer.core import TyperGroup

from memory_client import MemoryServiceError

FAILED, INTERRUPTED = 1, 130

_LONG = ("--target", "--memory", "--token-file", "--ca", "--certificate", "--key")
_SHORT = "-m"
_WITH_VALUE = (*_LONG, _SHORT)
_JOINED = (_SHORT, *(f"{name}=" for name in _LONG))
_FLAGS = ("--json", "--version")


class CommandGroup(TyperGroup):
    """Commands whose global options may also follow them, and whose errors are one line each and no traceback.

    `memoryctl tasks -m digits --json` is what people type. Exit status: 1 for an error, 2 for misuse, 130 after Ctrl-C.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parses with the global options moved to the front."""
        return list(super().parse_args(ctx, hoisted(args)))

    def invoke(self, ctx: Any) -> Any:
        """Runs the command."""
        try:
            return super().invoke(ctx)
        except (MemoryServiceError, OSError) as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(FAILED) from None
        except (KeyboardInterrupt, typer.Abort) as interrupt:
            typer.echo("\n".join(["interrupted", *getattr(interrupt, "__notes__", [])]), err=True)
            raise typer.Exit(INTERRUPTED) from None


def hoisted(args: list[str]) -> list[str]:
    """The arguments with the global options first, each with its value; nothing is moved from behind "--"."""
    end = args.index("--") if "--" in args else len(args)
    front: list[str] = []
    rest: list[str] = []
    words = iter(args[:end])
    for word in words:
        if word in _WITH_VALUE:
            front += [word, *[value for value in [next(words, None)] if value is not None]]
        elif word in _FLAGS or word.startswith(_JOINED):
            front.append(word)
        else:
            rest.append(word)
    return [*front, *rest, *args[end:]]
