"""The options of each command, as frozen dataclasses: the program's flags, and config.json."""

from hvax.config.check import check_numbers as check_numbers
from hvax.config.run import Compare as Compare
from hvax.config.run import Encode as Encode
from hvax.config.run import Evaluate as Evaluate
from hvax.config.run import Impute as Impute
from hvax.config.run import InsideFile as InsideFile
from hvax.config.run import OwnData as OwnData
from hvax.config.run import Reconstruct as Reconstruct
from hvax.config.run import Sample as Sample
from hvax.config.run import WriteReport as WriteReport
from hvax.config.train import DataOptions as DataOptions
from hvax.config.train import FlowOptions as FlowOptions
from hvax.config.train import ModelOptions as ModelOptions
from hvax.config.train import Train as Train
from hvax.config.train import TrainOptions as TrainOptions
