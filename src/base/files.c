/* files.c: files, read at once or in pieces, and written so that a crash leaves the old file or the new one. */
#include "base_impl.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* -- the C library's files --------------------------------------------------------------------- */

static void *stdio_open(void *ud, const char *path, int write) {
  (void)ud;
  return fopen(path, write ? "wbxe" : "rbe"); /* x: a new file; e: not inherited by programs that the host starts */
}

static int64_t stdio_length(void *ud, void *file) {
  struct stat s;
  (void)ud;
  if (fstat(fileno(file), &s) != 0) return -1;
  if (S_ISREG(s.st_mode)) return (int64_t)s.st_size;
  errno = S_ISDIR(s.st_mode) ? EISDIR : ESPIPE;
  return -1;
}

static int64_t stdio_read(void *ud, void *file, int64_t offset, void *to, size_t bytes) {
  (void)ud;
  if (ftello(file) != (off_t)offset && fseeko(file, (off_t)offset, SEEK_SET) != 0) return -1;
  size_t n = fread(to, 1, bytes, file);
  return n < bytes && ferror((FILE *)file) ? -1 : (int64_t)n;
}

static int64_t stdio_write(void *ud, void *file, const void *from, size_t bytes) {
  (void)ud;
  size_t n = fwrite(from, 1, bytes, file);
  return n < bytes ? -1 : (int64_t)n;
}

static int stdio_sync(void *ud, void *file) {
  (void)ud;
  return fflush(file) != 0 ? -1 : fsync(fileno(file));
}

static int stdio_close(void *ud, void *file) {
  (void)ud;
  return fclose(file);
}

/* The directory of `path`, "." where it names none; false where it is too long. */
static bool directory_of(const char *path, char *to) {
  const char *slash = strrchr(path, '/');
  size_t n = !slash ? 0 : slash == path ? 1 : (size_t)(slash - path);
  if (n >= MX_MAX_PATH) return false;
  memcpy(to, n ? path : ".", n ? n : 1);
  to[n ? n : 1] = '\0';
  return true;
}

/* A rename is lasting once its directory is. Where directories cannot be opened or synced there is nothing to do. */
static int sync_directory_of(const char *path) {
  char directory[MX_MAX_PATH];
  int fd = directory_of(path, directory) ? open(directory, O_RDONLY | O_CLOEXEC) : -1;
  if (fd < 0) return 0;
  int failed = fsync(fd) != 0 && errno != EINVAL && errno != ENOTSUP ? errno : 0;
  close(fd);
  errno = failed;
  return failed ? -1 : 0;
}

static int stdio_rename(void *ud, const char *from, const char *to) {
  (void)ud;
  return rename(from, to) != 0 ? -1 : sync_directory_of(to);
}

static int stdio_remove(void *ud, const char *path) {
  (void)ud;
  return remove(path);
}

static int stdio_make_directory(void *ud, const char *path) {
  struct stat s;
  (void)ud;
  if (mkdir(path, 0777) == 0) return sync_directory_of(path);
  return errno == EEXIST && stat(path, &s) == 0 && S_ISDIR(s.st_mode) ? 0 : -1;
}

static int stdio_list(void *ud, const char *path, int (*each)(void *arg, const char *name), void *arg) {
  (void)ud;
  DIR *d = opendir(path);
  if (!d) return -1;
  const struct dirent *entry = NULL;
  bool going = true;
  while (going && (errno = 0, entry = readdir(d))) going = each(arg, entry->d_name) == 0;
  int failed = going ? errno : 0;
  closedir(d);
  errno = failed;
  return failed ? -1 : 0;
}

const mlax_files mx_stdio_files = {
    .size = sizeof(mlax_files),
    .open = stdio_open,
    .length = stdio_length,
    .read = stdio_read,
    .write = stdio_write,
    .sync = stdio_sync,
    .close = stdio_close,
    .rename = stdio_rename,
    .remove = stdio_remove,
    .make_directory = stdio_make_directory,
    .list = stdio_list,
};

/* -- no files ---------------------------------------------------------------------------------- */

