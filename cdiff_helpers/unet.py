"""The conditional U-Net: given a noisy image, a timestep and a class, it predicts the noise.

Home: notebook 04. About 4 million parameters, made for two CPU cores: the first thing it does is
to fold each 2 x 2 patch of pixels into channels, so that all convolutions run at 16 x 16 or below.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cdiff_helpers import validation
from cdiff_helpers.diffusion import DiffusionProcess, betas_of


class SinusoidalPositionEmbeddings(nn.Module):
    """Timesteps as waves: t (B,) -> (B, dim), sines then cosines of t at falling frequencies.

    Vaswani et al. 2017, section 3.5. `dim` is even and at least 2; float32 values in [-1, 1].
    """

    def __init__(self, dim: int):
        super().__init__()
        self.count = validation.multiple("dim", dim, 2) // 2

    def forward(self, t: Tensor) -> Tensor:
        if getattr(t, "ndim", 0) != 1:
            validation.refuse(f"t is {validation.format_value(t)}", "timesteps in a tensor (B,)")
        i = torch.arange(self.count, dtype=torch.float32, device=t.device)  # not the weights' type
        frequencies = torch.exp(-math.log(10_000) * i / self.count)  # 1 … 1/10,000
        angles = t[:, None].float() * frequencies[None, :]  # (B, 1) * (1, count) -> (B, count)
        return torch.cat([angles.sin(), angles.cos()], dim=1)  # (B, dim)


class ConvBlock(nn.Module):
    """Two 3 x 3 convolutions with a shortcut around them, steered by an embedding.

    (B, in_channels, H, W) and (B, emb_dim) -> (B, out_channels, H, W). The embedding scales and
    shifts each channel ("FiLM"). The last convolution starts at zero: then only the shortcut acts.
    """

    def __init__(self, in_channels: int, out_channels: int, emb_dim: int):
        super().__init__()
        validation.widths(in_channels=in_channels, out_channels=out_channels, emb_dim=emb_dim)
        self.norm1 = nn.GroupNorm(num_groups(in_channels), in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.scale_shift = nn.Linear(emb_dim, 2 * out_channels)
        self.norm2 = nn.GroupNorm(num_groups(out_channels), out_channels)
        self.conv2 = zero_init(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        same = in_channels == out_channels
        self.shortcut = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.scale_shift(F.silu(emb))[:, :, None, None].chunk(2, dim=1)
        h = self.norm2(h) * (1 + scale) + shift  # (B, C, H, W) * (B, C, 1, 1)
        return self.shortcut(x) + self.conv2(F.silu(h))


class SelfAttention(nn.Module):
    """Every position attends to every other one: (B, C, H, W) -> the same shape.

    Multi-head attention over the H * W positions (Vaswani et al. 2017, eq. 1) with a shortcut;
    the output projection starts at zero. `channels` must be a multiple of `num_heads`.
    """

    def __init__(self, channels: int, num_heads: int = 4):
        super().__init__()
        self.num_heads = validation.whole("num_heads", num_heads)
        validation.multiple("channels", channels, num_heads)
        self.norm = nn.GroupNorm(num_groups(channels), channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = zero_init(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        qkv = self.qkv(self.norm(x)).reshape(b, 3, self.num_heads, c // self.num_heads, h * w)
        q, k, v = qkv.transpose(-1, -2).unbind(1)  # (B, 3C, H, W) -> 3 x (B, heads, H*W, C/heads)
        attended = F.scaled_dot_product_attention(q, k, v)  # (B, heads, H*W, C/heads)
        return x + self.out(attended.transpose(-1, -2).reshape(b, c, h, w))


class Stage(nn.Module):
    """A ConvBlock, with SelfAttention behind it where `attend` says so: (x, emb) -> h."""

    def __init__(self, in_channels: int, out_channels: int, emb_dim: int, *, attend: bool = False):
        super().__init__()
        self.block = ConvBlock(in_channels, out_channels, emb_dim)
        self.attention = SelfAttention(out_channels) if attend else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        return self.attention(self.block(x, emb))


class Upsample(nn.Module):
    """Copy each position, then convolve: (B, C, H, W) -> (B, C', 2H, 2W)."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class ConditionalUNet(nn.Module):
    """The noise in an image, given its timestep and class: eps = model(xt, t, y).

    xt: float (B, 3, H, W), H and W multiples of 2 ** len(channels); t: int64 (B,) in 0 … T-1;
    y: int64 (B,) in 0 … num_classes, where `null_class` == num_classes means "no class given".
    Returns float32 (B, 3, H, W). `alpha_bar` (T,) is its process's table, None the cosine one's.
    """

    alpha_bar: Tensor

    def __init__(
        self, num_classes=10, num_steps=1000, channels=(64, 96, 128), emb_dim=256, *, alpha_bar=None
    ):
        super().__init__()
        self.config = validation.network_sizes(num_classes, num_steps, channels, emb_dim, alpha_bar)
        self.null_class, self.num_steps, channels, emb_dim = list(self.config.values())[:4]
        self.register_buffer("alpha_bar", process_of(self).alpha_bar, persistent=False)
        self.time_embedding = time_embedding(emb_dim)
        self.class_embedding = nn.Embedding(self.null_class + 1, emb_dim)  # the last row: no class
        self.stem = nn.Conv2d(4 * 3, channels[0], 3, padding=1)  # 2 x 2 pixels of 3 colours
        self.encoder, self.downs = encoder(channels, emb_dim)
        middle = [Stage(channels[-1], channels[-1], emb_dim, attend=a) for a in (True, False)]
        self.middle = nn.ModuleList(middle)
        self.decoder, self.ups = decoder(channels, emb_dim)
        self.norm = nn.GroupNorm(num_groups(channels[0]), channels[0])
        self.head = zero_init(nn.Conv2d(channels[0], 4 * 3, 3, padding=1))
        self.float()  # whatever torch's default type is

    @validation.checked_network
    def forward(self, xt: Tensor, t: Tensor, y: Tensor) -> Tensor:
        dtype = self.stem.weight.dtype  # float32, or what .half() and .bfloat16() made of it
        waves = self.time_embedding[0](t).to(dtype)
        emb = self.time_embedding[1:](waves) + self.class_embedding(y)  # (B, emb_dim)
        v = self.velocity(xt.to(dtype), emb)
        with torch.autocast(xt.device.type, enabled=False):
            return velocity_to_noise(v.float(), xt.float(), self.alpha_bar[t])

    def _apply(self, fn, recurse=True):  # .half() and the like change weights, not the table
        table = self.alpha_bar
        super()._apply(fn, recurse)
        self.alpha_bar = table.to(self.alpha_bar.device)
        return self

    def velocity(self, xt: Tensor, emb: Tensor) -> Tensor:
        """The U itself: down, each level's output kept, across the middle, up beside them."""
        h = self.stem(F.pixel_unshuffle(xt, 2))  # (B, 3, 32, 32) -> (B, 12, 16, 16) -> (B, C, …)
        skips = []
        for stage, down in zip(self.encoder, self.downs):
            skips.append(h)  # as it enters the level
            h = stage(h, emb)
            skips.append(h)  # as it leaves
            h = down(h)  # (B, C, H, W) -> (B, C', H/2, W/2)
        for stage in self.middle:
            h = stage(h, emb)
        for stages, up in zip(self.decoder, self.ups):
            for stage in stages.children():
                h = stage(torch.cat([h, skips.pop()], dim=1), emb)  # the latest first
            h = up(h)  # (B, C, H, W) -> (B, C', 2H, 2W)
        return F.pixel_shuffle(self.head(F.silu(self.norm(h))), 2)  # (B, 12, …) -> (B, 3, 32, 32)


def process_of(network: ConditionalUNet) -> DiffusionProcess:
    """A new diffusion process with the schedule that the network is made for."""
    table = network.config.get("alpha_bar")
    betas = None if table is None else betas_of(torch.tensor(table, device="cpu"))
    return DiffusionProcess(network.num_steps, betas=betas)


def time_embedding(emb_dim: int) -> nn.Sequential:
    """Sinusoidal embeddings of t, then a small network: (B,) -> (B, emb_dim)."""
    return nn.Sequential(
        SinusoidalPositionEmbeddings(emb_dim),
        nn.Linear(emb_dim, emb_dim),
        nn.SiLU(),
        nn.Linear(emb_dim, emb_dim),
    )


def encoder(channels: tuple[int, ...], emb_dim: int) -> tuple[nn.ModuleList, nn.ModuleList]:
    """One Stage per level and what halves the image after it; attention at the second level."""
    stages, downs = nn.ModuleList(), nn.ModuleList()
    for level, c in enumerate(channels):
        stages.append(Stage(c, c, emb_dim, attend=level == 1))
        last = level == len(channels) - 1
        downs.append(nn.Identity() if last else nn.Conv2d(c, channels[level + 1], 3, 2, padding=1))
    return stages, downs


def decoder(channels: tuple[int, ...], emb_dim: int) -> tuple[nn.ModuleList, nn.ModuleList]:
    """Two Stages per level, each with an output of the encoder's, and what doubles the image."""
    stages, ups = nn.ModuleList(), nn.ModuleList()
    for level, c in reversed(list(enumerate(channels))):
        pair = [Stage(2 * c, c, emb_dim, attend=level == 1) for _ in range(2)]
        stages.append(nn.ModuleList(pair))
        ups.append(Upsample(c, channels[level - 1]) if level else nn.Identity())
    return stages, ups


def velocity_to_noise(v: Tensor, xt: Tensor, alpha_bar: Tensor) -> Tensor:
    """ε = √ᾱ v + √(1-ᾱ) xt, for v = √ᾱ ε - √(1-ᾱ) x0 (Salimans & Ho 2022, appendix D).

    v and xt: (B, C, H, W), alpha_bar: (B,). The standard deviation of v lies between the data's
    (about 0.5) and 1 at every t, and an error in v never grows on its way to x0.
    """
    alpha_bar = alpha_bar[:, None, None, None]
    return alpha_bar.sqrt() * v + (1 - alpha_bar).sqrt() * xt


def num_groups(channels: int) -> int:
    """Groups for GroupNorm: 32 as in DDPM, fewer where 32 does not divide the channels."""
    return math.gcd(32, channels)


def zero_init(layer: nn.Conv2d) -> nn.Conv2d:
    """The same layer with weight and bias zero, so that it starts by predicting 0."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
