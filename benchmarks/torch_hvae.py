"""The PyTorch peer: the best HVAE step that one would write by hand, with exact gradients.

K + 1 decoder evaluations: the gradient at the end of a step is used again at the start of the next,
and log p(x | z_K) comes from the pass that gave the last gradient. Learned step sizes per dimension
in (0, 0.5), learned beta0, Adam (fused), as in hvax.

    variants  auto   torch.autograd.grad(..., create_graph=True)
              vjp    the same with the Bernoulli's derivative written out
              hand   the decoder's vector-Jacobian product written out as forward operations
              vae    no flow (K = 0)
    modes     eager, compile (torch.compile of the whole loss); for conv also eager-cl, compile-cl
              (channels last)

It runs as a worker of step.py, in an environment of its own with torch 2.13.0:

    python torch_hvae.py time mlp:hand:compile --steps 3 --batch 128 [--device cuda]
    python torch_hvae.py export mlp --steps 3 --batch 4 FILE   # loss and gradients, in float64
"""

import argparse
import json
import math
import resource
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

# net: latent size, features, hidden, batch, K
NETS = {
    "tiny": {"latent": 2, "x": 64, "hidden": 64, "batch": 64, "steps": 3},
    "mlp": {"latent": 20, "x": 784, "hidden": 400, "batch": 128, "steps": 3},
    "conv": {"latent": 64, "x": 784, "hidden": 450, "batch": 100, "steps": 5},
}
softplus, sigmoid = F.softplus, torch.sigmoid


class Dense(nn.Module):
    def __init__(self, latent, x, hidden, **_):
        super().__init__()
        self.e1, self.e2 = nn.Linear(x, hidden), nn.Linear(hidden, 2 * latent)
        self.d1, self.d2 = nn.Linear(latent, hidden), nn.Linear(hidden, x)

    def encode(self, x):
        return self.e2(softplus(self.e1(x.flatten(1)))).chunk(2, 1)

    def decode(self, z):
        return self.d2(softplus(self.d1(z)))

    def decode_and_gradient(self, z, x):
        """The logits, and the gradient in z of sum softplus(logits) - x logits."""
        a = self.d1(z)
        logits = self.d2(softplus(a))
        return logits, ((sigmoid(logits) - x) @ self.d2.weight * sigmoid(a)) @ self.d1.weight


class Convolutional(nn.Module):
    """The paper's net."""

    def __init__(self, latent, **_):
        super().__init__()
        self.c1 = nn.Conv2d(1, 16, 5, 2, 2)
        self.c2 = nn.Conv2d(16, 32, 5, 2, 2)
        self.c3 = nn.Conv2d(32, 32, 5, 2, 2)
        self.e1, self.e2 = nn.Linear(512, 450), nn.Linear(450, 2 * latent)
        self.d1, self.d2 = nn.Linear(latent, 450), nn.Linear(450, 512)
        self.t1 = nn.ConvTranspose2d(32, 32, 5, 2, 2, 0)
        self.t2 = nn.ConvTranspose2d(32, 16, 5, 2, 2, 1)
        self.t3 = nn.ConvTranspose2d(16, 1, 5, 2, 2, 1)

    def encode(self, x):
        h = softplus(self.c3(softplus(self.c2(softplus(self.c1(x)))))).flatten(1)
        return self.e2(softplus(self.e1(h))).chunk(2, 1)

    def decode(self, z):
        h = softplus(self.d2(softplus(self.d1(z)))).view(-1, 32, 4, 4)
        return self.t3(softplus(self.t2(softplus(self.t1(h))))).flatten(1)

    def decode_and_gradient(self, z, x):
        a1 = self.d1(z)
        a2 = self.d2(softplus(a1))
        a3 = self.t1(softplus(a2).view(-1, 32, 4, 4))
        a4 = self.t2(softplus(a3))
        logits = self.t3(softplus(a4))
        g = sigmoid(logits) - x.view_as(logits)
        g = F.conv2d(g, self.t3.weight, None, 2, 2) * sigmoid(a4)
        g = F.conv2d(g, self.t2.weight, None, 2, 2) * sigmoid(a3)
        g = F.conv2d(g, self.t1.weight, None, 2, 2).flatten(1) * sigmoid(a2)
        return logits.flatten(1), ((g @ self.d2.weight) * sigmoid(a1)) @ self.d1.weight


