"""Clones of the working tree with tiny data, in which the flows run as a user runs them."""

import csv
import fcntl
import http.server
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet
import pytest
from PIL import Image, ImageOps
from ruamel.yaml import YAML

from flows import server, stack

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 900
# What `stages.generate` shall draw, small enough that a stage spends its time on starting.
FORMATS = ("--only", "imagenet", "--only", "imagefolder", "--only", "coco")
COUNTS = ("--imagenet", "6", "2", "--imagefolder", "6", "3", "4", "--scenes", "12", "6", "6")
SIZES = ("--imagenet-px", "32", "--imagefolder-px", "32", "40", "--scene-size", "64", "96")

PARAMS = """\
seed: 0
cpu_threads: 1
datasets:
  shapes-imagenet:  # comments survive what commands change
    validation: {min_samples: 50}
  shapes-patterns: {}
  shapes-scenes: {}
backbones:
  shapes-resnet18:
    dataset: shapes-imagenet
    arch: resnet18
    stem: imagenet
    objective: supervised
    image_px: 32
    training: &short
      steps: 6
      batch_size: 12
      optimizer: {name: adamw, lr: 0.001}
      precision: fp32
      log_every: 2
tasks:
  patterns:
    kind: classification
    dataset: shapes-patterns
    backbone: shapes-resnet18
    control: true
    image_px: 32
    training: {steps: 24, batch_size: 8, precision: fp32, ema_decay: 0.9, validate_every: 8, log_every: 2}
    evaluation: {resamples: 20, num_pictures: 2}
  scenes:
    kind: detection
    dataset: shapes-scenes
    backbone: shapes-resnet18
    image_size_px: [64, 96]
    faster_rcnn:
      fpn_channels: 16
      anchor_sizes_px: [8, 16, 32, 64]
      rpn_proposals_train: 20
      rpn_proposals_test: 10
      rois_per_image: 16
      head_channels: 32
    training: {steps: 6, batch_size: 2, precision: fp32, log_every: 2}
    evaluation: {resamples: 20, num_pictures: 2}
"""


