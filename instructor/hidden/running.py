"""Hidden checks of notebook 08."""

import math
import tempfile
from pathlib import Path

import torch

from cdiff_helpers.checks.verdict import Wrong, call, call_tensor, diagnose

from .draws import normal, whole

Z = 1.959964


def difference_interval(answer, generator) -> None:
    counts = [whole(generator, 10, 600) for _ in range(2)]
    rights = [whole(generator, 0, count) for count in counts]
    ends = []
    for right, count in zip(rights, counts):
        p = right / count
        middle = (p + Z**2 / (2 * count)) / (1 + Z**2 / count)
        spread = math.sqrt(p * (1 - p) / count + Z**2 / (4 * count**2))
        half = Z * spread / (1 + Z**2 / count)
        ends.append((p, max(0, middle - half), min(1, middle + half)))
    (p1, l1, u1), (p2, l2, u2) = ends
    low = p1 - p2 - math.hypot(p1 - l1, u2 - p2)
    high = p1 - p2 + math.hypot(u1 - p1, p2 - l2)
    value = call_tensor(answer, rights[0], counts[0], rights[1], counts[1], shape=(2,))
    diagnose(value, torch.tensor([low, high]), {}, 1e-3)


def energy_distance(answer, generator) -> None:
    m, n, d = whole(generator, 2, 9), whole(generator, 2, 9), whole(generator, 1, 6)
    x, y = normal(generator, m, d), 3 * normal(generator, n, d) - 1

    def mean(a, b, pairs) -> float:
        return sum(float((a[i] - b[j]).norm()) for i, j in pairs) / len(pairs)

    between = mean(x, y, [(i, j) for i in range(m) for j in range(n)])
    within = [
        mean(a, a, [(i, j) for i in range(k) for j in range(k) if i != j])
        for a, k in ((x, m), (y, n))
    ]
    value = call_tensor(answer, x.float(), y.float(), shape=())
    diagnose(value, torch.tensor(2 * between - sum(within)), {}, 1e-3)


def draw_all(answer, generator) -> None:
    n, size, seed = whole(generator, 1, 40), whole(generator, 1, 12), whole(generator, 0, 99)
    labels = torch.randint(0, 10, (n,), generator=generator)

    def draw(labels, *, seed):
        told = torch.as_tensor(labels).double() * 1000 + seed + torch.arange(len(labels))
        return told.view(-1, 1, 1, 1).expand(-1, 3, 2, 2)

    value = call_tensor(answer, draw, labels, size, seed, shape=(n, 3, 2, 2))
    diagnose(value[:, 0, 0, 0], labels * 1000.0 + seed + torch.arange(n), {}, 0)


def save_whole(answer, generator) -> None:
    content = bytes(torch.randint(0, 256, (whole(generator, 0, 5000),), generator=generator))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a file.bin"
        for old in (None, b"old"):
            if old:
                path.write_bytes(old)
            call(answer, path, lambda file: file.write(content))
            if path.read_bytes() != content or len(list(Path(folder).iterdir())) != 1:
                raise Wrong("the file does not hold what was written, or another is left behind.")
        interrupted(answer, path, content)


def interrupted(answer, path: Path, content: bytes) -> None:
    """What is stopped on its way leaves the old file, no other, and is heard of."""

    def write(file) -> None:
        file.write(b"half")
        file.flush()
        if path.read_bytes() != content:
            raise Wrong("while the new file is written, the old one is not whole.")
        raise KeyboardInterrupt

    try:
        answer(path, write)
    except KeyboardInterrupt:
        pass
    else:
        raise Wrong("an interrupt in the middle of writing was swallowed.")
    if path.read_bytes() != content or len(list(path.parent.iterdir())) != 1:
        raise Wrong("after an interrupt the old file is not alone and whole.")


HIDDEN = {
    "difference_interval": difference_interval,
    "energy_distance": energy_distance,
    "draw_all": draw_all,
    "save_whole": save_whole,
}
