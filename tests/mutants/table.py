"""All faults, from the parts of the package that they are planted in."""

from tests.mutants.numbers import NUMBERS
from tests.mutants.reading import READING
from tests.mutants.rest import REST
from tests.mutants.storage import STORAGE
from tests.mutants.tables import TABLES

MUTANTS = [*STORAGE, *READING, *NUMBERS, *TABLES, *REST]