static int refuse(void) {
  errno = EPERM;
  return -1;
}
static void *no_open(void *ud, const char *path, int write) {
  return (void)ud, (void)path, (void)write, refuse(), NULL;
}
static int64_t no_length(void *ud, void *file) { return (void)ud, (void)file, refuse(); }
static int64_t no_read(void *ud, void *file, int64_t offset, void *to, size_t bytes) {
  return (void)ud, (void)file, (void)offset, (void)to, (void)bytes, refuse();
}
static int64_t no_write(void *ud, void *file, const void *from, size_t bytes) {
  return (void)ud, (void)file, (void)from, (void)bytes, refuse();
}
static int no_file(void *ud, void *file) { return (void)ud, (void)file, refuse(); }
static int no_rename(void *ud, const char *from, const char *to) { return (void)ud, (void)from, (void)to, refuse(); }
static int no_path(void *ud, const char *path) { return (void)ud, (void)path, refuse(); }
static int no_list(void *ud, const char *path, int (*each)(void *arg, const char *name), void *arg) {
  return (void)ud, (void)path, (void)each, (void)arg, refuse();
}

const mlax_files *mlax_no_files(void) {
  static const mlax_files none = {sizeof(mlax_files), NULL,    no_open, no_length, no_read, no_write, no_file, no_file,
                                  no_rename,          no_path, no_path, no_list};
  return &none;
}

/* -- reading ----------------------------------------------------------------------------------- */

static void *fail_file(mx_ctx *c, const char *what, const char *path) {
  int error = errno;
  return mx_fail(c, MLAX_IO, "cannot %s '%s': %s", what, path, error ? strerror(error) : "unknown error");
}

bool mx_file_open(mx_ctx *c, mx_file *file, const char *path) {
  const mlax_files *f = c->engine->files;
  *file = (mx_file){NULL, path, 0};
  errno = 0;
  void *handle = f->open(f->ud, path, 0);
  if (!handle) return fail_file(c, "open", path);
  int64_t length = f->length(f->ud, handle);
  file->handle = handle;
  if (length >= 0 && (uint64_t)length < SIZE_MAX) {
    file->size = (size_t)length;
    return true;
  }
  fail_file(c, "read", path);
  mx_file_close(c->engine, file);
  return false;
}

void mx_file_close(mlax_engine *e, mx_file *file) {
  if (file->handle) e->files->close(e->files->ud, file->handle);
  file->handle = NULL;
}

bool mx_file_read_at(mx_ctx *c, const mx_file *file, size_t offset, void *to, size_t bytes) {
  const mlax_files *f = c->engine->files;
  for (size_t have = 0; have < bytes;) {
    int64_t n = f->read(f->ud, file->handle, (int64_t)(offset + have), (char *)to + have, bytes - have);
    if (n < 0) return fail_file(c, "read", file->path);
    if (n == 0 || (size_t)n > bytes - have)
      return mx_fail(c, MLAX_IO, "cannot read '%s': it became shorter meanwhile", file->path);
    have += (size_t)n;
  }
  return true;
}

/* All bytes of an open file and a final zero. */
static char *read_all(mx_ctx *c, const mx_file *file, size_t limit) {
  if (limit && file->size > limit)
    return mx_fail(c, MLAX_IO, "cannot read '%s': it has %zu bytes (at most %zu are allowed)", file->path, file->size,
                   limit);
  char *data = mx_new_raw(c, file->size + 1);
  if (!data) return NULL;
  data[file->size] = '\0';
  if (mx_file_read_at(c, file, 0, data, file->size)) return data;
  mx_free(c->engine, data, file->size + 1);
  return NULL;
}

void *mx_file_read(mx_ctx *c, const char *path, size_t limit, size_t *bytes) {
  mx_file file;
  *bytes = 0;
  if (!mx_file_open(c, &file, path)) return NULL;
  void *data = read_all(c, &file, limit);
  mx_file_close(c->engine, &file);
  if (data) *bytes = file.size;
  return data;
}

/* -- writing ----------------------------------------------------------------------------------- */

