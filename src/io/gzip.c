/* gzip.c: inflation under a budget, and deflation. zlib allocates through the engine, so that limits and failures reach
 * it. */
#include "io_impl.h"

#include <limits.h>
#include <zlib.h>

enum { HEAD = 16, FIRST = 1 << 14 };

/* zlib does not tell sizes when it frees: they stand before the block. */
static voidpf zlib_alloc(voidpf ud, uInt items, uInt size) {
  size_t bytes;
  if (!mx_mul_size(items, size, &bytes) || !mx_add_size(bytes, HEAD, &bytes)) return Z_NULL;
  char *p = mx_alloc(ud, bytes);
  if (!p) return Z_NULL;
  memcpy(p, &bytes, sizeof bytes);
  return p + HEAD;
}

static void zlib_free(voidpf ud, voidpf p) {
  if (!p) return;
  size_t bytes;
  char *block = (char *)p - HEAD;
  memcpy(&bytes, block, sizeof bytes);
  mx_free(ud, block, bytes);
}

void mx_bytes_free(mlax_engine *e, mx_bytes *b) {
  mx_free(e, b->data, b->capacity);
  *b = (mx_bytes){NULL, 0, 0};
}

bool mx_is_gzip(const void *bytes, size_t size) {
  const unsigned char *p = bytes;
  return size >= 2 && p[0] == 0x1f && p[1] == 0x8b;
}

/* Doubles the room, up to limit + 1 (the byte too many shows that there is more) and the final zero. */
static bool bytes_grow(mx_ctx *c, mx_bytes *b, size_t limit) {
  size_t most = limit <= SIZE_MAX - 2 ? limit + 2 : SIZE_MAX;
  size_t room = b->capacity ? b->capacity : FIRST / 2;
  room = room > most / 2 ? most : room * 2;
  char *p = mx_realloc(c->engine, b->data, b->capacity, room);
  if (!p) return mx_fail_memory(c, room), false;
  b->data = p;
  b->capacity = room;
  return true;
}

static bool fail_at(mx_ctx *c, const char *name, size_t offset, const char *what) {
  mx_fail(c, MLAX_FORMAT, "%s: %s (at byte %zu)", name, what, offset);
  return false;
}

typedef struct inflation {
  z_stream z;
  const char *name;
  const unsigned char *from;
  size_t size, used; /* of the input */
  size_t limit;
} inflation;

/* One call of inflate over what input and room there are; zlib counts in 32 bits. */
static int inflate_step(inflation *f, mx_bytes *out) {
  size_t in = f->size - f->used, room = out->capacity - 1 - out->size;
  uInt in_now = in > UINT_MAX ? UINT_MAX : (uInt)in, room_now = room > UINT_MAX ? UINT_MAX : (uInt)room;
  f->z.next_in = (z_const Bytef *)(f->from + f->used);
  f->z.avail_in = in_now;
  f->z.next_out = (Bytef *)out->data + out->size;
  f->z.avail_out = room_now;
  int status = inflate(&f->z, Z_NO_FLUSH);
  f->used += in_now - f->z.avail_in;
  out->size += room_now - f->z.avail_out;
  return status;
}

/* Inflates one member; the stream stands at its start. */
static bool inflate_member(mx_ctx *c, inflation *f, mx_bytes *out) {
  for (;;) {
    if (!mx_poll(c)) return false;
    if (out->capacity < 2 || out->size == out->capacity - 1)
      if (!bytes_grow(c, out, f->limit)) return false;
    int status = inflate_step(f, out);
    if (out->size > f->limit) {
      mx_fail(c, MLAX_FORMAT, "%s: the compressed data hold more than the %zu bytes allowed", f->name, f->limit);
      return false;
    }
    if (status == Z_STREAM_END) return true;
    if (status == Z_MEM_ERROR) return mx_fail_memory(c, (size_t)1 << 15), false;
    if (status == Z_BUF_ERROR || (status == Z_OK && f->used == f->size && out->size < out->capacity - 1))
      return fail_at(c, f->name, f->used, "the compressed data end too early");
    if (status != Z_OK) return fail_at(c, f->name, f->used, "the compressed data are damaged");
  }
}

static bool inflate_members(mx_ctx *c, inflation *f, mx_bytes *out) {
  do {
    if (!mx_is_gzip(f->from + f->used, f->size - f->used))
      return fail_at(c, f->name, f->used, "bytes follow that are no gzip data");
    if (inflateReset(&f->z) != Z_OK) return fail_at(c, f->name, f->used, "the compressed data are damaged");
    if (!inflate_member(c, f, out)) return false;
  } while (f->used < f->size);
  out->data[out->size] = 0;
  return true;
}

enum { GZIP_ONLY = 15 + 16, RAW = -15 }; /* zlib's window bits */

static void zlib_prepare(mx_ctx *c, z_stream *z) {
  z->zalloc = zlib_alloc;
  z->zfree = zlib_free;
  z->opaque = c->engine;
}

