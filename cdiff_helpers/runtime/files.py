"""Files that are whole: written at once, and known by their digests."""

import errno
import hashlib
import os
import secrets
import tempfile
from pathlib import Path

LONGEST = 255  # bytes of a file's name, on every system
SUMS = "SHA256SUMS"  # `sha256sum -c SHA256SUMS` reads it, too


def digest_line(name: str, content: bytes) -> bytes:
    """A file's line in SHA256SUMS, as sha256sum writes it."""
    return f"{hashlib.sha256(content).hexdigest()}  {name}\n".encode()


def verified_bytes(path: Path) -> bytes:
    """A bundled file's content, if SHA256SUMS beside it lists its digest; else RuntimeError."""
    remedy = "expected the file that came with the package: install the package again"
    try:
        content, listed = path.read_bytes(), (path.parent / SUMS).read_bytes()
    except OSError as error:
        raise RuntimeError(f"{path} is damaged ({error}); {remedy}") from error
    if digest_line(path.name, content) not in listed.splitlines(keepends=True):
        raise RuntimeError(f"{path} is damaged (its sha256 is another one); {remedy}")
    return content


def write_synced(path: Path, content: bytes, mode: str = "wb") -> None:
    """Write content to path, and return only when it is on the disk."""
    with path.open(mode) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_atomically(path: Path, content: bytes) -> None:
    """Put content at path at once, its folders made: written beside it, flushed, then renamed."""
    # A new file (mode "x") follows no planted link, and has the permissions that mkstemp's lacks
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name[:50]}-{secrets.token_hex(8)}")  # not too long a name
    try:
        write_synced(beside, content, "xb")
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def check_writable(path: Path) -> None:
    """Raise OSError unless a file can be put at path, its folders made; nothing is left there."""
    try:
        if path.exists() and not path.is_file():
            raise OSError("it is there, and no file")
        if any(len(os.fsencode(part)) > LONGEST for part in path.parts):
            raise OSError(f"a name is longer than {LONGEST} bytes")
        above = path.absolute().parents
        folder = next(folder for folder in above if folder.exists() or folder.is_symlink())
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"{path} cannot be written ({reason}); choose another file.") from error


def sync_folder(folder: Path) -> None:
    """Have a folder's names on the disk, where the system can (Windows opens no folders)."""
    if os.name != "posix":
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:  # some network drives, Colab's among them, know files alone
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(number)
