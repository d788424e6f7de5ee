"""The judge: it is whole, knows its classes, and real pictures score best; its formulas hold."""

import hashlib
import math
import shutil
import sys
from types import ModuleType

import pytest
import torch

from cdiff_helpers.data import load_cifar10
from cdiff_helpers.evaluation import (
    classify,
    coverage,
    fid,
    frechet_distance,
    judge,
    judge_card,
    kernel_distance,
    load_judge,
    load_statistics,
    nearest_training,
    report,
    score,
    standard_places,
    wilson_interval,
)
from cdiff_helpers.evaluation.scores import cubic, mean_and_covariance
from tools.models.calibration import CORRUPTIONS, score_corruptions


@pytest.fixture(scope="module")
def held_out():
    return load_cifar10(train=False, source="bundled")


@pytest.fixture(scope="module")
def generator():
    return torch.Generator().manual_seed(0)


def test_it_names_as_many_of_the_bundled_pictures_as_its_card_says(held_out):
    _, logits = classify(load_judge(), held_out.images)
    right = int((logits.argmax(1) == held_out.labels).sum())
    assert {"right": right, "of": 500} == judge_card()["bundled_test"]


def test_its_card_promises_93_in_100_and_is_of_its_files():
    test = judge_card()["test"]
    assert test["of"] == 10_000 and test["right"] >= 9_300
    assert (judge.JUDGE / "judge.safetensors").stat().st_size < 6e6
    for name, digest in judge_card()["sha256"].items():
        assert hashlib.sha256((judge.JUDGE / name).read_bytes()).hexdigest() == digest
    assert f"{test['right']:,} of the 10,000" in (judge.JUDGE / "card.md").read_text("utf-8")


