"""The three nets of the benchmarks, as hvax models, and their data."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import hvax


class Net(NamedTuple):
    """Sizes; `steps` and `batch` are those of the headline numbers."""

    latent: int
    x_shape: tuple[int, ...]
    hidden: int
    batch: int
    steps: int


NETS = {
    "tiny": Net(latent=2, x_shape=(64,), hidden=64, batch=64, steps=3),
    "mlp": Net(latent=20, x_shape=(784,), hidden=400, batch=128, steps=3),
    "conv": Net(latent=64, x_shape=(28, 28), hidden=450, batch=100, steps=5),
}


def build(name: str, steps: int, *, remat: bool = False) -> hvax.HVAE | hvax.VAE:
    """The model; a plain VAE for no steps."""
    net, key = NETS[name], jax.random.key(0)
    if name == "conv":
        vae = hvax.VAE(*hvax.conv(net.latent, key=key))
    else:
        vae = hvax.VAE(*hvax.mlp(net.x_shape, net.latent, hidden=(net.hidden,), key=key))
    if steps == 0:
        return vae
    step_size = hvax.Learned(np.full(net.latent, 0.05), upper=0.5)
    tempering = hvax.hamiltonian.QuadraticTempering(hvax.Learned(0.3))
    return hvax.HVAE(vae, hvax.HamiltonianFlow(steps, step_size, tempering, remat=remat))


def bits(name: str, count: int) -> np.ndarray:
    draw = np.random.default_rng(0).uniform(size=(count, *NETS[name].x_shape))
    return (draw < 0.3).astype(np.uint8)


def from_torch(name: str, steps: int, arrays: dict[str, np.ndarray]) -> hvax.HVAE:
    """The model with a peer's weights, in float64."""
    latent = NETS[name].latent
    w = {key.removeprefix("weight."): a for key, a in arrays.items() if key.startswith("weight.")}
    model = build(name, steps)
    assert isinstance(model, hvax.HVAE)

    def linear(layer: str, rows: slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
        return w[f"net.{layer}.weight"][rows], w[f"net.{layer}.bias"][rows]

    encoder, decoder = model.vae.encoder, model.vae.decoder.network
    mean, sigma = linear("e2", slice(None, latent)), linear("e2", slice(latent, None))
    if name == "conv":
        shift = {"c1": -1, "c2": -1, "c3": 0, "t1": 0, "t2": -1, "t3": -1}  # of the padding
        kernels = {
            layer: (np.roll(w[f"net.{layer}.weight"], by, (2, 3)), w[f"net.{layer}.bias"])
            for layer, by in shift.items()
        }
        first = [(kernels[c][0].transpose(2, 3, 1, 0), kernels[c][1]) for c in ("c1", "c2", "c3")]
        last = [
            (kernels[t][0].transpose(2, 3, 0, 1)[::-1, ::-1], kernels[t][1])
            for t in ("t1", "t2", "t3")
        ]
        # Feature maps: torch has the channels first, hvax last.
        order = np.arange(512).reshape(32, 4, 4).transpose(1, 2, 0).ravel()
        e1, d2 = linear("e1"), linear("d2")
        layers = [
            *zip(encoder.trunk.convolutions, first, strict=True),
            (encoder.trunk.dense.layers[0], (e1[0][:, order], e1[1])),
            (encoder.mean.layers[0], mean),
            (encoder.log_sigma.network.layers[0], sigma),
            (decoder.dense[0].layers[0], linear("d1")),
            (decoder.dense[1].layers[0], (d2[0][order], d2[1][order])),
            *zip(decoder.convolutions, last, strict=True),
        ]
    else:
        layers = [
            (encoder.trunk.layers[0], linear("e1")),
            (encoder.mean.layers[0], mean),
            (encoder.log_sigma.network.layers[0], sigma),
            (decoder.layers[0], linear("d1")),
            (decoder.layers[1], linear("d2")),
        ]
    new = {id(a): jnp.asarray(b) for layer, (weight, bias) in layers
           for a, b in ((layer.weight, weight), (layer.bias, bias))}  # fmt: skip
    step_size = hvax.Learned(0.5 / (1 + np.exp(-w["eps_raw"])), upper=0.5)
    beta0 = hvax.Learned(float(1 / (1 + np.exp(-w["beta_raw"]))))
    flow = hvax.HamiltonianFlow(steps, step_size, hvax.hamiltonian.QuadraticTempering(beta0))
    vae = jax.tree.map(lambda leaf: new.get(id(leaf), leaf), model.vae)
    # The peer's sigma is a softplus, without hvax's bound.
    head = hvax.models.SigmaHead(
        vae.encoder.log_sigma.network, form="softplus", lower=-1e6, upper=1e6
    )
    vae = eqx.tree_at(lambda vae: vae.encoder.log_sigma, vae, head)
    return hvax.HVAE(vae, flow)
