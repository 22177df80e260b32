"""Data: sources, splits, binarization, checks, and the order of training batches."""

from hvax.data.binarize import binarize_once as binarize_once
from hvax.data.examples import Examples as Examples
from hvax.data.source import SOURCES as SOURCES
from hvax.data.source import Source as Source
from hvax.data.source import load_source as load_source
from hvax.data.split import Split as Split
from hvax.data.split import split as split
