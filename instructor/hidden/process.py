"""Hidden checks of notebook 03."""

import torch

from cdiff_helpers.checks.verdict import Wrong, call, call_tensor, diagnose, number

from .draws import falling, normal, share, whole


def linear_alpha_bar(answer, generator) -> None:
    num_steps = whole(generator, 30, 3000)
    kept, wanted = 1.0, []
    for i in range(num_steps):
        kept *= 1 - (1e-4 + (0.02 - 1e-4) * i / (num_steps - 1)) * 1000 / num_steps
        wanted.append(kept)
    value = call_tensor(answer, num_steps, shape=(num_steps,))
    diagnose(value, torch.tensor(wanted, dtype=torch.float64), {}, 1e-4)


def time_of_snr(answer, generator) -> None:
    alpha_bar = falling(generator, whole(generator, 20, 400))
    snr = 5 * share(generator)
    wanted = next(t for t, a in enumerate(alpha_bar.tolist()) if a / (1 - a) < snr)
    if number(call(answer, alpha_bar, snr)) != wanted:
        raise Wrong(f"for a ratio of {snr:.2f} in a table of {len(alpha_bar)} it is t = {wanted}.")


def noisy_at(answer, generator) -> None:
    alpha_bar = falling(generator, whole(generator, 20, 400))
    side = whole(generator, 2, 6)
    for shape in ((side, 3, side, side), (whole(generator, 2, 6), 1, 7, 3)):
        x0, noise = normal(generator, *shape), normal(generator, *shape)
        t = torch.randint(0, len(alpha_bar), shape[:1], generator=generator)
        wanted = [
            alpha_bar[i] ** 0.5 * x + (1 - alpha_bar[i]) ** 0.5 * z for i, x, z in zip(t, x0, noise)
        ]
        value = call_tensor(answer, alpha_bar, x0, t, noise, shape=shape)
        diagnose(value, torch.stack(wanted), {})


HIDDEN = {
    "linear_alpha_bar": linear_alpha_bar,
    "time_of_snr": time_of_snr,
    "noisy_at": noisy_at,
}
