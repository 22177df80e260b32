"""The faults, by the part of the package that they are planted in."""

from tests.mutants.mutant import Mutant

_FILES = "storage/test_structure_files.py"
_CLAIM = "commands/test_claim.py"
_FOLDER = "storage/test_run_folder.py"
_LOCK = "storage/test_lock.py"
_WHOLE = "storage/test_files.py"
_TEMPORARY = "storage/test_temporary.py"
_MOVED = "commands/test_moved.py"
_LAYOUTS = "commands/test_layouts.py"

STORAGE = [
    # Files of others
    Mutant(
        "storage/structure/folder.py",
        "        _check_free(new, content)\n",
        "        pass\n",
        _FILES,
    ),
    Mutant(
        "storage/structure/folder.py",
        "if path.parent.is_symlink() or path.is_symlink() or not path.is_file():\n        return",
        "if not path.is_file():\n        return",
        _FILES,
    ),
    Mutant(
        "storage/structure/folder.py",
        "    if named != path.name:\n        path.unlink(missing_ok=True)",
        "    path.unlink(missing_ok=True)",
        _FILES,
    ),
    Mutant(
        "storage/structure/folder.py",
        "    if old is not None:\n        _remove_unnamed(folder / old)",
        "    for other in folder.glob('weights-*'):\n        _remove_unnamed(other)",
        _FILES,
    ),
    Mutant(
        "storage/structure/folder.py",
        "        _remove_unnamed(new)\n        raise",
        "        raise",
        _FILES,
    ),
    Mutant(
        "storage/structure/manifest.py",
        "            verify_checksum(content)  # of a newer format, perhaps\n",
        "            pass\n",
        _FILES,
    ),
    Mutant(
        "storage/structure/manifest.py",
        "if path.is_symlink() or not path.is_file():\n            raise",
        "if False:\n            raise",
        _FILES,
    ),
    Mutant(
        "storage/structure/folder.py",
        "    with _one_save_at_a_time(folder):\n",
        "    if True:\n",
        _FILES,
    ),
    Mutant(
        "storage/structure/folder.py",
        "_LOADS, _LOAD_PAUSE = 50, 0.002",
        "_LOADS, _LOAD_PAUSE = 1, 0.0",
        _FILES,
    ),
    Mutant("storage/run_files.py", "    check_no_links(path)\n    folders", "    folders", _CLAIM),
    Mutant(
        "storage/run_files.py",
        "        if file.name == named or has_hash_in_name(file, WEIGHTS):\n"
        "            file.unlink()",
        "        file.unlink()",
        _CLAIM,
    ),
    Mutant(
        "storage/run_files.py",
        "        if file.name == named or has_hash_in_name(file, WEIGHTS):",
        "        if file.name == named:",
        _CLAIM,
    ),
    Mutant(
        "storage/run_files.py",
        "        (folder / name).unlink(missing_ok=True)\n    for part",
        "        (folder / name).unlink(missing_ok=True)\n"
        "    shutil.rmtree(folder / MODEL, ignore_errors=True)\n    for part",
        _CLAIM,
    ),
    Mutant("storage/run_files.py", "    remove_stale_temporaries(part)\n", "    pass\n", _CLAIM),
    Mutant(
        "storage/run_files.py",
        "            if (folder / CHECKPOINTS).is_dir()\n        }",
        "            if False\n        }",
        _CLAIM,
    ),
    Mutant(
        "storage/run_files.py",
        "    with _locks_of([folder]) as locks:\n"
        "        _remove_training(folder, locks.get(folder))\n",
        "    shutil.rmtree(folder)\n",
        _CLAIM,
    ),
    Mutant(
        "commands/directory.py",
        "            if not is_empty(path):\n                _check_replaceable",
        "            if False:\n                _check_replaceable",
        _CLAIM,
    ),
    Mutant("commands/directory.py", "        _check_checkpoints(path)\n", "        pass\n", _CLAIM),
    Mutant("storage/run_folder.py", "    check_folders(path)\n    parent", "    parent", _FOLDER),
    Mutant(
        "storage/run_folder.py",
        "    if file.is_symlink() or file.is_dir():\n        return True",
        "    if file.is_dir():\n        return True",
        _FOLDER,
    ),
    Mutant(
        "storage/run_folder.py",
        "    except ValueError:\n        return True",
        "    except ValueError:\n        pass",
        _FOLDER,
    ),
    Mutant(
        "storage/run_folder.py",
        "    return not (path / CHECKPOINTS / LOCK_FILE).is_file()",
        "    return False",
        _FOLDER,
    ),
    Mutant(
        "storage/run_folder.py",
        "    if path.name == BEFORE_FLOW and parent.checkpoints:",
        "    if False:",
        _FOLDER,
    ),
    Mutant(
        "storage/run_folder.py",
        "        if RunFolder(path).checkpoints or (there is not None and before.checkpoints):",
        "        if RunFolder(path).checkpoints:",
        _FOLDER,
    ),
    Mutant(
        "storage/run_folder.py",
        "type(epoch) is not int or epoch < 2 or len(plan) > 1",
        "type(epoch) is not int or epoch < 2",
        _FOLDER,
    ),
    # A folder begun anew beneath a run
    Mutant(
        "storage/files.py",
        "            check_in_place(path)  # the flush may have taken seconds\n",
        "",
        _LOCK,
    ),
    Mutant(
        "storage/files.py",
        "    check_in_place(path)\n    flags",
        "    flags",
        _LOCK,
    ),
    Mutant(
        "storage/lock_file.py",
        "    return os.path.samestat(found, os.fstat(descriptor))",
        "    return True",
        f"{_LOCK} {_FOLDER}",
    ),
    Mutant(
        "storage/lock.py",
        "FolderLock(folder, protects or folder, file)",
        "FolderLock(folder, folder, file)",
        _LOCK,
    ),
    Mutant(
        "storage/lock.py",
        "    register_at_fork(after_in_child=_close_in_child)",
        "    pass",
        _LOCK,
    ),
    Mutant(
        "storage/lock_file.py",
        "    if path.is_symlink() or path.is_dir():\n        raise _not_plain(path)\n",
        "",
        _LOCK,
    ),
    # File systems that refuse
    Mutant(
        "storage/unsupported.py", "_NOT_IMPLEMENTED | {errno.ENOLCK}", "_NOT_IMPLEMENTED", _LOCK
    ),
    Mutant("storage/unsupported.py", ", errno.EINVAL})", "})", _LOCK),
    Mutant("storage/lock.py", "    if feature not in warned_of:", "    if True:", _LOCK),
    Mutant(
        "storage/temporary.py",
        "os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666",
        "os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644",
        _LOCK,
    ),
    Mutant(
        "storage/temporary.py",
        "not lock_descriptor(descriptor, blocking=False):\n            return",
        "False:\n            return",
        _TEMPORARY,
    ),
    Mutant(
        "storage/files.py",
        "    fsync_folder(path.parent)\n    remove_stale_temporaries(path.parent)",
        "    pass",
        f"{_WHOLE} {_TEMPORARY}",
    ),
    Mutant(
        "storage/files.py",
        '    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)',
        "    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT",
        _LOCK,
    ),
    # Windows
    Mutant(
        "storage/files.py",
        "            if not REMOVES_OPEN_FILES:\n                file.close()\n",
        "",
        _TEMPORARY,
    ),
    Mutant("storage/temporary.py", "found.st_mtime > _YOUNG", "found.st_mtime > 0", _TEMPORARY),
    # Formats
    Mutant(
        "storage/manifest.py",
        "                check_fields(record, self.fields)\n",
        "                pass\n",
        "storage/test_checkpoint.py",
    ),
    Mutant(
        "storage/manifest.py",
        "        if version > self.version:",
        "        if False:",
        "storage/test_checkpoint.py",
    ),
    # A directory that a kill at the first flush leaves
    Mutant(
        "storage/run_files.py",
        "all(\n        file.name == LOCK_FILE or is_temporary(file.name) "
        "for file in path.iterdir()\n    )",
        "not any(path.iterdir())",
        _CLAIM,
    ),
]

