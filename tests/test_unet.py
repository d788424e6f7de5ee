"""The network: shapes, and which input reaches which output."""

import pytest
import torch

from cdiff_helpers import load_reference
from cdiff_helpers.diffusion import DiffusionProcess, cosine_betas
from cdiff_helpers.sampling import sample_conditional_images
from cdiff_helpers.training import (
    TrainConfig,
    TrainState,
    diffusion_loss,
    load_checkpoint,
    load_ema_model,
    save_checkpoint,
    train,
)
from cdiff_helpers.unet import (
    ConditionalUNet,
    ConvBlock,
    SelfAttention,
    SinusoidalPositionEmbeddings,
    process_of,
    velocity_to_noise,
)


def inputs(model, batch=2, size=32):
    xt = torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1))
    return xt, torch.arange(batch) * 3, torch.arange(batch)


def test_time_embeddings_are_distinct_and_know_distances():
    emb = SinusoidalPositionEmbeddings(64)(torch.arange(1000))
    assert emb.shape == (1000, 64) and emb.abs().max() <= 1
    assert torch.cdist(emb, emb).fill_diagonal_(9).min() > 0.05
    assert torch.allclose(emb[10] @ emb[17], emb[500] @ emb[507], atol=1e-3)


def test_a_fresh_block_is_its_shortcut():
    block = ConvBlock(8, 8, 16)
    x = torch.randn(2, 8, 4, 5)
    assert torch.equal(block(x, torch.randn(2, 16)), x)
    assert ConvBlock(8, 12, 16)(x, torch.randn(2, 16)).shape == (2, 12, 4, 5)


def test_a_blocks_embedding_scales_and_shifts_its_channels():
    block = ConvBlock(8, 8, 16)
    torch.nn.init.normal_(block.conv2.weight)
    x, emb = torch.randn(1, 8, 4, 4), torch.randn(2, 16)
    assert not torch.allclose(block(x, emb[:1]), block(x, emb[1:]))


def test_attention_mixes_positions_as_the_formula_says():
    layer = SelfAttention(8, num_heads=2)
    torch.nn.init.eye_(layer.out.weight.view(8, 8))
    x = torch.randn(1, 8, 3, 4)
    q, k, v = layer.qkv(layer.norm(x)).view(1, 3, 2, 4, 12).unbind(1)  # (1, heads, 4, 12)
    weights = (q.transpose(-1, -2) @ k / 4**0.5).softmax(-1)  # (1, heads, 12, 12)
    expected = x + (v @ weights.transpose(-1, -2)).reshape(1, 8, 3, 4)
    assert torch.allclose(layer(x), expected, atol=1e-5)


def test_the_default_network_has_four_million_parameters_and_the_flops_of_a_laptop():
    from torch.utils.flop_counter import FlopCounterMode

    model = ConditionalUNet()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(*inputs(model, batch=1))
    assert 3.5e6 < sum(p.numel() for p in model.parameters()) < 4.5e6
    assert 0.35e9 < counter.get_total_flops() < 0.45e9
    assert model.null_class == 10 and model.num_steps == 1000


@pytest.mark.parametrize("channels", [(16,), (16, 32), (8, 12, 16)])
def test_noise_has_the_pictures_shape_at_any_depth(channels):
    model = ConditionalUNet(4, 20, channels, emb_dim=32)
    assert model(*inputs(model, batch=3)).shape == (3, 3, 32, 32)
    assert model(*inputs(model, batch=1, size=16)).dtype == torch.float32


def test_a_fresh_network_ignores_its_condition_and_says_the_obvious_part():
    model = ConditionalUNet(10, 20, (16, 32), emb_dim=32)
    xt, t, y = inputs(model)
    expected = (1 - model.alpha_bar[t]).sqrt().view(-1, 1, 1, 1) * xt
    assert torch.allclose(model(xt, t, y), expected, atol=1e-6)
    assert torch.equal(model(xt, t, y), model(xt, t, torch.full_like(y, model.null_class)))


def test_the_output_moves_when_only_the_class_or_the_time_moves(small_model):
    xt, t, y = inputs(small_model)
    eps = small_model(xt, t, y)
    assert not torch.allclose(eps, small_model(xt, t, y + 1), atol=1e-4)
    assert not torch.allclose(eps, small_model(xt, t, torch.full_like(y, 10)), atol=1e-4)
    assert not torch.allclose(eps, small_model(xt, t + 1, y), atol=1e-4)


