/* Loaded before libc (LD_PRELOAD): sees every call by which a process changes files below a
 * folder, has the n-th of them fail, or writes all of them to a log from which a power cut at any
 * moment can be worked out. Does nothing before watch_writes is called. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static char folder[PATH_MAX];
static long failing, seen;
static int failure, log_to = -1;

#define REAL(type, name, ...)                                     \
    static type (*real)(__VA_ARGS__);                             \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

/* root: absolute path. fail_at: which call fails, from 1; 0 for none. log: file, or NULL. */
void watch_writes(const char *root, long fail_at, int error, const char *log) {
    seen = 0;
    failing = fail_at;
    failure = error;
    log_to = log ? (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND, 0600) : -1;
    snprintf(folder, sizeof folder, "%s", root);
}

long watched_writes(void) { return seen; }

static int below(const char *path) {
    size_t length = strlen(folder);
    return length && !strncmp(path, folder, length) && (path[length] == '/' || !path[length]);
}

/* Write an absolute path of what a call names; 1 if it is below the folder. */
static int named(char *to, int at, const char *path) {
    if (!folder[0] || !path) return 0;
    if (path[0] == '/') {
        snprintf(to, PATH_MAX, "%s", path);
    } else {
        char link[64], start[PATH_MAX / 2];
        if (at == AT_FDCWD) snprintf(link, sizeof link, "/proc/self/cwd");
        else snprintf(link, sizeof link, "/proc/self/fd/%d", at);
        ssize_t length = readlink(link, start, sizeof start - 1);
        if (length < 0) return 0;
        start[length] = 0;
        snprintf(to, PATH_MAX, "%s/%.2000s", start, path);
    }
    return below(to);
}