static bool inflate_open(mx_ctx *c, inflation *f, int bits) {
  zlib_prepare(c, &f->z);
  if (inflateInit2(&f->z, bits) == Z_OK) return true;
  mx_fail_memory(c, sizeof f->z);
  return false;
}

bool mx_inflate(mx_ctx *c, const char *name, const void *bytes, size_t size, size_t limit, mx_bytes *out) {
  inflation f = {.name = name, .from = bytes, .size = size, .limit = limit};
  *out = (mx_bytes){NULL, 0, 0};
  if (!inflate_open(c, &f, GZIP_ONLY)) return false;
  bool ok = inflate_members(c, &f, out);
  inflateEnd(&f.z);
  if (!ok) mx_bytes_free(c->engine, out);
  return ok;
}

bool mx_inflate_start(mx_ctx *c, const char *name, const void *bytes, size_t size, void *to, size_t *n) {
  inflation f = {.name = name, .from = bytes, .size = size};
  mx_bytes out = {to, 0, *n + 1}; /* a step keeps the last byte free for the zero, which is not written here */
  if (!inflate_open(c, &f, GZIP_ONLY)) return false;
  int status = inflate_step(&f, &out);
  inflateEnd(&f.z);
  *n = out.size;
  if (status == Z_MEM_ERROR) return mx_fail_memory(c, (size_t)1 << 15), false;
  return status == Z_OK || status == Z_STREAM_END || status == Z_BUF_ERROR ||
         fail_at(c, name, f.used, "the compressed data are damaged");
}

bool mx_inflate_raw(mx_ctx *c, const char *name, const void *bytes, size_t size, size_t expected, mx_bytes *out) {
  inflation f = {.name = name, .from = bytes, .size = size, .limit = expected};
  *out = (mx_bytes){NULL, 0, 0};
  if (!inflate_open(c, &f, RAW)) return false;
  bool ok = inflate_member(c, &f, out);
  inflateEnd(&f.z);
  if (ok && (f.used < size || out->size < expected))
    ok = fail_at(c, name, f.used, "the compressed data hold another number of bytes than the archive says");
  if (!ok) mx_bytes_free(c->engine, out);
  else out->data[out->size] = 0;
  return ok;
}

/* Runs deflate over the input that the stream has, in a window of the output at a time. */
static bool deflate_run(mx_ctx *c, z_stream *z, int flush, mx_bytes *out) {
  enum { WINDOW = 1 << 14 };
  unsigned char window[WINDOW];
  do {
    z->next_out = window;
    z->avail_out = WINDOW;
    deflate(z, flush); /* Z_BUF_ERROR: nothing to do */
    if (!mx_poll(c) || !mx_bytes_add(c, out, window, WINDOW - z->avail_out)) return false;
  } while (z->avail_out == 0);
  return true;
}

static bool deflate_part(mx_ctx *c, z_stream *z, mx_span part, mx_bytes *out) {
  enum { MOST = 1 << 20 };
  for (size_t at = 0; at < part.size;) {
    size_t n = part.size - at < MOST ? part.size - at : MOST;
    z->next_in = (z_const Bytef *)(uintptr_t)(part.data + at);
    z->avail_in = (uInt)n;
    if (!deflate_run(c, z, Z_NO_FLUSH, out)) return false;
    at += n;
  }
  return true;
}

bool mx_deflate_raw(mx_ctx *c, const mx_span *parts, int n, mx_bytes *out) {
  enum { MEMORY = 8 };
  z_stream z = {0};
  zlib_prepare(c, &z);
  if (deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, RAW, MEMORY, Z_DEFAULT_STRATEGY) != Z_OK)
    return mx_fail_memory(c, sizeof z), false;
  bool ok = true;
  for (int i = 0; ok && i < n; i++) ok = deflate_part(c, &z, parts[i], out);
  ok = ok && deflate_run(c, &z, Z_FINISH, out);
  deflateEnd(&z);
  return ok;
}

bool mx_bytes_of(mx_ctx *c, const char *name, const void *bytes, size_t size, size_t limit, mx_bytes *out) {
  if (mx_is_gzip(bytes, size)) return mx_inflate(c, name, bytes, size, limit, out);
  *out = (mx_bytes){mx_alloc(c->engine, size + 1), size, size + 1};
  if (!out->data) {
    *out = (mx_bytes){NULL, 0, 0};
    return mx_fail_memory(c, size + 1), false;
  }
  if (size) memcpy(out->data, bytes, size);
  out->data[size] = 0;
  return true;
}

bool mx_bytes_read(mx_ctx *c, const char *path, size_t limit, mx_bytes *out) {
  mx_bytes file = {NULL, 0, 0};
  *out = file;
  file.data = mx_file_read(c, path, 0, &file.size);
  if (!file.data) return false;
  file.capacity = file.size + 1;
  if (!mx_is_gzip(file.data, file.size)) {
    *out = file;
    return true;
  }
  bool ok = mx_inflate(c, path, file.data, file.size, limit, out);
  mx_bytes_free(c->engine, &file);
  return ok;
}
