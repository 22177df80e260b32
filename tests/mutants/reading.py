"""Faults in how data, runs and streams are read."""

from tests.mutants.mutant import Mutant

_FOLDER = "storage/test_run_folder.py"
_WHOLE = "storage/test_files.py"
_MOVED = "commands/test_moved.py"
_LAYOUTS = "commands/test_layouts.py"

READING = [
    # Data in the training file's layout
    Mutant(
        "pipeline/reading.py", "        if source.header or source", "        if source", _LAYOUTS
    ),
    Mutant(
        "pipeline/reading.py",
        "        if len(lacking) < len(columns):",
        "        if False:",
        _LAYOUTS,
    ),
    Mutant(
        "pipeline/reading.py",
        "    return np.arange(len(source.x)) if source.rows is None else source.rows",
        "    return np.arange(len(source.x))",
        _LAYOUTS,
    ),
    Mutant(
        "pipeline/reading.py",
        "                header=self.header,\n                missing",
        "                missing",
        _LAYOUTS,
    ),
    # A moved project
    Mutant(
        "commands/places.py",
        "        if name not in relative or not path.exists():\n            continue",
        "        continue",
        _MOVED,
    ),
    Mutant("commands/places.py", " or not path.exists()", "", _MOVED),
    Mutant("commands/places.py", '("warm_start", "train")', "", _MOVED),
    Mutant(
        "commands/places.py",
        "os.path.relpath(path, run.resolve())",
        "os.path.relpath(path, run)",
        _MOVED,
    ),
    Mutant(
        "commands/places.py",
        "    if not all(isinstance(path, str) for path in relative.values()):",
        "    if False:",
        _MOVED,
    ),
    # Devices, pipes, bombs
    Mutant(
        "data/claims.py", "    if not stat.S_ISREG(mode):", "    if False:", "data/test_claims.py"
    ),
    Mutant(
        "data/claims.py",
        "    if claimed != info.file_size or claimed > held + _DEFLATE_MOST:",
        "    if False:",
        "data/test_claims.py",
    ),
    Mutant(
        "data/claims.py",
        "    if claimed > (memory := _memory()):",
        "    if (memory := _memory()) < 0:",
        "data/test_claims.py",
    ),
    Mutant(
        "data/claims.py",
        "    if size < x.offset + x.nbytes:",
        "    if False:",
        "data/test_claims.py",
    ),
    # Files of a run that no run has written
    Mutant(
        "storage/forms.py",
        '    "bounds": _bounds,\n',
        "",
        "commands/test_forms.py",
    ),
    Mutant(
        "storage/forms.py",
        "    return type(value) in (int, float)",
        "    return isinstance(value, int | float)",
        "commands/test_forms.py",
    ),
    Mutant(
        "storage/logs.py",
        "        if is_valid(record):",
        "        if True:",
        "commands/test_forms.py",
    ),
    Mutant("storage/json_files.py", "parse_int=_integer,\n            ", "", _WHOLE),
    Mutant(
        "training/position.py",
        "    _check_step(step, position, identity)\n",
        "",
        f"{_FOLDER}::test_a_crafted_position_costs_the_steps_since_the_one_before",
    ),
    Mutant(
        "training/position.py",
        '    _check_history(position["history"], position["epoch"])\n',
        "",
        f"{_FOLDER}::test_a_crafted_position_costs_the_steps_since_the_one_before",
    ),
    # The same rows
    Mutant(
        "data/digest.py",
        "    for part in parts:\n        digest = _begun(part.stored",
        "    for part in parts[:1]:\n        digest = _begun(part.stored",
        "training/test_same_rows.py",
    ),
    Mutant(
        "data/digest.py",
        "        digest.update(np.ascontiguousarray(piece))\n    return",
        "        digest.update(np.ascontiguousarray(piece[::2]))\n    return",
        "training/test_same_rows.py",
    ),
    Mutant(
        "data/digest.py",
        "for start in range(0, n, step)]",
        "for start in range(0, max(1, n - step), step)]",
        "training/test_same_rows.py",
    ),
    # Streams
    Mutant(
        "streams.py",
        "                return len(content)",
        "                raise",
        "test_streams.py",
    ),
    Mutant(
        "streams.py",
        '        errors="backslashreplace",\n',
        "",
        "test_streams.py",
    ),
    Mutant(
        "streams.py",
        "                select.select([], [self._descriptor], [])",
        "                return 0",
        "test_streams.py",
    ),
    Mutant(
        "streams.py",
        "max(_NARROWEST, columns)",
        "columns",
        "test_streams.py",
    ),
]