static int opened(char *to, int descriptor) {
    char link[64];
    if (!folder[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, to, PATH_MAX - 1);
    if (length < 0) return 0;
    to[length] = 0;
    return below(to);
}

/* Count a call; 1 if it is the one that has to fail, or to end the process by a signal. */
static int fails(void) {
    if (++seen != failing) return 0;
    if (failure < 0) kill(getpid(), -failure);
    errno = failure;
    return 1;
}

/* One record: a line of text, then as many bytes as it says last. */
static void note(const char *call, unsigned long inode, long offset, const char *path,
                 const char *other, const void *data, size_t size) {
    char line[2 * PATH_MAX + 128];
    if (log_to < 0) return;
    int saved = errno;
    int length = snprintf(line, sizeof line, "%s\t%lu\t%ld\t%s\t%s\t%zu\n", call, inode, offset,
                          path, other, size);
    syscall(SYS_write, log_to, line, (size_t)length);
    if (size) syscall(SYS_write, log_to, data, size);
    errno = saved;
}

static unsigned long inode_of(int descriptor) {
    struct stat about;
    return fstat(descriptor, &about) ? 0 : (unsigned long)about.st_ino;
}

static int open_watched(int at, const char *path, int flags, mode_t mode) {
    char full[PATH_MAX];
    REAL(int, "openat", int, const char *, int, ...);
    int writes = (flags & O_CREAT) || (flags & O_TRUNC);
    if (!writes || !named(full, at, path)) return real(at, path, flags, mode);
    if (fails()) return -1;
    int is_new = faccessat(at, path, F_OK, 0) != 0;
    int descriptor = real(at, path, flags, mode);
    if (descriptor >= 0 && is_new) note("create", inode_of(descriptor), 0, full, "", "", 0);
    else if (descriptor >= 0 && (flags & O_TRUNC))
        note("truncate", inode_of(descriptor), 0, full, "", "", 0);
    return descriptor;
}

#define MODE                              \
    mode_t mode = 0;                      \
    if (flags & (O_CREAT | O_TMPFILE)) {  \
        va_list rest;                     \
        va_start(rest, flags);            \
        mode = va_arg(rest, mode_t);      \
        va_end(rest);                     \
    }

int open(const char *path, int flags, ...) { MODE return open_watched(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE return open_watched(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE return open_watched(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE return open_watched(at, path, flags, mode); }
int creat(const char *path, mode_t mode) {
    return open_watched(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

static FILE *fopen_watched(const char *path, const char *mode) {
    char full[PATH_MAX];
    REAL(FILE *, "fopen", const char *, const char *);
    if ((mode[0] == 'w' || mode[0] == 'a') && named(full, AT_FDCWD, path)) {
        if (fails()) return NULL;
        int is_new = access(path, F_OK) != 0;
        FILE *file = real(path, mode);
        if (file && is_new) note("create", inode_of(fileno(file)), 0, full, "", "", 0);
        else if (file) note("truncate", inode_of(fileno(file)), 0, full, "", "", 0);
        return file;
    }
    return real(path, mode);
}
FILE *fopen(const char *path, const char *mode) { return fopen_watched(path, mode); }
FILE *fopen64(const char *path, const char *mode) { return fopen_watched(path, mode); }

ssize_t write(int descriptor, const void *data, size_t size) {
    char full[PATH_MAX];
    REAL(ssize_t, "write", int, const void *, size_t);
    if (!opened(full, descriptor)) return real(descriptor, data, size);
    if (fails()) return -1;
    long offset = fcntl(descriptor, F_GETFL) & O_APPEND ? lseek(descriptor, 0, SEEK_END)
                                                        : lseek(descriptor, 0, SEEK_CUR);
    ssize_t done = real(descriptor, data, size);
    if (done > 0) note("write", inode_of(descriptor), offset, full, "", data, (size_t)done);
    return done;
}

static ssize_t pwrite_watched(int descriptor, const void *data, size_t size, off64_t offset) {
    char full[PATH_MAX];
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
    if (!opened(full, descriptor)) return real(descriptor, data, size, offset);
    if (fails()) return -1;
    ssize_t done = real(descriptor, data, size, offset);
    if (done > 0) note("write", inode_of(descriptor), offset, full, "", data, (size_t)done);
    return done;
}
ssize_t pwrite(int d, const void *data, size_t size, off_t at) { return pwrite_watched(d, data, size, at); }
ssize_t pwrite64(int d, const void *data, size_t size, off64_t at) { return pwrite_watched(d, data, size, at); }

/* Short writes are allowed: one piece at a time, so that each is seen. */
ssize_t writev(int descriptor, const struct iovec *pieces, int count) {
    char full[PATH_MAX];
    REAL(ssize_t, "writev", int, const struct iovec *, int);
    if (!opened(full, descriptor)) return real(descriptor, pieces, count);
    for (int i = 0; i < count; i++)
        if (pieces[i].iov_len) return write(descriptor, pieces[i].iov_base, pieces[i].iov_len);
    return 0;
}

/* What a file holds as it is synced: part of it may have come through mmap, which nobody sees. */
static void note_content(int descriptor, const char *path) {
    struct stat about;
    char again[64];
    if (log_to < 0) return;
    if (fstat(descriptor, &about) || !S_ISREG(about.st_mode)) {
        note("sync", 0, 0, path, "", "", 0);
        return;
    }
    snprintf(again, sizeof again, "/proc/self/fd/%d", descriptor);
    int file = (int)syscall(SYS_openat, AT_FDCWD, again, O_RDONLY);
    size_t size = (size_t)about.st_size;
    char *content = malloc(size + 1);
    ssize_t got = file < 0 ? -1 : pread(file, content, size, 0);
    if (got < 0 || (size_t)got != size) abort();
    note("sync", (unsigned long)about.st_ino, 0, path, "", content, size);
    free(content);
    close(file);
}

static int sync_watched(int descriptor, const char *name) {
    char full[PATH_MAX];
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    if (!opened(full, descriptor)) return real(descriptor);
    if (fails()) return -1;
    note_content(descriptor, full);
    return real(descriptor);
}
int fsync(int descriptor) { return sync_watched(descriptor, "fsync"); }
int fdatasync(int descriptor) { return sync_watched(descriptor, "fdatasync"); }

static int truncate_watched(int descriptor, off64_t length) {
    char full[PATH_MAX];
    REAL(int, "ftruncate64", int, off64_t);
    if (!opened(full, descriptor)) return real(descriptor, length);
    if (fails()) return -1;
    note("truncate", inode_of(descriptor), length, full, "", "", 0);
    return real(descriptor, length);
}
int ftruncate(int descriptor, off_t length) { return truncate_watched(descriptor, length); }
int ftruncate64(int descriptor, off64_t length) { return truncate_watched(descriptor, length); }

static int rename_watched(int from_at, const char *from, int to_at, const char *to, unsigned flags) {
    char full[PATH_MAX], other[PATH_MAX];
    if (named(full, from_at, from) | named(other, to_at, to)) {
        if (fails()) return -1;
        note("rename", 0, 0, full, other, "", 0);
    }
    return (int)syscall(SYS_renameat2, from_at, from, to_at, to, flags);
}
int rename(const char *from, const char *to) { return rename_watched(AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int a, const char *from, int b, const char *to) { return rename_watched(a, from, b, to, 0); }
int renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
    return rename_watched(a, from, b, to, flags);
}

static int remove_watched(int at, const char *path, int flags) {
    char full[PATH_MAX];
    if (named(full, at, path)) {
        if (fails()) return -1;
        note("remove", 0, 0, full, "", "", 0);
    }
    return (int)syscall(SYS_unlinkat, at, path, flags);
}
int unlink(const char *path) { return remove_watched(AT_FDCWD, path, 0); }
int unlinkat(int at, const char *path, int flags) { return remove_watched(at, path, flags); }
int rmdir(const char *path) { return remove_watched(AT_FDCWD, path, AT_REMOVEDIR); }

static int mkdir_watched(int at, const char *path, mode_t mode) {
    char full[PATH_MAX];
    int is_watched = named(full, at, path);
    if (is_watched && fails()) return -1;
    int done = (int)syscall(SYS_mkdirat, at, path, mode);
    if (is_watched && !done) note("folder", 0, 0, full, "", "", 0);
    return done;
}
int mkdir(const char *path, mode_t mode) { return mkdir_watched(AT_FDCWD, path, mode); }
int mkdirat(int at, const char *path, mode_t mode) { return mkdir_watched(at, path, mode); }
