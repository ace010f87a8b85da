"""Options that need an extra of the package."""

from importlib import import_module

from memory_server.errors import CannotStart


def require(option: str, extra: str, *modules: str) -> None:
    """Raises CannotStart, with what to install, unless the modules of an extra are there."""
    for module in modules:
        try:
            import_module(module)
        except ImportError as error:
            raise CannotStart(
                f"{option} needs the extra [{extra}], of which {error.name} is not installed; "
                f"pip install 'generative-memory[server,{extra}]', or leave {option} out"
            ) from error
