"""`rhapsode serve`: a model over HTTP."""

from typing import Annotated

from cyclopts import Parameter

from rhapsode.cli import options
from rhapsode.cli.console import give


def serve(
    model: options.Model,
    /,
    *,
    host: Annotated[str, Parameter(name="--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, Parameter(name="--port", help="Port to listen on; 0 lets the system choose.")] = 8000,
    json: options.Json = False,
) -> None:
    """Offer a model over an OpenAI-compatible API until Ctrl-C.

    RHAPSODE_API_KEY is the key that clients must send; an address that other machines can reach needs one.
    """
    from rhapsode.cli.models import find_model
    from rhapsode.core.validate import validate
    from rhapsode.core.yaml import Document, Key, Place
    from rhapsode.serve.config import ServeConfig
    from rhapsode.serve.server import serve as serve_model
    from rhapsode.weights.names import model_name

    options_given = {"host": host, "port": port}
    places: dict[Key, Place] = {(name,): Place(f"--{name}", f"--{name}") for name in options_given}
    config = validate(ServeConfig, Document(options_given, places))

    def started(url: str) -> None:
        give({"url": url}, as_json=json, show=lambda console: console.print(f"serving at {url}", soft_wrap=True))

    directory = find_model(model)
    serve_model(directory, config=config, name=model_name(directory), on_start=started)
