"""Training: `hvax.fit`, and the compiled step and loop below it."""

from hvax.training.flat import flatten_small as flatten_small
from hvax.training.optimizers import clip_by_running_norm as clip_by_running_norm
from hvax.training.optimizers import scale_flow_updates as scale_flow_updates
from hvax.training.options import Event as Event
from hvax.training.state import TrainState as TrainState
