"""Faults in how tables are read and filled, and in what makes programs compile faster."""

from tests.mutants.mutant import Mutant

TABLES = [
    Mutant(
        "data/encode.py",
        "    found[unknown] = np.nan\n",
        "    found[unknown] = 0.0\n",
        "data/test_schema_errors.py::test_unseen_classes_may_count_as_missing",
    ),
    Mutant(
        "data/encode.py",
        "    if extra:\n",
        "    if False:\n",
        "data/test_schema_errors.py::test_unknown_columns_are_not_used",
    ),
    Mutant(
        "pipeline/tables.py",
        "    empty = holes.all(axis=1) & (not empty_rows)\n",
        "    empty = holes.all(axis=1)\n",
        "commands/test_impute.py",
    ),
    Mutant(
        "pipeline/imputed_table.py",
        "low[:, j], high[:, j] = np.floor(low[:, j]), np.ceil(high[:, j])",
        "low[:, j], high[:, j] = np.ceil(low[:, j]), np.floor(high[:, j])",
        "pipeline/test_imputed_table.py",
    ),
    Mutant(
        "pipeline/imputed_table.py",
        "            low[:, j] = high[:, j] = imputed.mean[:, j]\n",
        "            pass\n",
        "pipeline/test_imputed_table.py",
    ),
    Mutant(
        "training/flat.py",
        'more["value_fn"] = lambda joined: of_model(split(joined))',
        'more["value_fn"] = of_model',
        "training/test_flat.py",
    ),
    Mutant(
        "training/flat.py",
        "found |= dict(zip(group, parts, strict=True))",
        "found |= dict(zip(group, parts[::-1], strict=True))",
        "training/test_flat.py",
    ),
    Mutant(
        "training/flat.py",
        "str(leaf.dtype) if leaf.size < SMALL else i",
        "str(leaf.dtype)",
        "training/test_flat.py",
    ),
    Mutant(
        "quick_compile.py",
        '{"xla_backend_optimization_level": level} if cpu else None',
        "None",
        "test_quick_compile.py",
    ),
]