class HVAE(nn.Module):
    def __init__(self, net, steps):
        super().__init__()
        options = NETS[net]
        self.steps, self.latent = steps, options["latent"]
        self.net = (Convolutional if net == "conv" else Dense)(**options)
        self.eps_raw = nn.Parameter(torch.full((self.latent,), math.log(0.05 / 0.45)))
        self.beta_raw = nn.Parameter(torch.tensor(math.log(0.3 / 0.7)))

    def potential(self, z, x, variant):
        """The logits at z, and the gradient of U."""
        if variant == "hand":
            logits, g = self.net.decode_and_gradient(z, x)
            return logits, g + z
        logits = self.net.decode(z)
        if variant == "vjp":
            (g,) = torch.autograd.grad(logits, z, sigmoid(logits) - x, create_graph=True)
        else:
            nll = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
            (g,) = torch.autograd.grad(nll, z, create_graph=True)
        return logits, g + z

    def forward(self, x, variant, noise=None, gamma=None):
        """Minus the ELBO, per example; the noise's own terms replaced by their mean."""
        mu, raw = self.net.encode(x)
        sigma, x = softplus(raw), x.flatten(1)
        noise = torch.randn_like(mu) if noise is None else noise
        z = mu + sigma * noise
        if variant == "vae":
            kl = 0.5 * (mu * mu + sigma * sigma - 1 - 2 * torch.log(sigma)).sum()
            nll = F.binary_cross_entropy_with_logits(self.net.decode(z), x, reduction="sum")
            return (nll + kl) / x.shape[0]
        gamma = torch.randn_like(mu) if gamma is None else gamma
        eps, start = 0.5 * sigmoid(self.eps_raw), sigmoid(self.beta_raw) ** -0.5
        rho, before = gamma * start, start
        logits, g = self.potential(z, x, variant)
        for k in range(1, self.steps + 1):
            rho = rho - 0.5 * eps * g
            z = z + eps * rho
            logits, g = self.potential(z, x, variant)
            after = (1 - start) * (k * k / (self.steps * self.steps)) + start
            rho = (after / before) * (rho - 0.5 * eps * g)
            before = after
        log_p = -F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        elbo = log_p - 0.5 * (z * z).sum() - 0.5 * (rho * rho).sum() + torch.log(sigma).sum()
        return -(elbo / x.shape[0] + self.latent)


def bits(net, count, device):
    shape = (count, 1, 28, 28) if NETS[net]["x"] == 784 else (count, NETS[net]["x"])
    return (torch.rand(shape, device=device) < 0.3).float()


def worker(case, options):
    """Answers each line "n" on stdin with the milliseconds of n training steps."""
    net, variant, mode = case.split(":")
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    torch.backends.cuda.matmul.allow_tf32 = options.tf32
    torch.backends.cudnn.allow_tf32 = options.tf32
    device, batch = torch.device(options.device), options.batch
    base = peak_memory()
    model = HVAE(net, options.steps).to(device)
    if mode.endswith("-cl"):
        model = model.to(memory_format=torch.channels_last)
    data = bits(net, 10_000, device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)

    def loss_of(x):
        return model(x, variant)

    if mode.startswith("compile"):
        loss_of = torch.compile(loss_of)

    def step(i):
        at = (i * batch) % (10_000 - batch)
        loss = loss_of(data[at : at + batch])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss

    def wait():
        if device.type == "cuda":
            torch.cuda.synchronize()

    began = time.perf_counter()
    step(0)
    wait()
    first = time.perf_counter() - began
    for i in range(3):
        step(i)
    wait()
    memory = peak_memory() - base
    if device.type == "cuda":
        memory = torch.cuda.max_memory_allocated() / 2**20
    say({"ready": case, "first_s": first, "memory_mb": memory, "torch": torch.__version__})
    i = 0
    for line in sys.stdin:
        began = time.perf_counter()
        for _ in range(int(line)):
            step(i)
            i += 1
        wait()
        say({"ms": 1e3 * (time.perf_counter() - began) / int(line)})


def export(net, file, options):
    """Weights, data, noise, loss and gradients in float64, for hvax to agree with."""
    import numpy as np

    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    model = HVAE(net, options.steps).double()
    if net == "conv":
        # The padding of even sides is 2 and 2 here, in hvax 1 and 2: without the first taps the
        # kernels can be the same.
        for layer in (model.net.c1, model.net.c2, model.net.t2, model.net.t3):
            layer.weight.data[:, :, 0] = layer.weight.data[:, :, :, 0] = 0
    x, d = bits(net, options.batch, "cpu").double(), NETS[net]["latent"]
    noise, gamma = torch.randn(options.batch, d), torch.randn(options.batch, d)
    losses = {v: model(x, v, noise, gamma) for v in ("auto", "hand")}
    assert abs(losses["auto"] - losses["hand"]) < 1e-9 * abs(losses["auto"])
    losses["auto"].backward()
    arrays = {"x": x, "noise": noise, "gamma": gamma, "loss": losses["auto"].detach()}
    for name, parameter in model.named_parameters():
        arrays[f"weight.{name}"] = parameter.detach()
        if parameter.grad is not None:
            arrays[f"gradient.{name}"] = parameter.grad
    np.savez(file, **{name: array.numpy() for name, array in arrays.items()})


def peak_memory():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def say(record):
    print(json.dumps(record), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["time", "export"])
    parser.add_argument("case")
    parser.add_argument("file", nargs="?")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tf32", action="store_true")
    given = parser.parse_args()
    if given.what == "time":
        worker(given.case, given)
    else:
        export(given.case, given.file, given)
