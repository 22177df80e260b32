"""What network and user-space file systems refuse, by the errors that they then give."""

import errno

NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL})
NO_FLUSH = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
# Of a folder that may be written to and not be read, and on Windows.
NO_FOLDER_FLUSH = NO_FLUSH | {errno.EBADF, errno.EACCES, errno.EPERM, errno.EISDIR}


def is_refusal(error: OSError, known: frozenset[int]) -> bool:
    """Whether an error says that the file system cannot do this at all; a full or a broken disk
    says something else."""
    return error.errno in known
