"""The application: one model, its endpoints, its guard."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI
from starlette.responses import JSONResponse

from rhapsode import __version__
from rhapsode.engine.load import Loaded
from rhapsode.engine.worker import Worker
from rhapsode.serve.chats import chats
from rhapsode.serve.completions import completions
from rhapsode.serve.config import ServeConfig
from rhapsode.serve.errors import ApiError, handle_errors
from rhapsode.serve.guard import Guard
from rhapsode.serve.service import Service


def create_app(loaded: Loaded, *, name: str, config: ServeConfig | None = None, api_key: str | None = None) -> FastAPI:
    """An application that serves `loaded` as the model `name`. Its worker runs from now until its shutdown."""
    config = config or ServeConfig()
    worker = Worker(loaded.engine, max_running=config.engine.max_requests, max_waiting=config.max_waiting)
    service = Service(name, worker, loaded.tokenizer, config, int(time.time()))

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        worker.stop()

    app = FastAPI(
        title="Rhapsode",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    for router in (_health(service), _models(service), completions(service), chats(service)):
        app.include_router(router)
    handle_errors(app)
    app.add_middleware(Guard, config=config, api_key=api_key)
    app.state.worker = worker
    return app


def _health(service: Service) -> APIRouter:
    router = APIRouter()

    @router.get("/livez")
    async def live() -> dict[str, str]:
        return {"status": "ok"}

    @router.get("/readyz")
    async def ready() -> JSONResponse:
        is_ready = service.worker.is_alive
        return JSONResponse({"status": "ok" if is_ready else "stopped"}, 200 if is_ready else 503)

    @router.get("/health")
    async def health() -> JSONResponse:
        is_ready = service.worker.is_alive
        load = {"open": service.worker.num_open, "running": service.worker.engine.num_running}
        status = "ok" if is_ready else "stopped"
        return JSONResponse({"status": status, "model": service.name, **load}, 200 if is_ready else 503)

    return router


def _models(service: Service) -> APIRouter:
    router = APIRouter()
    card = {"id": service.name, "object": "model", "created": service.created, "owned_by": "rhapsode"}

    @router.get("/v1/models")
    async def models() -> dict[str, object]:
        return {"object": "list", "data": [card]}

    @router.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, object]:
        if name != service.name:
            raise ApiError(404, f"there is no model {name!r}", param="model", code="model_not_found")
        return {**card}

    return router
