"""From a file to a trained model with its scores: the steps of `hvax.train` and `hvax train`."""

from hvax.pipeline.parts import Parts as Parts
from hvax.pipeline.settings import Settings as Settings
from hvax.pipeline.trained import Scored as Scored
from hvax.pipeline.trained import Trained as Trained
