"""The errors by which a network or user-space file system says that it lacks a feature.

A full or broken disk gives other errors; those are raised.
"""

import errno

_NOT_IMPLEMENTED = frozenset({errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL})
NO_LOCKS = _NOT_IMPLEMENTED | {errno.ENOLCK}
NO_FSYNC = _NOT_IMPLEMENTED
# EACCES and EPERM: a folder that may be written to but not be read cannot be opened for fsync.
NO_FOLDER_FSYNC = NO_FSYNC | {errno.EBADF, errno.EACCES, errno.EPERM, errno.EISDIR}
