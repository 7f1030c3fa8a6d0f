"""A script, run outside the repository: one registered model, with its own code, answers over HTTP.

`front.py MODEL_URI SOCKET FACTS`: on a Unix socket, POST /predict takes encoded images as they are, POST /invocations
what MLflow's scoring protocol knows (base64 in JSON). A line on stdout says that it answers; FACTS (JSON) names the
version. flows/router.py stands before it, and limits the bodies.
"""

import signal

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the router, which ends this process

import asyncio
import io
import json
import logging
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import mlflow
import pandas as pd
import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.scoring_server import invocations
from starlette.exceptions import HTTPException as StarletteHTTPException
from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import HTTPException as WerkzeugHTTPException
from werkzeug.formparser import FormDataParser
from werkzeug.http import parse_options_header

RAW = ("image/", "application/octet-stream")
REASON_LENGTH = 500


class Model(Protocol):
    """What is served; MLflow's PyFuncModel."""

    metadata: Any

    def predict(self, data: Any, params: Any = None) -> Any: ...


def application(model: Model, facts: dict[str, Any]) -> FastAPI:
    """The routes. Requests are read side by side and answered one after the other: a forward pass uses every thread."""
    app = FastAPI(title=f"{facts.get('name')} version {facts.get('version')}", docs_url=None, redoc_url=None)
    one_at_a_time = asyncio.Semaphore(1)

    async def work(function: Callable[..., Any], *arguments: Any) -> Any:
        async with one_at_a_time:
            return await asyncio.to_thread(function, *arguments)

    @app.exception_handler(StarletteHTTPException)
    async def refused(request: Request, error: StarletteHTTPException) -> JSONResponse:
        return JSONResponse({"error": error.detail}, error.status_code)

    @app.post("/predict")
    async def predict(request: Request) -> Response:
        body, content_type = await request.body(), request.headers.get("content-type", "")
        if content_type.startswith("multipart/form-data"):
            answers = await work(_answers, model, _parts(body, content_type))
            return Response(f'{{"answers": [{", ".join(answers)}]}}', media_type="application/json")
        if not content_type.startswith(RAW):
            raise HTTPException(
                415, f"Content-Type is {content_type or 'missing'}: send the image with image/jpeg or the like, or "
                "as multipart/form-data; JSON goes to /invocations",
            )  # fmt: skip
        answers = await work(_answers, model, [body])
        return Response(answers[0], media_type="application/json")

    @app.post("/invocations")
    async def score(request: Request) -> Response:
        body, content_type = await request.body(), request.headers.get("content-type", "")
        return await work(_scored, model, body, content_type or "application/json")

    return app


def _answers(model: Model, images: Sequence[bytes]) -> list[str]:
    """The model's JSON for each image."""
    try:
        return list(model.predict(pd.DataFrame({"image": images}))["answer"])
    except MlflowException as error:
        reason = _reason(error)
        raise HTTPException(_status(error), reason if len(images) > 1 else reason.removeprefix("image 0: ")) from None


def _scored(model: Model, body: bytes, content_type: str) -> Response:
    """MLflow's own scoring. Faults of the model it tells itself; whatever else it stumbles on is in the body."""
    try:
        scored = invocations(body, content_type, model, model.metadata.get_input_schema())
    except MlflowException as error:
        is_undecoded = any(f'"{key}"'.encode() in body[:100] for key in ("inputs", "instances"))
        hint = " (MLflow decodes base64 in dataframe_split and dataframe_records alone)" if is_undecoded else ""
        raise HTTPException(_status(error), _reason(error) + hint) from None
    except Exception as error:
        raise HTTPException(400, f"not what MLflow's scoring protocol knows: {_shortened(repr(error))}") from None
    if scored.status != 200:
        raise HTTPException(scored.status, _shortened(scored.response))
    return Response(scored.response, media_type=scored.mimetype)


def _parts(body: bytes, content_type: str) -> list[bytes]:
    """The files of a form, in their order."""
    media_type, options = parse_options_header(content_type)
    try:
        _, _, files = FormDataParser(silent=False).parse(io.BytesIO(body), media_type, len(body), options)
    except (ValueError, WerkzeugHTTPException) as error:
        raise HTTPException(400, f"not a whole multipart form: {error}") from None
    found: list[FileStorage] = [file for _, file in files.items(multi=True)]
    if not found:
        raise HTTPException(400, "the form holds no file: curl -F image=@photo.jpg")
    return [file.read() for file in found]


def _status(error: MlflowException) -> int:
    status = int(error.get_http_status_code())
    return status if 400 <= status < 500 else 500


def _reason(error: MlflowException) -> str:
    """The model's words; MLflow puts the data that it was sent before them."""
    return _shortened(error.message.rpartition("\nError: ")[2])


def _shortened(text: str) -> str:
    return text if len(text) <= REASON_LENGTH else f"{text[:REASON_LENGTH]} ..."


def main(model_uri: str, path: str, facts: dict[str, Any]) -> None:
    """Serve until a signal comes."""
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    try:
        model = mlflow.pyfunc.load_model(model_uri)
    except Exception as error:  # whatever the model's own code, or the registry, makes of it
        print(f"visionline: {model_uri} can't be loaded: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(1)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(path)
        bound.listen()  # whoever reads the next line and calls at once waits for a moment, and is not refused
        print("ready", flush=True)
        config = uvicorn.Config(application(model, facts), log_level="warning", timeout_keep_alive=3600)
        uvicorn.Server(config).run(sockets=[bound])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