@dataclass
class Clone:
    """A git checkout of the project with its own DVC cache, MLflow database and local state."""

    root: Path
    settings: dict[str, str] = field(default_factory=dict)

    def environment(self, settings: Mapping[str, str] | None = None) -> dict[str, str]:
        """No settings of the person who runs the tests, no git identity, nothing outside the temporary folder."""
        home = self.root.parent / f"{self.root.name}-home"
        home.mkdir(exist_ok=True)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_", "GIT_", "VISIONLINE_"))}
        own = {"HOME": str(home), "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "COLUMNS": "200"}
        own |= {"PYTHONPATH": str(self.root), "DVC_SITE_CACHE_DIR": str(home / "dvc")}
        return kept | own | self.settings | dict(settings or {})

    def run(self, *command: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """A command in the clone, whatever comes of it."""
        return subprocess.run(
            command, cwd=self.root, env=self.environment(settings), capture_output=True, text=True, timeout=TIMEOUT_S,
            check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def visionline(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """A command of visionline; none may answer with a traceback."""
        done = self.run(sys.executable, "-m", "flows", *arguments, **settings)
        assert "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
        return done

    def ok(self, *arguments: str, **settings: str) -> str:
        """What a command of visionline prints that has to go well."""
        done = self.visionline(*arguments, **settings)
        assert done.returncode == 0, f"{arguments}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def start(self, *arguments: str, **settings: str) -> subprocess.Popen[str]:
        """A command of visionline that is not waited for."""
        return subprocess.Popen(
            [sys.executable, "-m", "flows", *arguments], cwd=self.root, env=self.environment(settings), text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            # A shell lets what runs in its background ignore Ctrl-C, and so would every child.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip

    def stage(self, name: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """A stage without Prefect and DVC."""
        return self.run(sys.executable, "-m", f"stages.{name}", *arguments, **settings)

    def dvc(self, *arguments: str) -> str:
        done = self.run(sys.executable, "-m", "dvc", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def git(self, *arguments: str) -> str:
        done = self.run("git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def commits(self, since: str) -> list[str]:
        """Subjects of the commits after one, oldest first."""
        return self.git("log", "--reverse", "--format=%s", f"{since}..HEAD").splitlines()

    def files_of(self, commit: str = "HEAD") -> list[str]:
        """What a commit changed."""
        return self.git("show", "--format=", "--name-only", commit).splitlines()

    def yaml(self, path: str) -> Any:
        return YAML(typ="safe").load(self.root / path)

    def processes(self, *words: str) -> list[psutil.Process]:
        """Every live process that works in the clone, and has these words in its command."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()).is_relative_to(self.root):
                    found += [process] if set(words) <= set(process.cmdline()) else []
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def sql(self, query: str) -> list[tuple[Any, ...]]:
        """Rows of the MLflow database: much quicker than to import MLflow."""
        with sqlite3.connect(self.root / ".visionline/mlflow.db") as database:
            return database.execute(query).fetchall()

    def aliases(self, model: str) -> dict[str, int]:
        """Alias -> version of a registered model."""
        if not (self.root / ".visionline/mlflow.db").exists():
            return {}
        rows = self.sql(f"SELECT alias, version FROM registered_model_aliases WHERE name = '{model}'")
        return {alias: int(version) for alias, version in rows}

    def copy(self, root: Path) -> "Clone":
        """Another clone in the same state; file contents are shared until someone replaces them."""
        shutil.copytree(self.root, root, symlinks=True, copy_function=self._linked)
        _move_database(root / ".visionline/mlflow.db", self.root, root)
        return Clone(root, dict(self.settings))

    def _linked(self, source: str, target: str) -> None:
        """Links to what the project never changes in place; a copy of all else."""
        inside = Path(source).relative_to(self.root).as_posix()
        is_constant = inside.startswith((".dvc/cache/", "data/", "models/", ".visionline/mlartifacts/"))
        is_constant = is_constant and not source.endswith(".dvc")  # DVC writes a pointer in place
        (os.link if is_constant else shutil.copy2)(source, target)


def _move_database(file: Path, before: Path, after: Path) -> None:
    """MLflow notes absolute paths."""
    if not file.exists():
        return
    with sqlite3.connect(file) as database:
        places = database.execute(
            "SELECT m.name, c.name FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table' AND "
            "(c.name LIKE '%location' OR c.name LIKE '%uri' OR c.name = 'source')"
        ).fetchall()
        for table, column in places:
            database.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (f"{before}/", f"{after}/"))


@pytest.fixture(scope="session")
def built_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], str]], tuple[Path, str]]:
    """Name and builder -> folder and what the builder returned; processes of one test run (-n) share the folders."""
    together = tmp_path_factory.getbasetemp()
    together = together.parent if "PYTEST_XDIST_WORKER" in os.environ else together

    def once(name: str, build: Callable[[Path], str]) -> tuple[Path, str]:
        folder, told = together / name / "project", together / f"{name}.told"
        with (together / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not told.exists():
                shutil.rmtree(folder, ignore_errors=True)
                told.write_text(build(folder))
        return folder, told.read_text()

    return once


@pytest.fixture(scope="session")
def bare(built_once: Any) -> Clone:
    """The working tree as it is, in a repository of its own, with tiny parameters and drawn pictures; no data yet."""
    return Clone(built_once("bare", _build_bare)[0])


def _build_bare(root: Path) -> str:
    clone = Clone(root)
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    for name in sorted(filter(None, listed.stdout.split("\0"))):
        # `make run` commits pointers and dvc.lock here: they are of a user's data.
        if (ROOT / name).is_file() and not name.startswith(("tests/", "data/", "dvc.lock")):
            (clone.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, clone.root / name)
    (clone.root / "params.yaml").write_text(PARAMS)
    clone.git("init", "--quiet", "--initial-branch", "main")
    driver = f"'{sys.executable}' -m dvc git-hook merge-driver --ancestor %O --our %A --their %B"
    clone.git("config", "merge.dvc.driver", driver)
    clone.git("add", ".")
    clone.git("commit", "--quiet", "--message", "start")
    drawn = clone.stage("generate", ".visionline/shapes", *FORMATS, *COUNTS, *SIZES)
    assert drawn.returncode == 0, drawn.stderr
    return ""


@pytest.fixture(scope="session")
def with_data(bare: Clone, built_once: Any) -> Clone:
    """Three datasets, ingested by the command `generate`; nothing has run."""
    return Clone(built_once("data", lambda root: bare.copy(root).ok("generate"))[0])


@dataclass(frozen=True)
class Ran:
    """A clone after a whole run, which tests copy and do not change."""

    clone: Clone
    before: str  # the commit from before
    printed: str


@pytest.fixture(scope="session")
def ran(with_data: Clone, built_once: Any) -> Ran:
    """The result of a whole `visionline run` with a Prefect server of its own."""
    folder, printed = built_once("ran", lambda root: with_data.copy(root).ok("run"))
    return Ran(Clone(folder), with_data.git("rev-parse", "HEAD"), printed)


@pytest.fixture
def clone(ran: Ran, prefect_url: str, tmp_path: Path) -> Clone:
    """A copy of the clone that has run, to change at will; its runs share one Prefect server."""
    copied = ran.clone.copy(tmp_path / "project")
    copied.settings["PREFECT_API_URL"] = prefect_url
    return copied


@pytest.fixture(scope="session")
def prefect_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One Prefect server for the tests that do not ask how a run starts its own."""
    folder = tmp_path_factory.mktemp("prefect")
    port, log = server.free_port(), folder / "server.log"
    settings = {"PREFECT_HOME": str(folder), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    with pytest.MonkeyPatch.context() as patch:
        for key, value in settings.items():
            patch.setenv(key, value)
        process = server.start(
            stack.command("prefect", port), stack.settings("prefect", port), log, is_bound_to_us=True
        )
    try:
        server.wait_until_healthy(f"{stack.address(port)}/api/health", process, log)
        yield f"{stack.address(port)}/api"
    finally:
        process.terminate()
        process.wait()


@dataclass(frozen=True)
class Evaluated:
    """What evaluate wrote in a clone, by the keys of the test images."""

    clone: Clone

    def files(self, task: str) -> dict[str, Path]:
        """Each test image, in the order in which evaluate saw them."""
        shapes = self.clone.root / ".visionline/shapes" / {"patterns": "imagefolder", "scenes": "coco"}[task]
        index = self.clone.root / f"data/shapes-{task}/index"
        rows = pyarrow.parquet.read_table(index, columns=["key", "source", "split"]).to_pylist()
        return {
            row["key"]: shapes / row["source"] for row in sorted(rows, key=lambda r: r["key"]) if row["split"] == "test"
        }

    def scores(self) -> dict[str, dict[str, float]]:
        """Label -> probability, of patterns."""
        with (self.clone.root / "reports/evaluate/patterns/predictions.csv").open() as file:
            rows = list(csv.DictReader(file))
        return {row["key"]: {k: float(v) for k, v in row.items() if k not in ("key", "truth")} for row in rows}

    def boxes(self) -> dict[str, list[tuple[int, float, list[float]]]]:
        """Category, score and x, y, width, height of each box, of scenes."""
        folder = self.clone.root / "reports/evaluate/scenes"
        truth, results = (json.loads((folder / f"{n}.json").read_text()) for n in ("ground_truth", "predictions"))
        keys = {image["id"]: image["file_name"] for image in truth["images"]}
        found: dict[str, list[tuple[int, float, list[float]]]] = {key: [] for key in keys.values()}
        for row in results:
            found[keys[row["image_id"]]].append((row["category_id"], row["score"], row["bbox"]))
        return found


@pytest.fixture(scope="session")
def evaluated(ran: Ran) -> Evaluated:
    """What a whole run left; not to be changed."""
    return Evaluated(ran.clone)


# Retrained without a person, and promoted whatever the numbers say.
UNATTENDED = (
    "models.patterns={promote: auto, gate: {margin: 1.0, slices: [], max_latency_ratio: null}}",
    "retraining={quiet_s: 1, retries: %d}",
    "tasks.patterns.control=false",
)


OVER = ("COMPLETED", "FAILED", "CRASHED")


@dataclass(frozen=True)
class Attended:
    """A clone with services and deployments of its own, and what a webhook was told."""

    clone: Clone
    addresses: dict[str, str]
    told: list[dict[str, str]]

    def flow_runs(self, name: str) -> list[dict[str, Any]]:
        """Runs of a flow as the server knows them, oldest first."""
        return self.ask("flow_runs/filter", {"flows": {"name": {"any_": [name]}}, "sort": "EXPECTED_START_TIME_ASC"})

    def ended(self, name: str, number: int) -> dict[str, Any] | None:
        """A run of a flow, counted from 0, that is over; None until then."""
        runs = self.flow_runs(name)
        return runs[number] if len(runs) > number and runs[number]["state_type"] in OVER else None

    def pid(self, service: str) -> int:
        """Of a service that was started here."""
        return int(json.loads((self.clone.root / f".visionline/services/{service}.json").read_text())["pid"])

    def ask(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """What the Prefect server answers."""
        data = None if body is None else json.dumps(body).encode()
        address = f"{self.addresses['prefect']}/api/{path}"
        request = urllib.request.Request(address, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)

    def ingest(self, folder: Path, split: str, is_new: bool) -> int:
        """Ingest pictures of the train split, turned over or as they are; how many."""
        train = self.clone.root / ".visionline/shapes/imagefolder/train"
        files = [file for label in sorted(train.iterdir()) for file in sorted(label.iterdir())[:2]]
        for file in files:
            place = folder / file.parent.name / f"new-{file.stem}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            if is_new:
                with Image.open(file) as image:
                    ImageOps.flip(image.convert("RGB")).save(place)
            else:
                shutil.copy(file, place)
        self.clone.ok("ingest", "shapes-patterns", str(folder), "--format", "imagefolder", "--split", split)
        return len(files)

    def wait_for(self, what: str, condition: Callable[[], Any], timeout_s: float = 300) -> Any:
        """What a condition comes to when it is met; fails with `what` when it takes too long."""
        deadline = time.monotonic() + timeout_s
        while not (found := condition()):
            assert time.monotonic() < deadline, f"{what}: it did not happen in time"
            time.sleep(0.5)
        return found


class _Webhook(http.server.BaseHTTPRequestHandler):
    """Keeps what it is told."""

    def do_POST(self) -> None:
        self.server.told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))  # type: ignore[attr-defined]
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def attended(ran: Ran, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Attended]:
    """Services on free ports, ended afterwards; `indirect` parameter: retries of what was killed."""
    with attend(ran.clone.copy(tmp_path / "project"), getattr(request, "param", 0)) as found:
        yield found


@contextmanager
def attend(clone: Clone, retries: int) -> Iterator[Attended]:
    """The services of a clone that has run, deployed, with a webhook."""
    script = "import sys; from stages.params import edit; edit.set_values(dict(a.split('=', 1) for a in sys.argv[1:]))"
    settings = [text % retries if "%d" in text else text for text in UNATTENDED]
    assert clone.run(sys.executable, "-c", script, *settings).returncode == 0
    clone.git("commit", "--quiet", "--all", "--message", "without a person")
    webhook = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Webhook)
    webhook.told = []  # type: ignore[attr-defined]
    threading.Thread(target=webhook.serve_forever, daemon=True).start()
    try:
        addresses = json.loads(clone.ok("up", "--prefect-port", "0", "--mlflow-port", "0", "--json"))
        clone.ok("deploy", VISIONLINE_NOTIFY_URL=f"http://127.0.0.1:{webhook.server_port}/hook?token=hush")
        yield Attended(clone, addresses, webhook.told)  # type: ignore[attr-defined]
    finally:
        clone.ok("down")
        webhook.shutdown()
    assert clone.processes() == []