/* A name beside `path` that no other writer uses. */
static bool temporary_name(char *to, const char *path) {
  static atomic_uint count;
  unsigned n = atomic_fetch_add(&count, 1);
  return snprintf(to, MX_MAX_PATH, "%s.%lx-%x.tmp", path, (unsigned long)mx_process(), n) < MX_MAX_PATH;
}

bool mx_writer_open(mx_ctx *c, mx_writer *w, const char *path) {
  enum { TRIES = 100 }; /* a process of the same number may have died and left its files */
  const mlax_files *f = c->engine->files;
  *w = (mx_writer){.path = path};
  for (int i = 0; !w->handle && i < TRIES; i++) {
    if (!temporary_name(w->temporary, path))
      return mx_fail(c, MLAX_IO, "cannot write '%.100s...': the path is too long", path);
    errno = 0;
    w->handle = f->open(f->ud, w->temporary, 1);
    if (!w->handle && errno != EEXIST) break;
  }
  return w->handle || fail_file(c, "write", path);
}

bool mx_writer_add(mx_ctx *c, mx_writer *w, const void *data, size_t bytes) {
  const mlax_files *f = c->engine->files;
  errno = 0;
  for (const char *from = data; bytes;) {
    int64_t n = f->write(f->ud, w->handle, from, bytes);
    if (n <= 0 || (size_t)n > bytes) return fail_file(c, "write", w->path);
    from += n;
    bytes -= (size_t)n;
    w->written += (size_t)n;
  }
  return true;
}

/* Closes what is open; errno tells the first thing that went wrong. */
static bool sync_and_close(const mlax_files *f, mx_writer *w) {
  bool synced = f->sync(f->ud, w->handle) == 0;
  int error = errno;
  bool closed = f->close(f->ud, w->handle) == 0;
  w->handle = NULL;
  if (!synced) errno = error;
  return synced && closed;
}

bool mx_writer_commit(mx_ctx *c, mx_writer *w) {
  const mlax_files *f = c->engine->files;
  errno = 0;
  if (sync_and_close(f, w) && f->rename(f->ud, w->temporary, w->path) == 0) return true;
  fail_file(c, "write", w->path);
  f->remove(f->ud, w->temporary);
  return false;
}

void mx_writer_discard(mlax_engine *e, mx_writer *w) {
  if (!w->handle) return;
  e->files->close(e->files->ud, w->handle);
  e->files->remove(e->files->ud, w->temporary);
  w->handle = NULL;
}

bool mx_file_write(mx_ctx *c, const char *path, const void *data, size_t bytes) {
  mx_writer w;
  if (!mx_writer_open(c, &w, path)) return false;
  if (mx_writer_add(c, &w, data, bytes)) return mx_writer_commit(c, &w);
  mx_writer_discard(c->engine, &w);
  return false;
}

/* -- directories and names --------------------------------------------------------------------- */

bool mx_file_remove(mx_ctx *c, const char *path) {
  const mlax_files *f = c->engine->files;
  errno = 0;
  return f->remove(f->ud, path) == 0 || errno == ENOENT || fail_file(c, "remove", path);
}

/* A host's table may be older than the functions at its end. */
static bool has_directories(mx_ctx *c, const char *path) {
  const mlax_files *f = c->engine->files;
  if (f->size >= sizeof *f && f->make_directory && f->list) return true;
  return mx_fail(c, MLAX_IO, "cannot open '%s': the host's files have no directories", path);
}

bool mx_directory_make(mx_ctx *c, const char *path) {
  const mlax_files *f = c->engine->files;
  errno = 0;
  return has_directories(c, path) && (f->make_directory(f->ud, path) == 0 || fail_file(c, "make the directory", path));
}

bool mx_directory_list(mx_ctx *c, const char *path, int (*each)(void *arg, const char *name), void *arg) {
  const mlax_files *f = c->engine->files;
  errno = 0;
  return has_directories(c, path) && (f->list(f->ud, path, each, arg) == 0 || fail_file(c, "read the directory", path));
}