def test_gradients_reach_every_parameter(small_model):
    small_model(*inputs(small_model)).square().mean().backward()
    silent = [n for n, p in small_model.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []
    used = small_model.class_embedding.weight.grad.abs().sum(1) > 0
    assert used.tolist() == [True, True] + [False] * 9


def test_pictures_of_a_batch_do_not_see_each_other(small_model):
    xt, t, y = inputs(small_model, batch=4)
    together = small_model(xt, t, y)
    for i in range(4):
        alone = small_model(xt[i : i + 1], t[i : i + 1], y[i : i + 1])
        assert torch.allclose(together[i], alone[0], atol=1e-5)


def test_velocity_tells_the_noise(generator):
    process = DiffusionProcess()
    x0 = torch.rand(4, 3, 8, 8, generator=generator) * 2 - 1
    t = torch.tensor([0, 300, 700, 999])
    xt, noise = process.add_noise(x0, t, generator=generator)
    a = process.alpha_bar[t].view(-1, 1, 1, 1)
    v = a.sqrt() * noise - (1 - a).sqrt() * x0
    assert torch.allclose(velocity_to_noise(v, xt, process.alpha_bar[t]), noise, atol=1e-5)


def test_noise_is_formed_in_float32_under_autocast(small_model):
    with torch.autocast("cpu", torch.bfloat16):
        eps = small_model(*inputs(small_model))
    assert eps.dtype == torch.float32
    assert torch.allclose(eps, small_model(*inputs(small_model)), atol=0.1)


# Measured on the reference: an error in v of at most 0.005 and 0.035
@pytest.mark.parametrize(("dtype", "error"), [(torch.float16, 0.01), (torch.bfloat16, 0.07)])
def test_a_network_of_16_bits_says_nearly_the_same_noise(dtype, error, generator):
    model, _, _ = load_reference()
    xt = torch.randn(3, 3, 32, 32, generator=generator)
    t, y = torch.tensor([0, 500, 999]), torch.tensor([3, 5, 10])
    exact, scale = model(xt, t, y), model.alpha_bar[t].sqrt().view(-1, 1, 1, 1)  # eps = scale v + …
    eps = model.to(dtype)(xt, t, y)
    assert model.stem.weight.dtype == dtype and eps.dtype == torch.float32
    assert ((eps - exact).abs() < error * scale + 1e-6).all()
    assert torch.equal(model(xt.to(dtype).float(), t, y), model(xt.to(dtype), t, y))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_tables_and_waves_stay_float32_whatever_the_weights_become(dtype):
    model, table = ConditionalUNet(1, 1000, (4,), emb_dim=64), DiffusionProcess().alpha_bar
    waves, t = model.time_embedding[0], torch.arange(1000)
    before, names = waves(t), list(model.state_dict())
    for module in (model.to(dtype), model.float()):
        assert torch.equal(module.alpha_bar, table)
        assert torch.equal(waves(t), before) and before.dtype == torch.float32
    assert list(model.state_dict()) == names and "alpha_bar" not in names
    assert model.to("meta", dtype).alpha_bar.is_meta


def test_a_reference_of_16_bits_draws_nearly_the_same_images():
    model, process, _ = load_reference()
    labels = [1, 3, 7, 8]
    exact = sample_conditional_images(model, process, labels, guidance_scale=2.5)
    images = sample_conditional_images(model.bfloat16(), process, labels, guidance_scale=2.5)
    assert (images - exact).abs().mean() < 0.005 and (images - exact).abs().max() < 0.06


LINEAR = DiffusionProcess(20, betas=torch.linspace(0.001, 0.3, 20))


def test_a_network_and_a_process_of_another_schedule_refuse_each_other(small_model):
    drawn = {"num_steps": 2, "labels": [1]}
    y = torch.tensor([1])
    for call in (
        lambda: sample_conditional_images(small_model, LINEAR, **drawn),
        lambda: diffusion_loss(small_model, LINEAR, torch.zeros(1, 3, 32, 32), y),
        lambda: next(train(TrainState(small_model, TrainConfig(1, 1)), LINEAR, [(y, y)])),
    ):
        with pytest.raises(ValueError, match=r"made for a schedule.*process has"):
            call()
    nearly = DiffusionProcess(20, betas=cosine_betas(20).clamp(max=0.9))  # but for its last ᾱ
    with pytest.raises(ValueError, match="network was made for a schedule"):
        sample_conditional_images(small_model, nearly, **drawn)
    network = ConditionalUNet(num_steps=20, channels=(4,), emb_dim=8, alpha_bar=LINEAR.alpha_bar)
    assert sample_conditional_images(network, LINEAR, **drawn).shape == (1, 3, 32, 32)
    with pytest.raises(ValueError, match="network was made for"):
        sample_conditional_images(network, DiffusionProcess(20), **drawn)


def test_a_network_keeps_its_schedule_in_a_checkpoint(tmp_path):
    network = ConditionalUNet(num_steps=20, channels=(4,), emb_dim=8, alpha_bar=LINEAR.alpha_bar)
    save_checkpoint(tmp_path / "run", TrainState(network, TrainConfig(1, 1)))
    for again in (load_checkpoint(tmp_path / "run").model, load_ema_model(tmp_path / "run")):
        assert torch.equal(again.alpha_bar, LINEAR.alpha_bar)
        assert torch.allclose(process_of(again).betas, LINEAR.betas, atol=1e-6)
    assert "alpha_bar" not in ConditionalUNet(num_steps=20, channels=(4,), emb_dim=8).config


def exported(model):
    """The network as one graph, for any number of pictures."""
    batch = torch.export.Dim("batch")
    return torch.export.export(model, inputs(model), dynamic_shapes=[{0: batch}] * 3)


@pytest.mark.slow
def test_the_network_is_one_graph_for_any_number_of_pictures(small_model):
    graph, more = exported(small_model).module(), inputs(small_model, batch=5)
    assert torch.allclose(graph(*more), small_model(*more), atol=1e-6)


@pytest.mark.slow
def test_the_network_compiles_without_a_break(small_model):
    compiled = torch.compile(small_model, backend="aot_eager", fullgraph=True)
    assert torch.allclose(compiled(*inputs(small_model)), small_model(*inputs(small_model)))


@pytest.mark.peer
def test_onnx_runtime_says_the_same_noise(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    model, _, _ = load_reference()
    torch.onnx.export(exported(model), dynamo=True).save(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    more = inputs(model, batch=5)
    names = [each.name for each in session.get_inputs()]
    (eps,) = session.run(None, {name: x.numpy() for name, x in zip(names, more)})
    assert names == ["xt", "t", "y"] and abs(eps - model(*more).numpy()).max() < 1e-4
