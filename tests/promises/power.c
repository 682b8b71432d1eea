/* What a disk that honours fsync, and nothing else, would hold after the power failed: an LD_PRELOAD library.

   POWER_ROOT    the folder that is on that disk
   POWER_SHADOW  where its durable state is kept, one item for each inode:
                 NAME.file   a file's content as of its last fsync or fdatasync
                 NAME.dir    a folder's entries as of its last fsync: lines of "KIND NAME-OF-INODE NAME"

   A name is durable once its folder was synced, a content once its file was: nothing else is (POSIX promises no more).
   Each item is replaced in one step, before the sync returns, so the shadow is consistent at every moment. What is in
   the folder when the first process starts is durable. An inode's name has its time of birth in it: numbers come again.

   Files are read through the descriptor that is synced: to open and close one would let go of SQLite's locks on it. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[PATH_MAX], shadow[PATH_MAX];
static atomic_int drafts;

static void die(const char *what) {
    perror(what);
    abort();
}

/* The name of an inode: its number and its birth. Returns its mode, 0 where there is none. */
static int name_of(int at, const char *path, int flags, char *name, size_t size) {
    struct statx found;
    if (statx(at, path, flags | AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS | STATX_BTIME, &found)) return 0;
    snprintf(name, size, "%llu-%lld-%u", (unsigned long long)found.stx_ino, (long long)found.stx_btime.tv_sec,
             found.stx_btime.tv_nsec);
    return found.stx_mode;
}

static int draft(char *path, size_t size) {
    snprintf(path, size, "%s/draft-%d-%d", shadow, getpid(), atomic_fetch_add(&drafts, 1));
    int out = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    if (out < 0) die(path);
    return out;
}

static void place(const char *path, const char *name, const char *kind) {
    char target[PATH_MAX];
    snprintf(target, sizeof target, "%s/%s.%s", shadow, name, kind);
    if (rename(path, target)) die(target);
}

static void keep_file(int fd, const char *name) {
    char path[PATH_MAX], block[65536];
    int out = draft(path, sizeof path);
    ssize_t got;
    for (off_t at = 0; (got = pread(fd, block, sizeof block, at)) > 0; at += got)
        if (write(out, block, got) != got) die(path);
    if (got < 0) die("a file that was synced cannot be read");
    close(out);
    place(path, name, "file");
}

static void keep_folder(const char *folder, const char *name) {
    char path[PATH_MAX], inner[64];
    DIR *open_folder = opendir(folder);
    if (!open_folder) return;
    FILE *out = fdopen(draft(path, sizeof path), "w");
    for (struct dirent *entry; (entry = readdir(open_folder));) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        int mode = name_of(dirfd(open_folder), entry->d_name, 0, inner, sizeof inner);
        if (S_ISREG(mode) || S_ISDIR(mode)) fprintf(out, "%s %s %s\n", S_ISDIR(mode) ? "dir" : "file", inner, entry->d_name);
    }
    fclose(out);
    closedir(open_folder);
    place(path, name, "dir");
}

static void keep(int fd) {
    char link[64], path[PATH_MAX], name[64];
    int error = errno, mode;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length > 0) {
        path[length] = 0;
        size_t prefix = strlen(root);
        if (!strncmp(path, root, prefix) && (path[prefix] == '/' || !path[prefix])) {
            mode = name_of(fd, "", AT_EMPTY_PATH, name, sizeof name);
            if (S_ISREG(mode)) keep_file(fd, name);
            if (S_ISDIR(mode)) keep_folder(path, name);
        }
    }
    errno = error;
}

static void keep_all(const char *folder) {
    char path[PATH_MAX], name[64];
    if (!name_of(AT_FDCWD, folder, 0, name, sizeof name)) die(folder);
    keep_folder(folder, name);
    DIR *open_folder = opendir(folder);
    if (!open_folder) die(folder);
    for (struct dirent *entry; (entry = readdir(open_folder));) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        int mode = name_of(AT_FDCWD, path, 0, name, sizeof name);
        if (S_ISDIR(mode)) keep_all(path);
        if (S_ISREG(mode)) {
            int fd = open(path, O_RDONLY | O_CLOEXEC);
            if (fd < 0) die(path);
            keep_file(fd, name);
            close(fd);
        }
    }
    closedir(open_folder);
}

__attribute__((constructor)) static void begin(void) {
    char path[PATH_MAX];
    if (!getenv("POWER_ROOT") || !realpath(getenv("POWER_ROOT"), root)) die("POWER_ROOT");
    if (!getenv("POWER_SHADOW") || !realpath(getenv("POWER_SHADOW"), shadow)) die("POWER_SHADOW");
    snprintf(path, sizeof path, "%s/begun", shadow);
    if (!mkdir(path, 0700)) keep_all(root);
}

int fsync(int fd) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    keep(fd);
    return real(fd);
}

int fdatasync(int fd) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    keep(fd);
    return real(fd);
}
