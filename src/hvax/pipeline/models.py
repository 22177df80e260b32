"""Which models a training trains: the plain VAE, and the same with a flow."""

from collections.abc import Mapping

from hvax.checks import check_kind
from hvax.hamiltonian.abstract_flow import AbstractFlow
from hvax.hamiltonian.flow import HamiltonianFlow
from hvax.models.hvae import HVAE
from hvax.models.latent_model import AbstractLatentModel
from hvax.models.vae import VAE


def flow_of(flow: str | AbstractFlow | None) -> AbstractFlow | None:
    """A flow, or that of a name. Raises `ValueError` for a name that is not in `PRESETS`."""
    if flow is None:
        return None
    if isinstance(flow, str):
        return HamiltonianFlow.preset(flow)
    check_kind(flow, "flow", AbstractFlow)
    return flow


def models_for(
    vae: VAE, flow: AbstractFlow | None, *, baseline: bool
) -> dict[str, AbstractLatentModel]:
    """What is trained, by name and in this order: "vae", and with a flow "hvae"."""
    if flow is None:
        return {"vae": vae}
    models: dict[str, AbstractLatentModel] = {"vae": vae} if baseline else {}
    return models | {"hvae": HVAE(vae, flow)}


def num_gradients_of(models: Mapping[str, AbstractLatentModel]) -> int:
    """The gradients that the flow takes for each draw; 0 without a flow."""
    model = models.get("hvae")
    return model.flow.num_gradients if isinstance(model, HVAE) else 0
