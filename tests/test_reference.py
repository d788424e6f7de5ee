"""The bundled reference: it loads, it is whole, it draws by class, its card is true."""

import json
import shutil

import numpy as np
import pytest
import torch

from cdiff_helpers import reference as module
from cdiff_helpers.data import load_cifar10, to_model_range
from cdiff_helpers.reference import (
    REFERENCE,
    load_record,
    load_reference,
    record_folder,
    recorded_samples,
    recorded_scores,
)
from cdiff_helpers.training import diffusion_loss
from tools.models.records import write_digests


@pytest.fixture(scope="module")
def reference():
    return load_reference()


@pytest.fixture(scope="module")
def held_out():
    return load_cifar10(train=False, source="bundled")


def test_it_is_frozen_in_eval_mode_on_the_cpu_in_float32(reference):
    model, process, _ = reference
    assert not model.training and process.num_steps == model.num_steps
    for parameter in model.parameters():
        assert parameter.dtype == torch.float32 and parameter.device.type == "cpu"
        assert not parameter.requires_grad


def test_the_package_offers_it_by_name():
    import cdiff_helpers

    assert cdiff_helpers.load_reference is load_reference
    with pytest.raises(AttributeError, match="nothing_like_it"):
        cdiff_helpers.nothing_like_it  # noqa: B018


def test_the_cards_tell_how_the_runs_were_made(reference):
    for run, least in (("reference", 21_000_000), ("two_cores", 1_000_000)):
        card, folder = load_record(run), record_folder(run)
        assert card["images_seen"] == card["updates"] * card["training"]["batch_size"] >= least
        assert len(card["losses"]) == card["updates"] == card["training"]["num_updates"]
        assert card["parameters"] == sum(p.numel() for p in reference[0].parameters())
        assert card["epochs"] == pytest.approx(card["images_seen"] / 50_000, abs=0.1)
        assert card["last_loss"] == pytest.approx(np.mean(card["losses"][-500:]), abs=1e-6)
        for key in ("command", "seed", "hardware", "versions", "sampler", "model", "note"):
            assert card[key] is not None
        seen = [snapshot["images_seen"] for snapshot in card["snapshots"]]
        assert seen == sorted(seen) and seen[-1] == card["images_seen"]
        for snapshot in card["snapshots"]:
            assert f"{snapshot['images_seen']:08d}" in snapshot["file"]
            samples = recorded_samples(snapshot, run)
            assert samples.shape == (10, 8, 3, 32, 32) and 0 <= samples.min() < samples.max() <= 1
        text = (folder / "card.md").read_text(encoding="utf-8")
        for told in (f"{card['images_seen']:,}", card["sha256"], f"{card['test_noise_mse']:.4f}"):
            assert told in text


def test_the_reference_is_the_run_on_a_gpu_with_its_best_average(reference):
    card = reference[2]
    assert card == load_record() and (REFERENCE / "ema.safetensors").stat().st_size < 12e6
    assert card["device"] == "NVIDIA H200" and 360 < card["seconds"] < 362
    assert card["training"]["batch_size"] == 1_024 and "CUDA graphs" in card["method"]
    assert card["repeat"].startswith("python tools/train_reference.py") and card["commit"]
    averages = {str(e["ema_decay"]): e["judge_fd"] for e in recorded_scores("averages")}
    averages.pop("0.0")  # the raw weights
    assert min(averages, key=averages.get) == str(card["ema_decay"])
    assert card["averages"] == {decay: round(value, 2) for decay, value in averages.items()}
    assert card["test_noise_mse"] < load_record("two_cores")["test_noise_mse"] < 0.080


def test_the_two_core_record_has_no_weights_and_the_recipes_trials():
    assert not list(record_folder("two_cores").glob("*.safetensors"))
    trials = load_record("two_cores")["trials"]
    head, *arms = trials["rows"]
    assert len({row[head.index("arm")] for row in arms}) >= 5 and trials["samples"] == 2_000
    assert all(0 < float(row[head.index("agreement")]) < 1 for row in arms)


def test_what_a_run_has_not_is_refused_by_name():
    with pytest.raises(ValueError, match=r"of is 'averages'; expected one of guidance, snapsh"):
        recorded_scores("averages", "two_cores")
    with pytest.raises(ValueError, match=r"the run 'reference' is 'samples.*; expected one of"):
        recorded_samples(load_record("two_cores")["snapshots"][0])


def test_every_recorded_score_says_how_it_was_drawn():
    for run in ("reference", "two_cores"):
        record = json.loads((record_folder(run) / "scores.json").read_bytes())
        assert record["weights"] == load_record(run)["sha256"], "new weights: score them again"
        for of in ("guidance", "solvers", "snapshots"):
            for entry in recorded_scores(of, run):
                assert entry["n"] == 2_000 and entry["drawn_on"]
                assert {"guidance_scale", "solver", "num_steps"} <= set(entry)


def test_its_error_on_test_pictures_is_what_the_card_says(reference, held_out):
    """The card's figure is from other pictures and draws, so only near it."""
    model, process, card = reference
    generator = torch.Generator().manual_seed(0)
    x0, y = to_model_range(held_out.images), held_out.labels
    with torch.no_grad():
        losses = [
            diffusion_loss(model, process, *batch, generator)
            for _ in range(2)
            for batch in zip(x0.split(100), y.split(100))
        ]
    assert torch.stack(losses).mean() == pytest.approx(card["test_noise_mse"], abs=0.015)


def test_it_listens_to_the_class(reference, held_out):
    """The right class explains real, half-noisy pictures better than the wrong one does."""
    model, process, _ = reference
    data, t = held_out, torch.full((500,), 500)
    x0, generator = to_model_range(data.images), torch.Generator().manual_seed(0)
    xt, noise = process.add_noise(x0, t, generator=generator)
    with torch.no_grad():
        right = (model(xt, t, data.labels) - noise).square().mean()
        wrong = (model(xt, t, (data.labels + 5) % 10) - noise).square().mean()
    assert right < wrong


@pytest.mark.parametrize("damage", ["card.json", "ema.safetensors"])
def test_a_damaged_reference_is_named(damage, tmp_path):
    shutil.copytree(REFERENCE, tmp_path / "copy")
    path = tmp_path / "copy" / damage
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(RuntimeError, match="install the package again"):
        load_reference(tmp_path / "copy")
    path.unlink()
    with pytest.raises(RuntimeError, match=damage):
        load_reference(tmp_path / "copy")


def test_the_card_has_no_path_of_the_machine_that_made_it(reference):
    text = json.dumps({k: v for k, v in reference[2].items() if k != "losses"})
    assert "/root" not in text and "/home" not in text


def test_the_record_of_scores_is_read_by_kind_and_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "REFERENCE", tmp_path)
    cases = [{"of": "guidance", "guidance_scale": scale} for scale in (1.5, 1, 3)]
    cases += [{"of": "solvers", "solver": "ddim", "num_steps": n} for n in (50, 10)]
    scores = [{"case": case, "agreement": 0.5, "n": 2_000} for case in cases]
    (tmp_path / "scores.json").write_text(json.dumps({"scores": scores}), encoding="utf-8")
    write_digests(tmp_path)
    assert [e["guidance_scale"] for e in recorded_scores("guidance")] == [1, 1.5, 3]
    assert [e["num_steps"] for e in recorded_scores("solvers")] == [10, 50]
    assert all(e["agreement"] == 0.5 for e in recorded_scores("solvers"))
    (tmp_path / "scores.json").unlink()
    with pytest.raises(RuntimeError, match=r"is damaged .*install the package again"):
        recorded_scores("guidance")
