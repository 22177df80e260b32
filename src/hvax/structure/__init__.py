"""A model <-> a folder: its structure as JSON, its arrays as safetensors. No pickle, no code."""

from hvax.structure.folder import check_saveable as check_saveable
from hvax.structure.folder import digest as digest
from hvax.structure.folder import load as load
from hvax.structure.folder import save as save
from hvax.structure.manifest import FORMAT as FORMAT
from hvax.structure.manifest import STRUCTURE as STRUCTURE
from hvax.structure.names import MODULES as MODULES