@pytest.mark.parametrize("name", ["judge.safetensors", "statistics.safetensors", "card.json"])
def test_a_damaged_file_is_named(tmp_path, monkeypatch, name):
    shutil.copytree(judge.JUDGE, tmp_path / "judge")
    content = bytearray((tmp_path / "judge" / name).read_bytes())
    content[len(content) // 2] ^= 1
    if name == "card.json":
        content = content[: len(content) // 2]
    (tmp_path / "judge" / name).write_bytes(content)
    monkeypatch.setattr(judge, "JUDGE", tmp_path / "judge")
    for cached in (judge_card, load_judge, load_statistics):
        cached.cache_clear()
    load = load_statistics if name.startswith("statistics") else load_judge
    try:
        with pytest.raises(RuntimeError, match="install the package again"):
            load()
    finally:
        judge_card.cache_clear()


def test_the_statistics_are_of_this_judge():
    data = load_cifar10(source="bundled")
    seen, _ = classify(load_judge(), data.images[:200])
    torch.testing.assert_close(load_statistics().features[:200], seen, rtol=2e-3, atol=2e-3)


def test_the_nearest_neighbour_of_a_training_picture_is_itself():
    statistics, own = load_statistics(), standard_places(load_cifar10(source="bundled"))
    distance, index = nearest_training(statistics.features, statistics)
    assert (index == own).float().mean() > 0.99  # a few lie beside twins
    assert distance.max() < statistics.of_test.median()
    _, index = nearest_training(statistics.features[5:9], statistics, among=own)
    assert index.tolist() == [5, 6, 7, 8]


def test_the_training_set_is_at_distance_0_from_itself():
    statistics = load_statistics()
    of_set = (statistics.mean, statistics.covariance)
    assert frechet_distance(*of_set, *of_set) == pytest.approx(0, abs=1e-6)


def test_the_frechet_distance_of_independent_normals_is_known(generator):
    """|μ1 - μ2|² + Σ (σ1 - σ2)² where the covariances are diagonal."""
    means, spreads = torch.rand(2, 6, generator=generator).double() * 3, torch.rand(2, 6).double()
    expected = (means[0] - means[1]).square().sum() + (spreads[0] - spreads[1]).square().sum()
    covariances = [spread.square().diag() for spread in spreads]
    found = frechet_distance(means[0], covariances[0], means[1], covariances[1])
    assert found == pytest.approx(expected.item())


def test_the_frechet_distance_does_not_care_for_the_axes(generator):
    x, y = torch.randn(2, 200, 8, generator=generator).double()
    rotation, _ = torch.linalg.qr(torch.randn(8, 8, generator=generator).double())
    straight = frechet_distance(*mean_and_covariance(x), *mean_and_covariance(3 * y))
    turned = frechet_distance(
        *mean_and_covariance(x @ rotation), *mean_and_covariance(3 * y @ rotation)
    )
    assert turned == pytest.approx(straight)


def test_the_kernel_distance_leaves_out_each_pictures_pair_with_itself(generator):
    x, y = torch.randn(4, 3, generator=generator), torch.randn(5, 3, generator=generator)

    def pairs(a, b):
        k = [[(float(p @ q) / 3 + 1) ** 3 for q in b] for p in a]
        return [v for i, row in enumerate(k) for j, v in enumerate(row) if a is not b or i != j]

    means = [sum(pairs(a, b)) / len(pairs(a, b)) for a, b in ((x, x), (y, y), (x, y))]
    assert kernel_distance(x, y) == pytest.approx(means[0] + means[1] - 2 * means[2], rel=1e-5)


def test_the_kernel_distance_of_two_draws_is_0_on_average(generator):
    draws = torch.randn(40, 2, 60, 4, generator=generator)
    found = torch.tensor([kernel_distance(x, y) for x, y in draws])
    assert found.mean().abs() < 3 * found.std() / math.sqrt(len(found))
    assert kernel_distance(draws[0, 0], draws[0, 1] + 1) > 10 * found.std()
    assert cubic(draws[0, 0], draws[0, 1]).shape == (60, 60)


def test_coverage_counts_the_real_pictures_that_have_a_near_drawn_one():
    real = torch.tensor([[0.0], [1.0], [2.0], [10.0], [11.0], [12.0]])
    assert coverage(real, real, k=2) == 1
    assert coverage(real[:3], real, k=2) == 0.5  # one of the two groups
    assert coverage(real + 100, real, k=2) == 0


def test_wilsons_interval_is_the_published_one():
    """Newcombe 1998, table I, method 3: 81 of 263, 15 of 148, 0 of 20."""
    for (right, count), expected in {
        (81, 263): (0.2553, 0.3662), (15, 148): (0.0624, 0.1605), (0, 20): (0.0, 0.1611),
    }.items():  # fmt: skip
        assert wilson_interval(right, count) == pytest.approx(expected, abs=5e-5)


SLOWER = [pytest.param(name, marks=pytest.mark.slow) for name in CORRUPTIONS if name != "noise"]


@pytest.mark.parametrize("name", ["noise", *SLOWER])
def test_real_images_score_best_and_worse_at_each_step(held_out, monkeypatch, name):
    unit, corrupt, strengths = CORRUPTIONS[name]
    monkeypatch.setitem(CORRUPTIONS, name, (unit, corrupt, strengths[1::2]))
    steps = score_corruptions(held_out.images[:250], held_out.labels[:250], name, allow_few=True)
    falls_at_each_step(steps, name)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_so_do_2000_test_images_by_the_card(name):
    steps = judge_card()["calibration"][name]
    assert [step["strength"] for step in steps] == [None, *CORRUPTIONS[name][2]]
    falls_at_each_step(steps, name)


def falls_at_each_step(steps, name):
    worse = {"agreement": -1}
    if name != "shuffled labels":  # which leave the images as they are
        worse |= {"judge_fd": 1, "kid": 1, "coverage": -1}
    for key, sign in worse.items():
        values = [sign * step[key] for step in steps]
        assert values == sorted(set(values)), f"{key}: {values}"


def test_a_few_pictures_are_refused_and_why(held_out):
    with pytest.raises(ValueError, match=r"499 images are too few.*0.46 to 0.54"):
        score(held_out.images[:499], held_out.labels[:499])
    some = score(held_out.images, held_out.labels)
    assert some["agreement"] == judge_card()["bundled_test"]["right"] / 500
    assert some["judge_fd"] is some["kid"] is some["coverage"] is some["nearest_train"] is None
    assert "500 images are too few for distances" in some["no_distances"]
    told = score(held_out.images[:20], held_out.labels[:20], allow_few=True)
    assert told["n"] == 20 and told["judge_fd"] > 0 and told["no_distances"] is None


def test_bytes_and_floats_score_the_same(held_out):
    images, labels = held_out.images[:30], held_out.labels[:30]
    of_bytes = score(images, labels, allow_few=True)
    assert of_bytes == score((images / 255 + 0.001).clamp(max=1), labels, allow_few=True)
    assert of_bytes["agreement_per_class"].keys() <= set(held_out.classes)
    low, high = of_bytes["agreement_interval"]
    assert 0 <= low < of_bytes["agreement"] <= high <= 1


def test_the_table_and_the_figure_tell_the_scores(held_out):
    told = score(held_out.images, held_out.labels)
    table = report.score_table(told)
    assert f"{told['agreement']:.4f}" in table and "refused" in table
    assert "500 images are too few for distances" in table and "pass --allow-few." in table
    for name in held_out.classes:
        assert f"  {name}" in table
    figure = report.plot_scores(told, held_out.images, held_out.labels)
    bars = figure.axes[0].patches
    assert [bar.get_width() for bar in bars] == list(told["agreement_per_class"].values())
    assert f"{told['agreement']:.2f} in all" in figure.alt


def inception_at(url, cache, monkeypatch):
    """The FID's network where the url says, and torch's cache where none is."""
    module = ModuleType("torch_fidelity.feature_extractor_inceptionv3")
    module.URL_INCEPTION_V3 = url
    monkeypatch.setitem(sys.modules, "torch_fidelity", ModuleType("torch_fidelity"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(fid.importlib.util, "find_spec", lambda name: True)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(cache))
    return cache / "checkpoints" / url.split("/")[-1]


def test_without_its_network_the_fid_says_what_to_do(tmp_path, monkeypatch):
    path = inception_at("http://127.0.0.1:9/weights-6726825d.pth", tmp_path, monkeypatch)
    with pytest.raises(RuntimeError, match=r"cannot be fetched .* leave --fid out. Or bring http"):
        fid.inception_weights()
    assert not list(path.parent.iterdir())


def test_a_file_that_could_run_is_no_network(tmp_path, monkeypatch):
    import pickle

    class Runs:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").touch, ())

    path = inception_at("http://127.0.0.1:9/evil.pth", tmp_path, monkeypatch)
    path.parent.mkdir()
    path.write_bytes(pickle.dumps(Runs(), protocol=2))
    with pytest.raises(RuntimeError, match="cannot be fetched or read"):
        fid.inception_weights()
    assert not (tmp_path / "ran").exists()
    torch.save({"weight": torch.zeros(1)}, path)
    assert fid.inception_weights() == path


@pytest.mark.peer
def test_torch_fidelity_finds_the_same_distances():
    """Its KID on one subset that is the whole set."""
    metric_fid = pytest.importorskip("torch_fidelity.metric_fid")
    from torch_fidelity.metric_kid import kernel_mmd

    real = load_statistics().features
    drawn, _ = classify(load_judge(), load_cifar10(train=False, source="bundled").images)
    theirs = metric_fid.fid_statistics_to_metric(
        metric_fid.fid_features_to_statistics(drawn),
        metric_fid.fid_features_to_statistics(real),
        verbose=False,
    )
    ours = frechet_distance(*mean_and_covariance(drawn), *mean_and_covariance(real))
    assert ours == pytest.approx(theirs["frechet_inception_distance"], rel=1e-4)
    options = {"kid_kernel": "poly", "kid_kernel_poly_degree": 3, "kid_kernel_poly_coef0": 1}
    as_many = real[: len(drawn)].double()  # which its code asks for
    theirs = kernel_mmd(drawn.double().numpy(), as_many.numpy(), **options)
    assert kernel_distance(drawn, as_many) == pytest.approx(float(theirs), rel=1e-6)


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_the_fid_of_a_set_against_itself_is_0(tmp_path, monkeypatch, held_out):
    """The whole path, with the network's shape and random weights: its own lie on the network."""
    inception = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(torch.nn.Module, "load_state_dict", lambda *_: None)
        network = inception.FeatureExtractorInceptionV3("random", ["2048"])
    torch.save(network.state_dict(), tmp_path / "random.pth")
    real = held_out.images[:12]
    monkeypatch.setattr(held_out, "images", real)
    same = fid.true_fid(real / 255, held_out, tmp_path / "random.pth")
    other = fid.true_fid(torch.rand(12, 3, 32, 32), held_out, tmp_path / "random.pth")
    assert same == pytest.approx(0, abs=1e-3) and other > 10 * abs(same)


def made_up(**case):
    """An entry of a record, with numbers that the figures must show."""
    value = case.get("num_steps") or case.get("images_seen") or case["guidance_scale"]
    share = value / (value + 20)
    shown = {"agreement": share, "agreement_interval": (share - 0.02, share + 0.02)}
    return case | shown | {"judge_fd": 500 / (1 + value), "coverage": 1 - share}


def test_the_curves_over_guidance_show_the_records_numbers():
    entries = [made_up(guidance_scale=scale) for scale in (1, 2, 4)]
    figure = report.plot_guidance(entries)
    for axis, name in zip(figure.axes, ("agreement", "judge_fd", "coverage")):
        line = axis.get_lines()[0]
        assert line.get_xdata().tolist() == [1, 2, 4]
        assert line.get_ydata().tolist() == [entry[name] for entry in entries]
        assert axis.get_lines()[1].get_ydata()[0] == judge_card()["real"][name]
    assert "judge-FD lowest at 4: 100.0" in figure.alt


def test_two_runs_share_one_pair_of_axes_and_only_their_ends_are_filled():
    runs = {
        "short": [made_up(images_seen=count) for count in (1, 10, 60)],
        "long": [made_up(images_seen=count) for count in (5, 500)],
    }
    figure = report.plot_progress(runs)
    for axis, name in zip(figure.axes, ("judge_fd", "agreement")):
        short, short_end, long, long_end, real = axis.get_lines()
        assert short.get_ydata().tolist() == [entry[name] for entry in runs["short"]]
        assert long.get_xdata().tolist() == [5, 500]
        assert short.get_markerfacecolor() == long.get_markerfacecolor() == "white"
        for line, end in ((short, short_end), (long, long_end)):
            assert end.get_xydata().tolist() == [line.get_xydata()[-1].tolist()]
            assert end.get_markerfacecolor() == line.get_color()
        assert real.get_ydata()[0] == judge_card()["real"][name]
        assert axis.get_xscale() == "log"
    assert figure.axes[0].get_yscale() == "log"
    assert "short: judge-FD lowest at 60" in figure.alt


def test_each_solver_has_its_line_at_each_guidance_scale():
    entries = [
        made_up(guidance_scale=w, solver=s, num_steps=n)
        for w in (1, 2.5)
        for s in ("ddim", "ddpm")
        for n in (5, 50)
    ]
    figure = report.plot_solvers(entries)
    for axis, of_scale in zip(figure.axes, (entries[:4], entries[4:])):
        lines = {line.get_label(): line for line in axis.get_lines()}
        assert lines["ddim"].get_xdata().tolist() == [5, 50]
        assert lines["ddpm"].get_ydata().tolist() == [e["judge_fd"] for e in of_scale[2:]]
    assert [axis.get_title() for axis in figure.axes] == ["guidance scale 1", "guidance scale 2.5"]
    assert "scale 2.5: judge-FD lowest at 50: 9.8" in figure.alt
