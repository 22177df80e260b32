/* Counts the calls by which a process changes the checkpoints and the model of a run, logs their
   names, and kills the process before one of them. Preloaded; see faults.py.

   TORTURE_FOLDER  the run's                    TORTURE_LOG   a file for a line each call
   TORTURE_KILL    the number of the call that does not come about, from 1; 0: none */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static void reached(const char *name, const char *path) {
    static int count = 0;
    const char *folder = getenv("TORTURE_FOLDER"), *at = getenv("TORTURE_KILL");
    if (!folder || !path || strncmp(path, folder, strlen(folder))) return;
    const char *inner = path + strlen(folder);
    if (strncmp(inner, "/checkpoints", 12) && strncmp(inner, "/model", 6)) return;
    if (at && ++count == atoi(at)) kill(getpid(), SIGKILL);
    FILE *log = getenv("TORTURE_LOG") ? fopen(getenv("TORTURE_LOG"), "a") : NULL;
    if (log) {
        fprintf(log, "%s\n", name);
        fclose(log);
    }
}

static void reached_by(const char *name, int descriptor) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0) return;
    path[size] = 0;
    reached(name, path);
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define OPEN(name)                                        \
    int name(const char *path, int flags, ...) {          \
        va_list rest;                                     \
        va_start(rest, flags);                            \
        mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0; \
        va_end(rest);                                     \
        if (flags & O_CREAT) reached("open", path);       \
        return NEXT(name)(path, flags, mode);             \
    }
OPEN(open)
OPEN(open64)

ssize_t write(int descriptor, const void *content, size_t size) {
    reached_by("write", descriptor);
    return NEXT(write)(descriptor, content, size);
}
int fsync(int descriptor) {
    reached_by("fsync", descriptor);
    return NEXT(fsync)(descriptor);
}
int chmod(const char *path, mode_t mode) {
    reached("chmod", path);
    return NEXT(chmod)(path, mode);
}
int rename(const char *from, const char *to) {
    reached("rename", from);
    return NEXT(rename)(from, to);
}
int unlink(const char *path) {
    reached("unlink", path);
    return NEXT(unlink)(path);
}
int mkdir(const char *path, mode_t mode) {
    reached("mkdir", path);
    return NEXT(mkdir)(path, mode);
}
