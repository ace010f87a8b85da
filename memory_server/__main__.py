"""The command line `memory-server`."""

import inspect
import os
import signal
import sys
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

from memory_server.allocator import make_overwritable

if TYPE_CHECKING:
    import typer

_NEEDED = ("torch", "grpc_health", "grpc_reflection", "pydantic_settings", "typer", "structlog", "sqlalchemy")
_HELP = """A server of generative memories: it learns task after task, keeps no raw data, and streams what it remembers.

Start one with `memory-server serve`, then talk to it with memory_client or memoryctl.
"""


def main() -> None:
    """Runs the command line; the exit status is 2 if it cannot even start."""
    if sys.argv[1:2] == ["serve"]:  # before anything is loaded that would be loaded twice
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # it would end a server that is not ready to read its files again
        make_overwritable()
    # Read when gRPC is loaded. What it would log by itself is no JSON, and repeats what anybody may have sent.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    missing = [name for name in (*_NEEDED, "prometheus_client", "safetensors") if find_spec(name) is None]
    if missing:
        fail(f"the server's parts are not installed ({', '.join(missing)}); pip install 'generative-memory[server]'")
    application()()


def application() -> "typer.Typer":
    """All commands."""
    import typer  # noqa: PLC0415 - the base install has the command but not typer
    from memory_client.cli.version import Version  # noqa: PLC0415

    from memory_server.bases.command import base  # noqa: PLC0415
    from memory_server.demo.command import demo  # noqa: PLC0415
    from memory_server.maintenance.check import check  # noqa: PLC0415
    from memory_server.maintenance.keys import key  # noqa: PLC0415
    from memory_server.probe import health  # noqa: PLC0415
    from memory_server.security.command import token  # noqa: PLC0415

    app = typer.Typer(
        help=_HELP, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False
    )

    @app.callback()
    def memory_server(version: Version = False) -> None: ...

    app.command("serve")(_serve_command())
    app.command("health")(health)
    app.command("demo")(demo)
    app.command("check")(check)
    app.add_typer(base, name="base")
    app.add_typer(token, name="token")
    app.add_typer(key, name="key")
    return app


def fail(message: str) -> NoReturn:
    """Says in one line why the program ends, and ends it."""
    print(f"memory-server: {message}", file=sys.stderr)  # noqa: T201
    sys.exit(2)


def serve(**chosen: Any) -> None:
    """Serve memories until Ctrl-C or SIGTERM.

    Prints one line, "memory-server ready on HOST:PORT", once calls are answered; logs go to standard error.
    Raw data is held in memory only. Learned memories are in the data directory, and are all there after a restart.

    Each option can be given as an environment variable, too: --data-dir as MEMORY_SERVER_DATA_DIR.
    """
    from memory_server.settings import load  # noqa: PLC0415

    try:
        load(chosen)  # before torch is loaded, which takes seconds
    except ValueError as error:
        fail(str(error))
    _run(partial(load, chosen))


def _run(settings: Any) -> None:
    from memory_server.app import run  # noqa: PLC0415
    from memory_server.errors import CannotStart  # noqa: PLC0415

    try:
        run(settings, lambda address: print(f"memory-server ready on {address}", flush=True))  # noqa: T201
    except CannotStart as error:
        fail(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


def _serve_command() -> Any:
    """`serve` with one option per setting, so that names, defaults and help have one source."""
    import typer  # noqa: PLC0415

    from memory_server.settings import ENVIRONMENT_PREFIX, Settings  # noqa: PLC0415

    def parameter(name: str) -> inspect.Parameter:
        field = Settings.model_fields[name]
        option = typer.Option(help=field.description, envvar=ENVIRONMENT_PREFIX + name.upper(), show_envvar=False)
        annotation: Any = Annotated[field.annotation, option]
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=annotation)

    def command(context: Any, **options: Any) -> None:
        given = {name: value for name, value in options.items() if not _by_default(context, name)}
        serve(**given)

    of_context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    parameters = [of_context, *(parameter(name) for name in Settings.model_fields)]
    command.__doc__ = serve.__doc__
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in parameters}
    return command


def _by_default(context: Any, option: str) -> bool:
    """Whether an option was not given, so that the file of settings may have it."""
    return bool(context.get_parameter_source(option).name.startswith("DEFAULT"))


if __name__ == "__main__":
    main()
