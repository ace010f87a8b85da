"""Global options anywhere on the line: `memoryctl tasks -m digits --json` is what people type."""

from typing import Any

from typer.core import TyperGroup

_WITH_VALUE = ("--target", "--memory", "-m")
_FLAGS = ("--json",)


class AnywhereGroup(TyperGroup):
    """A command group whose own options may also follow the command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parses with the global options moved to the front."""
        return list(super().parse_args(ctx, hoisted(args)))


def hoisted(args: list[str]) -> list[str]:
    """The arguments with the global options first, each with its value; nothing is moved from behind "--"."""
    end = args.index("--") if "--" in args else len(args)
    front: list[str] = []
    rest: list[str] = []
    words = iter(args[:end])
    for word in words:
        if word in _WITH_VALUE:
            front += [word, *[value for value in [next(words, None)] if value is not None]]
        elif word in _FLAGS or word.startswith(tuple(f"{name}=" for name in _WITH_VALUE if name.startswith("--"))):
            front.append(word)
        else:
            rest.append(word)
    return [*front, *rest, *args[end:]]
