"""Fixtures for every test: real data, MLflow's database, a browser, small disks, and single-threaded torch."""

import html
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stages.tracking import store

# As stages set them: spinning threads of two processes on the same cores cost a factor of 17.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).parents[1]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
TALL = ("--window-size=1400,2400",)  # what is not in sight is not asked for
SCRIPTS_MS = (20_000, 60_000, 180_000)  # of the browser's own clock; on a busy machine pages need longer
QUIET = ("gpu", "background-networking", "component-update", "sync")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real datasets; skips where it is not laid beside the project."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the datasets in ../shared/data, beside the repository")
    return folder


@pytest.fixture(scope="session")
def small_classifier() -> Callable[[], Any]:
    """Makes a classifier of five classes whose backbone has four stages, each a convolution and a batch norm.

    Random, the same each time; a dropout in its last stage shows what is in eval mode.
    """
    import torch
    from torch import nn

    from stages.models.backbone import Backbone, Layout
    from stages.models.classifier import Classifier

    widths = (8, 12, 16, 24)

    def make() -> Classifier:
        torch.manual_seed(0)
        net = nn.Module()
        for i, (inputs, width) in enumerate(zip((3, *widths), widths, strict=False), start=1):
            layers = nn.Conv2d(inputs, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU()
            net.add_module(f"layer{i}", nn.Sequential(*layers))
        net.layer4.append(nn.Dropout(0.5))
        net.add_module("avgpool", nn.AdaptiveAvgPool2d(1))
        layout = Layout(
            stages=tuple((f"layer{i}",) for i in range(1, 5)),
            channels=widths,
            strides=(2, 4, 8, 16),
            num_features=widths[-1],
            image_px_min=1,
            head=lambda num_classes: nn.Linear(widths[-1], num_classes),
        )
        return Classifier(Backbone("small", net, layout), 5, dropout=0.5)

    return make


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database: making one takes seconds, copying one none."""
    file = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(file.parent)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{file}")
        _forget_the_store()
        store.client()
        _forget_the_store()
    return file


@pytest.fixture
def use_database(migrated: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """Lays an empty database into a folder, and makes it MLflow's until the test ends."""

    def use(folder: Path) -> None:
        file = shutil.copy(migrated, folder / "mlflow.db")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{file}")
        _forget_the_store()

    yield use
    _forget_the_store()


def _forget_the_store() -> None:
    for cached in (store.client, store.experiment_id, store.repository_root):
        cached.cache_clear()


@pytest.fixture
def browse(tmp_path: Path) -> Callable[[Path], str]:
    """A headless browser that opens a page and returns its document; no console message, no request of the page."""

    def document(page: Path) -> str:
        log = tmp_path / "net.json"
        done = _opened(page.as_uri(), tmp_path, "--enable-logging=stderr", f"--log-net-log={log}")
        assert [line for line in done.stderr.splitlines() if ":CONSOLE" in line] == []
        started = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
        # The browser asks its maker for things of its own; what a page asks for has the page as its origin.
        assert [p.get("url") for p in started if p.get("initiator", "not an origin") != "not an origin"] == []
        return done.stdout

    return document


@pytest.fixture
def find_on_page(tmp_path: Path) -> Callable[..., None]:
    """Fails unless a person reads all of some words on a page of a server, once its scripts have got what it shows."""

    def find(address: str, *words: str) -> None:
        text = ""
        for budget_ms in SCRIPTS_MS:
            document = _opened(address, tmp_path, *TALL, f"--virtual-time-budget={budget_ms}").stdout
            without_scripts = re.sub(r"<(script|style).*?</\1>", " ", document, flags=re.DOTALL)
            text = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", without_scripts)).split())
            if all(word in text for word in words):
                return
        pytest.fail(f"{address} does not show all of {words}: {text}")

    return find


def _opened(address: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    if CHROMIUM is None:
        pytest.skip("needs Chromium to open the page")
    disabled = [f"--disable-{what}" for what in QUIET]
    profile = tempfile.mkdtemp(dir=folder)  # a page that a profile has seen before is not waited for
    return subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--no-first-run", *disabled, f"--user-data-dir={profile}",
         *options, "--dump-dom", address],
        capture_output=True, text=True, timeout=180, check=True,
    )  # fmt: skip


@dataclass(frozen=True)
class Disk:
    """A small file system in the place of a folder, for a test to fill and to free."""

    folder: Path

    def fill(self, leave_bytes: int = 0) -> None:
        """Write a ballast file, so that this much space is left."""
        with (self.folder / "ballast").open("wb") as ballast:
            ballast.write(bytes(max(0, shutil.disk_usage(self.folder).free - leave_bytes)))

    def free(self) -> None:
        """Delete the ballast."""
        (self.folder / "ballast").unlink()

    def files(self) -> list[str]:
        """All files but the ballast, those with hidden and temporary names, too."""
        found = (file.relative_to(self.folder).as_posix() for file in self.folder.rglob("*") if file.is_file())
        return sorted(name for name in found if name != "ballast")


@pytest.fixture
def disk() -> Iterator[Callable[[Path, int], Disk]]:
    """Folder and MiB -> a real file system of that size in its place, with what was in it."""
    mounted: list[Path] = []

    def make(folder: Path, size_mib: int) -> Disk:
        folder.mkdir(parents=True, exist_ok=True)
        before = folder.with_name(f"{folder.name}.before")
        folder.rename(before)
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"needs the right to mount, as root or under `unshare -rm`: {done.stderr.strip()}")
        mounted.append(folder)
        shutil.copytree(before, folder, symlinks=True, dirs_exist_ok=True)
        shutil.rmtree(before)
        return Disk(folder)

    yield make
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
