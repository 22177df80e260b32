"""A model to and from a folder: its structure as JSON, its arrays as safetensors. No pickle."""

from hvax.storage.structure.folder import check_saveable as check_saveable
from hvax.storage.structure.folder import digest as digest
from hvax.storage.structure.folder import load as load
from hvax.storage.structure.folder import save as save
from hvax.storage.structure.manifest import FORMAT as FORMAT
from hvax.storage.structure.manifest import STRUCTURE as STRUCTURE
from hvax.storage.structure.names import MODULES as MODULES
