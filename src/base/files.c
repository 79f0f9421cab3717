/* files.c: whole files, read at once and written so that a crash leaves the old file or the new one. */
#include "base_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_PATH = 4096 };

/* -- the C library's files --------------------------------------------------------------------- */

static void *stdio_open(void *ud, const char *path, int write) {
  (void)ud;
  return fopen(path, write ? "wbe" : "rbe"); /* e: not inherited by programs that the host starts */
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

/* A rename is lasting once its directory is. Where directories cannot be synced there is nothing to do. */
static void sync_directory_of(const char *path) {
  char directory[MAX_PATH];
  const char *slash = strrchr(path, '/');
  size_t n = slash ? (size_t)(slash - path) : 0;
  if (n >= sizeof directory) return;
  memcpy(directory, path, n);
  directory[n] = '\0';
  int fd = open(n ? directory : slash ? "/" : ".", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  fsync(fd);
  close(fd);
}

static int stdio_rename(void *ud, const char *from, const char *to) {
  (void)ud;
  if (rename(from, to) != 0) return -1;
  sync_directory_of(to);
  return 0;
}

static int stdio_remove(void *ud, const char *path) {
  (void)ud;
  return remove(path);
}

const mlax_files mx_stdio_files = {sizeof(mlax_files), NULL,       stdio_open,  stdio_length, stdio_read,
                                   stdio_write,        stdio_sync, stdio_close, stdio_rename, stdio_remove};

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
static int no_remove(void *ud, const char *path) { return (void)ud, (void)path, refuse(); }

const mlax_files *mlax_no_files(void) {
  static const mlax_files none = {sizeof(mlax_files), NULL,    no_open, no_length, no_read,
                                  no_write,           no_file, no_file, no_rename, no_remove};
  return &none;
}

/* -- reading ----------------------------------------------------------------------------------- */

static void *fail_file(mx_ctx *c, const char *what, const char *path) {
  int error = errno;
  return mx_fail(c, MLAX_IO, "cannot %s '%s': %s", what, path, error ? strerror(error) : "unknown error");
}

/* All `bytes` of an open file and a final zero. */
static char *read_bytes(mx_ctx *c, void *file, const char *path, size_t bytes) {
  const mlax_files *f = c->engine->files;
  char *data = mx_new_raw(c, bytes + 1);
  if (!data) return NULL;
  data[bytes] = '\0';
  for (size_t have = 0; have < bytes;) {
    int64_t n = f->read(f->ud, file, (int64_t)have, data + have, bytes - have);
    if (n <= 0 || (size_t)n > bytes - have) {
      if (n < 0) fail_file(c, "read", path);
      else mx_fail(c, MLAX_IO, "cannot read '%s': it became shorter meanwhile", path);
      mx_free(c->engine, data, bytes + 1);
      return NULL;
    }
    have += (size_t)n;
  }
  return data;
}

static void *read_open(mx_ctx *c, void *file, const char *path, size_t limit, size_t *bytes) {
  const mlax_files *f = c->engine->files;
  int64_t length = f->length(f->ud, file);
  if (length < 0) return fail_file(c, "read", path);
  if (limit && (uint64_t)length > limit)
    return mx_fail(c, MLAX_IO, "cannot read '%s': it has %lld bytes (at most %zu are allowed)", path, (long long)length,
                   limit);
  *bytes = (size_t)length;
  return read_bytes(c, file, path, *bytes);
}

void *mx_file_read(mx_ctx *c, const char *path, size_t limit, size_t *bytes) {
  const mlax_files *f = c->engine->files;
  *bytes = 0;
  errno = 0;
  void *file = f->open(f->ud, path, 0);
  if (!file) return fail_file(c, "open", path);
  void *data = read_open(c, file, path, limit, bytes);
  f->close(f->ud, file);
  if (!data) *bytes = 0;
  return data;
}

/* -- writing ----------------------------------------------------------------------------------- */

/* A name beside `path` that no other writer uses. */
static bool temporary_name(char *to, const char *path) {
  static atomic_uint count;
  unsigned n = atomic_fetch_add(&count, 1);
  return snprintf(to, MAX_PATH, "%s.%lx-%x.tmp", path, (unsigned long)mx_process(), n) < MAX_PATH;
}

static bool write_bytes(const mlax_files *f, void *file, const char *data, size_t bytes) {
  while (bytes) {
    int64_t n = f->write(f->ud, file, data, bytes);
    if (n <= 0 || (size_t)n > bytes) return false;
    data += n;
    bytes -= (size_t)n;
  }
  return true;
}

/* Writes, syncs and closes; the file is closed on failure too, and errno tells the first thing that went wrong. */
static bool write_and_close(const mlax_files *f, void *file, const void *data, size_t bytes) {
  bool ok = write_bytes(f, file, data, bytes) && f->sync(f->ud, file) == 0;
  int error = errno;
  bool closed = f->close(f->ud, file) == 0;
  if (!ok) errno = error;
  return ok && closed;
}

bool mx_file_write(mx_ctx *c, const char *path, const void *data, size_t bytes) {
  const mlax_files *f = c->engine->files;
  char temporary[MAX_PATH];
  if (!temporary_name(temporary, path))
    return mx_fail(c, MLAX_IO, "cannot write '%.100s...': the path is too long", path);
  errno = 0;
  void *file = f->open(f->ud, temporary, 1);
  if (!file) return fail_file(c, "write", path);
  if (write_and_close(f, file, data, bytes) && f->rename(f->ud, temporary, path) == 0) return true;
  fail_file(c, "write", path);
  f->remove(f->ud, temporary);
  return false;
}
