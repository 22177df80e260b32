"""Faults in how runs and models are stored."""

from tests.mutants.mutant import Mutant

_FILES = "storage/test_structure_files.py"
_CLAIM = "commands/test_claim.py"
_FOLDER = "storage/test_run_folder.py"
_LOCK = "storage/test_lock.py"
_WHOLE = "storage/test_files.py"
_TEMPORARY = "storage/test_temporary.py"

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
    Mutant(
        "storage/run_files.py",
        "    check_no_links(path)\n    folders",
        "    folders",
        f"{_CLAIM}::test_nothing_is_removed_from_a_run_with_a_link",
    ),
    Mutant(
        "storage/run_files.py",
        "        if file.name == named or has_hash_in_name(file, WEIGHTS):\n"
        "            file.unlink()",
        "        file.unlink()",
        f"{_CLAIM}::test_a_run_is_taken_away_and_nothing_else",
    ),
    Mutant(
        "storage/run_files.py",
        "        if file.name == named or has_hash_in_name(file, WEIGHTS):",
        "        if file.name == named:",
        f"{_CLAIM}::test_a_damaged_run_is_replaced",
    ),
    Mutant(
        "storage/run_files.py",
        "        (folder / name).unlink(missing_ok=True)\n    for part",
        "        (folder / name).unlink(missing_ok=True)\n"
        "    shutil.rmtree(folder / MODEL, ignore_errors=True)\n    for part",
        f"{_CLAIM}::test_a_run_is_taken_away_and_nothing_else",
    ),
    Mutant(
        "storage/run_files.py",
        "    remove_stale_temporaries(part)\n",
        "    pass\n",
        f"{_CLAIM}::test_a_run_is_taken_away_and_nothing_else",
    ),
    Mutant(
        "storage/run_files.py",
        "            if (folder / CHECKPOINTS).is_dir()\n        }",
        "            if False\n        }",
        f"{_CLAIM}::test_a_run_that_a_library_trains_in_is_not_replaced",
    ),
    Mutant(
        "storage/run_files.py",
        "    with _locks_of([folder]) as locks:\n"
        "        _remove_training(folder, locks.get(folder))\n",
        "    shutil.rmtree(folder)\n",
        f"{_CLAIM}::test_a_baseline_begins_beside_files_of_others",
    ),
    Mutant(
        "commands/directory.py",
        "            if not is_empty(path):\n                _check_replaceable",
        "            if False:\n                _check_replaceable",
        f"{_CLAIM}::test_a_run_that_ended_in_between_is_not_replaced",
    ),
    Mutant(
        "commands/directory.py",
        "        _check_checkpoints(path)\n",
        "        pass\n",
        f"{_CLAIM}::test_a_run_without_its_checkpoints_is_not_begun_anew",
    ),
    Mutant(
        "storage/run_folder.py",
        "    check_folders(path)\n    parent",
        "    parent",
        f"{_FOLDER}::test_files_of_others_are_refused_as_they_are",
    ),
    Mutant(
        "storage/run_folder.py",
        "    if file.is_symlink() or file.is_dir():\n        return True",
        "    if file.is_dir():\n        return True",
        f"{_FOLDER}::test_a_log_that_is_not_ours_is_in_the_way",
    ),
    Mutant(
        "storage/run_folder.py",
        "    except ValueError:\n        return True",
        "    except ValueError:\n        pass",
        f"{_FOLDER}::test_a_log_that_is_not_ours_is_in_the_way",
    ),
    Mutant(
        "storage/run_folder.py",
        "    return not (path / CHECKPOINTS / LOCK_FILE).is_file()",
        "    return False",
        f"{_FOLDER}::test_a_run_that_lost_its_checkpoints_does_not_start_over",
    ),
    Mutant(
        "storage/run_folder.py",
        "    if path.name == BEFORE_FLOW and parent.checkpoints:",
        "    if False:",
        f"{_FOLDER}::test_lost_epochs_before_a_flow_are_not_trained_again",
    ),
    Mutant(
        "storage/run_folder.py",
        "        if RunFolder(path).checkpoints or (there is not None and before.checkpoints):",
        "        if RunFolder(path).checkpoints:",
        f"{_FOLDER}::test_a_plan_is_kept_by_a_run_that_has_begun",
    ),
    Mutant(
        "storage/run_folder.py",
        "type(epoch) is not int or epoch < 2 or len(plan) > 1",
        "type(epoch) is not int or epoch < 2",
        f"{_FOLDER}::test_a_plan_of_another_form_is_told_by_its_file",
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
        f"{_LOCK} {_FOLDER}::test_a_run_whose_folder_was_begun_anew_ends",
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
    Mutant(
        "storage/lock_file.py", "        unlock_descriptor(descriptor)\n", "        pass\n", _LOCK
    ),
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
        f"{_CLAIM}::test_what_a_kill_leaves_at_the_first_flush_is_begun",
    ),
]
