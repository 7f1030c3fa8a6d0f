"""The HTTP front, in this process: what is answered, and that a bad body is the sender's fault with a reason."""

import base64
import json
import warnings
from typing import Any

import mlflow
import pytest

from stages.tracking import front

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it would rather have a younger httpx
    from starlette.testclient import TestClient

FACTS = {"name": "length", "version": "3", "alias": "champion", "model_hash": "1f.dir"}
JPEG, JSON = "image/jpeg", "application/json"


@pytest.fixture(scope="module")
def client(length_model: str) -> TestClient:
    return TestClient(front.application(mlflow.pyfunc.load_model(length_model), FACTS))


def encoded(*images: bytes) -> list[str]:
    return [base64.b64encode(image).decode() for image in images]


def test_a_raw_image_and_a_form_of_several_are_answered(client: TestClient) -> None:
    raw = client.post("/predict", content=b"\x00\xff\r\n--x", headers={"content-type": JPEG})
    assert (raw.status_code, raw.json()) == (200, {"bytes": 7, "asked": 1})
    binary = bytes(range(256)) * 3  # every byte, line ends and dashes too, arrives as it was sent
    form = client.post("/predict", files=[("image", ("a.jpg", binary)), ("image", ("b.jpg", b"xy"))])
    assert form.json() == {"answers": [{"bytes": 768, "asked": 2}, {"bytes": 2, "asked": 2}]}


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": {"columns": ["image"], "data": [[text] for text in encoded(b"a", b"bcd")]}},
        {"dataframe_records": [{"image": text} for text in encoded(b"a", b"bcd")]},
    ],
    ids=lambda body: next(iter(body)),
)
def test_mlflows_protocol_takes_base64(client: TestClient, body: dict[str, Any]) -> None:
    answers = client.post("/invocations", json=body).json()["predictions"]
    assert [json.loads(row["answer"])["bytes"] for row in answers] == [1, 3]


def split(*rows: Any) -> bytes:
    return json.dumps({"dataframe_split": {"columns": ["image"], "data": [list(rows)]}}).encode()


BAD = {
    "not an image": ("/predict", JPEG, b"bad bytes", 400, "not an image"),
    "no type": ("/predict", None, b"x", 415, "Content-Type is missing"),
    "text": ("/predict", "text/plain", b"x", 415, "text/plain"),
    "json to predict": ("/predict", JSON, b"{}", 415, "/invocations"),
    "no boundary": ("/predict", "multipart/form-data", b"x", 400, "form"),
    "cut form": (
        "/predict", "multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; filename="a"\r\n\r\nab',
        400, "form",
    ),
    "form without a file": (
        "/predict", "multipart/form-data; boundary=x",
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nab\r\n--x--\r\n', 400, "no file",
    ),
    "cut json": ("/invocations", JSON, split(*encoded(b"a"))[:-4], 400, "JSON"),
    "list": ("/invocations", JSON, b"[]", 400, "dictionary"),
    "number": ("/invocations", JSON, b"7", 400, "dictionary"),
    "deep": ("/invocations", JSON, b"[" * 2000, 400, ""),
    "not utf8": ("/invocations", JSON, b"\xff\xfe", 400, ""),
    "unknown key": ("/invocations", JSON, b'{"images": []}', 400, "exactly one"),
    "split of text": ("/invocations", JSON, b'{"dataframe_split": "abc"}', 400, "split"),
    "split without data": ("/invocations", JSON, b'{"dataframe_split": {}}', 400, ""),
    "other column": ("/invocations", JSON, b'{"inputs": {"picture": ["aa"]}}', 400, "missing inputs"),
    "null": ("/invocations", JSON, split(None), 400, ""),
    "bad image in base64": ("/invocations", JSON, split(*encoded(b"bad")), 400, "not an image"),
    "base64 where mlflow decodes none": (
        "/invocations", JSON, b'{"inputs": {"image": ["bad="]}}', 400, "dataframe_split",
    ),
    "raw image to mlflow": ("/invocations", JPEG, b"x", 415, "content types"),
    "another charset": ("/invocations", f"{JSON}; charset=latin1", b"{}", 415, "UTF-8"),
    "cut parquet": ("/invocations", "application/vnd.apache.parquet", b"PAR1", 400, ""),
    "no such page": ("/models", JSON, b"{}", 404, "Not Found"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_bad_body_gets_a_reason_in_json(client: TestClient, case: str) -> None:
    path, content_type, body, status, word = BAD[case]
    answer = client.post(path, content=body, headers={"content-type": content_type} if content_type else {})
    assert (answer.status_code, word in answer.json()["error"]) == (status, True), answer.text
    assert len(answer.text) < 700  # what was sent does not come back


def test_a_fault_of_the_model_is_no_fault_of_the_sender(client: TestClient) -> None:
    with pytest.raises(RuntimeError, match="a hole in the model"):
        client.post("/predict", content=b"break", headers={"content-type": JPEG})
    quiet = TestClient(client.app, raise_server_exceptions=False)
    assert quiet.post("/predict", content=b"break", headers={"content-type": JPEG}).status_code == 500