READING = [
    # Data in the training file's layout
    Mutant(
        "commands/reading.py", "        if source.header or source", "        if source", _LAYOUTS
    ),
    Mutant(
        "commands/reading.py",
        "        if len(lacking) < len(columns):",
        "        if False:",
        _LAYOUTS,
    ),
    Mutant(
        "commands/reading.py",
        "    return np.arange(len(source.x)) if source.rows is None else source.rows",
        "    return np.arange(len(source.x))",
        _LAYOUTS,
    ),
    Mutant("commands/reading.py", "        header=options.header,\n", "", _LAYOUTS),
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
        _FOLDER,
    ),
    Mutant(
        "training/position.py",
        '    _check_history(position["history"], position["epoch"])\n',
        "",
        _FOLDER,
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

MODELS = [
    Mutant(
        "models/origin.py",
        "return x if origin is None else x - origin",
        "return x if origin is None else x - origin.astype(np.float32)",
        "training/test_offset.py",
    ),
    Mutant(
        "models/origin.py",
        "x.astype(np.float64) + origin",
        "x + origin.astype(x.dtype)",
        "training/test_offset.py",
    ),
    Mutant(
        "models/counts.py",
        "    return jnp.where(jnp.abs(d) < 1, near, far)",
        "    return far",
        "models/test_counts.py",
    ),
    Mutant(
        "models/counts.py",
        "square * (1 / 1260 - square * (1 / 1680 - square / 1188))",
        "square * (1 / 1260)",
        "models/test_counts.py",
    ),
    Mutant(
        "models/counts.py",
        "direct = log_factorial - off - few",
        "direct = log_factorial - few",
        "models/test_counts.py",
    ),
    Mutant(
        "models/counts.py",
        "            small,\n            r * _difference_from_log1p",
        "            False,\n            r * _difference_from_log1p",
        "models/test_counts.py",
    ),
]

MUTANTS = [*STORAGE, *READING, *MODELS]
