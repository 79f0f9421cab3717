/* zip.c: zip archives of plain and deflated entries.
 *
 *     local header, bytes   local header, bytes   ...   central directory   [zip64 end, its locator]   end
 *
 * The central directory counts; local headers must say the same. Every archive that we write is zip64, so that there is
 * one form for small and for large ones. */
#include "io_impl.h"

#include <stdlib.h>
#include <zlib.h>

enum { LOCAL = 30, CENTRAL = 46, END = 22, END64 = 56, LOCATOR = 20, COMMENT = 65535 };
enum { LOCAL_SIGN = 0x04034b50, CENTRAL_SIGN = 0x02014b50, END_SIGN = 0x06054b50 };
enum { END64_SIGN = 0x06064b50, LOCATOR_SIGN = 0x07064b50, EXTRA64 = 1 };
enum { STORED = 0, DEFLATED = 8, VERSION = 45, UTF8 = 0x0800, SIZES_FOLLOW = 0x0008, KNOWN_FLAGS = 0x080e };
#define FULL32         UINT32_MAX /* the number stands in the zip64 extra field */
#define MOST_DIRECTORY ((size_t)100000000)

static uint32_t get16(const char *p) { return (uint32_t)(unsigned char)p[0] | (uint32_t)(unsigned char)p[1] << 8; }
static uint32_t get32(const char *p) { return get16(p) | get16(p + 2) << 16; }
static uint64_t get64(const char *p) { return get32(p) | (uint64_t)get32(p + 4) << 32; }

static void *fail_zip(mx_ctx *c, const mx_source *s, const char *what) {
  return mx_fail(c, MLAX_FORMAT, "%s: this is no sound zip archive: %s", s->name, what);
}

static bool fail_entry(mx_ctx *c, const mx_source *s, const mx_entry *e, const char *what) {
  int shown = e->name.size > 100 ? 100 : (int)e->name.size;
  mx_fail(c, MLAX_FORMAT, "%s: '%.*s': %s", s->name, shown, e->name.data, what);
  return false;
}

/* -- the end of the archive ---------------------------------------------------------------------------------------- */

typedef struct directory {
  uint64_t entries, size, start;
  size_t behind; /* where what follows the directory begins */
} directory;

/* The numbers of the zip64 end, which the locator before the end points at. */
static bool end64_read(mx_ctx *c, const mx_source *s, size_t end, directory *d) {
  char locator[LOCATOR], p[END64];
  if (end < LOCATOR || !mx_source_read(c, s, end - LOCATOR, locator, LOCATOR))
    return mx_failed(c) ? false : fail_zip(c, s, "its zip64 end is missing");
  uint64_t at = get64(locator + 8);
  if (get32(locator) != LOCATOR_SIGN || at > end - LOCATOR || end - LOCATOR - at < END64)
    return fail_zip(c, s, "its zip64 end is missing");
  if (!mx_source_read(c, s, (size_t)at, p, END64)) return false;
  if (get32(p) != END64_SIGN || get32(p + 16) || get32(p + 20) || get64(p + 24) != get64(p + 32))
    return fail_zip(c, s, "its zip64 end is damaged, or it has several parts");
  *d = (directory){get64(p + 32), get64(p + 40), get64(p + 48), (size_t)at};
  return true;
}

static bool end_read(mx_ctx *c, const mx_source *s, const char *p, size_t at, directory *d) {
  *d = (directory){get16(p + 10), get32(p + 12), get32(p + 16), at};
  if (get16(p + 4) || get16(p + 6) || get16(p + 8) != get16(p + 10)) return fail_zip(c, s, "it has several parts");
  if ((d->entries == 0xffff || d->size == FULL32 || d->start == FULL32) && !end64_read(c, s, at, d)) return false;
  if (d->start > d->behind || d->behind - d->start != d->size)
    return fail_zip(c, s, "its central directory does not lie before its end");
  if (d->size > MOST_DIRECTORY) return fail_zip(c, s, "its central directory is too large");
  return true;
}

/* The end stands last, before a comment that fills the rest. */
static bool end_find(mx_ctx *c, const mx_source *s, directory *d) {
  size_t n = s->size < END + COMMENT ? s->size : END + COMMENT;
  mx_bytes b;
  bool ok = false;
  if (n < END) return fail_zip(c, s, "it is too short");
  if (!mx_source_bytes(c, s, s->size - n, n, &b)) return false;
  const char *found = NULL;
  for (size_t i = n - END + 1; !found && i-- > 0;)
    if (get32(b.data + i) == END_SIGN && get16(b.data + i + 20) == n - END - i) found = b.data + i;
  if (!found) fail_zip(c, s, "its end is missing");
  else ok = end_read(c, s, found, s->size - n + (size_t)(found - b.data), d);
  mx_bytes_free(c->engine, &b);
  return ok;
}

/* -- entries ------------------------------------------------------------------------------------------------------- */

/* What a header says, with the numbers of its zip64 field in their place. */
typedef struct header {
  uint32_t flags, method, crc;
  uint64_t packed, size, offset;
} header;

/* Replaces the numbers that are FULL32 by those of the zip64 field, in their order. False where one is missing. */
static bool extra_read(header *h, const char *extra, size_t size) {
  uint64_t *want[3];
  int n = 0;
  if (h->size == FULL32) want[n++] = &h->size;
  if (h->packed == FULL32) want[n++] = &h->packed;
  if (h->offset == FULL32) want[n++] = &h->offset;
  for (size_t at = 0; n && size - at >= 4;) {
    size_t length = get16(extra + at + 2);
    if (length > size - at - 4) return false;
    if (get16(extra + at) == EXTRA64) {
      if (length < 8 * (size_t)n) return false;
      for (int i = 0; i < n; i++) *want[i] = get64(extra + at + 4 + 8 * i);
      return true;
    }
    at += 4 + length;
  }
  return n == 0;
}

/* A name that could be no file of its own kind is a sign of mischief, though nothing is ever unpacked. */
static bool name_is_sound(mx_span name) {
  if (!name.size || name.data[0] == '/' || memchr(name.data, 0, name.size) || memchr(name.data, '\\', name.size))
    return false;
  for (size_t i = 0; i < name.size;) {
    const char *slash = memchr(name.data + i, '/', name.size - i);
    size_t n = slash ? (size_t)(slash - name.data) - i : name.size - i;
    if (n == 2 && !memcmp(name.data + i, "..", 2)) return false;
    i += n + 1;
  }
  return true;
}

static bool header_check(mx_ctx *c, const mx_source *s, const mx_entry *e, const header *h) {
  if (h->flags & ~(uint32_t)KNOWN_FLAGS) return fail_entry(c, s, e, "it is encrypted, or of a kind that is not read");
  if (h->method != STORED && h->method != DEFLATED)
    return fail_entry(c, s, e, "its compression is not read (need stored or deflated)");
  if (h->method == STORED && h->packed != h->size) return fail_entry(c, s, e, "it has two sizes");
  return true;
}

/* The local header must repeat the central one; the bytes lie behind it. */
static bool local_read(mx_ctx *c, const mx_source *s, const directory *d, const header *central, mx_entry *e) {
  char p[LOCAL];
  mx_bytes b;
  if (central->offset > d->start || d->start - central->offset < LOCAL)
    return fail_entry(c, s, e, "its place is outside the archive");
  size_t at = (size_t)central->offset;
  if (!mx_source_read(c, s, at, p, LOCAL)) return false;
  size_t name = get16(p + 26), extra = get16(p + 28);
  if (d->start - at - LOCAL < name + extra || central->packed > d->start - at - LOCAL - name - extra)
    return fail_entry(c, s, e, "its place is outside the archive");
  if (!mx_source_bytes(c, s, at + LOCAL, name + extra, &b)) return false;
  header h = {get16(p + 6), get16(p + 8), get32(p + 14), get32(p + 18), get32(p + 22), 0};
  bool follow = (h.flags & SIZES_FOLLOW) && !h.crc;
  bool same = get32(p) == LOCAL_SIGN && extra_read(&h, b.data + name, extra) && h.flags == central->flags &&
              h.method == central->method && name == e->name.size && !memcmp(b.data, e->name.data, name) &&
              (follow || (h.crc == central->crc && h.packed == central->packed && h.size == central->size));
  mx_bytes_free(c->engine, &b);
  if (!same) return fail_entry(c, s, e, "its two headers disagree");
  e->start = at + LOCAL + name + extra;
  return true;
}

/* One header of the central directory; its length, 0 with the error recorded. */
static size_t central_read(mx_ctx *c, const mx_source *s, const directory *d, mx_table *t, size_t at) {
  const char *p = t->text.data + at;
  size_t room = t->text.size - at;
  if (room < CENTRAL || get32(p) != CENTRAL_SIGN) return fail_zip(c, s, "its central directory is damaged"), 0;
  size_t name = get16(p + 28), extra = get16(p + 30), comment = get16(p + 32),
         length = CENTRAL + name + extra + comment;
  if (room < length) return fail_zip(c, s, "its central directory is damaged"), 0;
  mx_entry *e = mx_table_add(c, s->name, t);
  if (!e) return 0;
  header h = {get16(p + 8), get16(p + 10), get32(p + 16), get32(p + 20), get32(p + 24), get32(p + 42)};
  e->name = (mx_span){p + CENTRAL, name};
  if (!name_is_sound(e->name) || !mx_is_utf8(e->name.data, name))
    return fail_zip(c, s, "an entry has no sound name"), 0;
  if (!extra_read(&h, p + CENTRAL + name, extra)) return fail_zip(c, s, "a zip64 field is damaged"), 0;
  if (!header_check(c, s, e, &h) || !local_read(c, s, d, &h, e)) return 0;
  e->size = (size_t)h.packed;
  e->inflated = (size_t)h.size;
  e->crc = h.crc;
  e->is_deflated = h.method == DEFLATED;
  return length;
}

/* Names end in what follows them in the directory: a zero goes there once all is read. */
static void names_end(mx_table *t) {
  for (int i = 0; i < t->n; i++) ((char *)(uintptr_t)t->entries[i].name.data)[t->entries[i].name.size] = 0;
}

static bool entries_read(mx_ctx *c, const mx_source *s, const directory *d, mx_table *t) {
  size_t at = 0, length, total = 0;
  for (; at < t->text.size; at += length) {
    if (!mx_poll(c) || !(length = central_read(c, s, d, t, at))) return false;
    const mx_entry *e = &t->entries[t->n - 1];
    if (!mx_add_size(total, e->is_deflated ? e->inflated : 0, &total) || total > MX_INFLATE_LIMIT)
      return fail_zip(c, s, "its entries would grow to more than 4 GiB");
  }
  if ((uint64_t)t->n != d->entries) return fail_zip(c, s, "its central directory has another number of entries");
  names_end(t);
  return true;
}

bool mx_zip_open(mx_ctx *c, const mx_source *s, mx_table *t) {
  directory d = {0};
  *t = (mx_table){0};
  if (end_find(c, s, &d) && mx_source_bytes(c, s, (size_t)d.start, (size_t)d.size, &t->text) &&
      entries_read(c, s, &d, t) && mx_table_settle(c, s->name, t))
    return true;
  mx_table_free(c->engine, t);
  return false;
}

bool mx_zip_read(mx_ctx *c, const mx_source *s, const mx_entry *e, mx_bytes *out) {
  mx_bytes b;
  if (!mx_source_bytes(c, s, e->start, e->size, &b)) return false;
  *out = b;
  if (e->is_deflated) {
    bool ok = mx_inflate_raw(c, s->name, b.data, b.size, e->inflated, out);
    mx_bytes_free(c->engine, &b);
    if (!ok) return false;
  }
  if (crc32_z(0, (const Bytef *)out->data, out->size) == e->crc) return true;
  mx_bytes_free(c->engine, out);
  return fail_entry(c, s, e, "its bytes are damaged (the checksum differs)");
}

/* -- writing ------------------------------------------------------------------------------------------------------- */

/* Writes numbers behind one another. */
static void put(char **to, uint64_t v, int bytes) {
  for (int i = 0; i < bytes; i++, v >>= 8) *(*to)++ = (char)v;
}

static void put_common(char **to, const mx_entry *e, size_t name) { /* what local and central headers share */
  put(to, UTF8, 2);
  put(to, e->is_deflated ? DEFLATED : STORED, 2);
  put(to, 0, 2);
  put(to, 0x21, 2); /* the first of January 1980: equal arrays make equal files */
  put(to, e->crc, 4);
  put(to, FULL32, 4);
  put(to, FULL32, 4);
  put(to, name, 2);
}

bool mx_zip_begin(mx_ctx *c, mx_zip_writer *z, const char *path) {
  z->directory = (mx_bytes){NULL, 0, 0};
  z->entries = 0;
  return mx_writer_open(c, &z->w, path);
}

static bool local_write(mx_ctx *c, mx_zip_writer *z, const mx_entry *e, const char *suffix) {
  enum { EXTRA = 20 };
  char p[LOCAL + EXTRA], *to = p, *extra = p + LOCAL;
  put(&to, LOCAL_SIGN, 4);
  put(&to, VERSION, 2);
  put_common(&to, e, e->name.size + strlen(suffix));
  put(&to, EXTRA, 2);
  put(&extra, EXTRA64, 2);
  put(&extra, EXTRA - 4, 2);
  put(&extra, e->inflated, 8);
  put(&extra, e->size, 8);
  return mx_writer_add(c, &z->w, p, LOCAL) && mx_writer_add(c, &z->w, e->name.data, e->name.size) &&
         mx_writer_add(c, &z->w, suffix, strlen(suffix)) && mx_writer_add(c, &z->w, p + LOCAL, EXTRA);
}

static bool central_write(mx_ctx *c, mx_zip_writer *z, const mx_entry *e, const char *suffix) {
  enum { EXTRA = 28 };
  char p[CENTRAL + EXTRA], *to = p, *extra = p + CENTRAL;
  put(&to, CENTRAL_SIGN, 4);
  put(&to, VERSION, 2);
  put(&to, VERSION, 2);
  put_common(&to, e, e->name.size + strlen(suffix));
  put(&to, EXTRA, 2);
  put(&to, 0, 2 + 2 + 2 + 4); /* comment, part, attributes */
  put(&to, FULL32, 4);
  put(&extra, EXTRA64, 2);
  put(&extra, EXTRA - 4, 2);
  put(&extra, e->inflated, 8);
  put(&extra, e->size, 8);
  put(&extra, e->start, 8); /* of the local header */
  mx_bytes *d = &z->directory;
  return mx_bytes_add(c, d, p, CENTRAL) && mx_bytes_add(c, d, e->name.data, e->name.size) &&
         mx_bytes_add(c, d, suffix, strlen(suffix)) && mx_bytes_add(c, d, p + CENTRAL, EXTRA);
}

static bool entry_write(mx_ctx *c, mx_zip_writer *z, const mx_entry *e, const char *suffix, const mx_span *parts,
                        int n) {
  bool ok = local_write(c, z, e, suffix);
  for (int i = 0; ok && i < n; i++) ok = mx_writer_add(c, &z->w, parts[i].data, parts[i].size);
  z->entries++;
  return ok && central_write(c, z, e, suffix);
}

bool mx_zip_add(mx_ctx *c, mx_zip_writer *z, mx_span name, const char *suffix, const mx_span *parts, int n,
                bool deflate) {
  mx_entry e = {.name = name, .start = z->w.written, .is_deflated = deflate};
  if (name.size + strlen(suffix) > UINT16_MAX || !name_is_sound(name))
    return mx_fail(c, MLAX_ARGUMENT, "an array's name cannot be one of a zip entry (got '%.100s')", name.data);
  for (int i = 0; i < n; i++) {
    e.crc = (uint32_t)crc32_z(e.crc, (const Bytef *)parts[i].data, parts[i].size);
    if (!mx_add_size(e.inflated, parts[i].size, &e.inflated)) return mx_fail_memory(c, SIZE_MAX), false;
  }
  e.size = e.inflated;
  if (!deflate) return entry_write(c, z, &e, suffix, parts, n);
  mx_bytes packed = {NULL, 0, 0};
  bool ok = mx_deflate_raw(c, parts, n, &packed);
  e.size = packed.size;
  ok = ok && entry_write(c, z, &e, suffix, &(mx_span){packed.data, packed.size}, 1);
  mx_bytes_free(c->engine, &packed);
  return ok;
}

static bool end_write(mx_ctx *c, mx_zip_writer *z) {
  char p[END64 + LOCATOR + END], *to = p;
  uint64_t start = z->w.written;
  if (!mx_writer_add(c, &z->w, z->directory.data, z->directory.size)) return false;
  put(&to, END64_SIGN, 4);
  put(&to, END64 - 12, 8);
  put(&to, VERSION, 2);
  put(&to, VERSION, 2);
  put(&to, 0, 4 + 4);
  put(&to, z->entries, 8);
  put(&to, z->entries, 8);
  put(&to, z->directory.size, 8);
  put(&to, start, 8);
  put(&to, LOCATOR_SIGN, 4);
  put(&to, 0, 4);
  put(&to, start + z->directory.size, 8);
  put(&to, 1, 4);
  put(&to, END_SIGN, 4);
  put(&to, 0, 2 + 2);
  put(&to, UINT16_MAX, 2);
  put(&to, UINT16_MAX, 2);
  put(&to, FULL32, 4);
  put(&to, FULL32, 4);
  put(&to, 0, 2);
  return mx_writer_add(c, &z->w, p, sizeof p);
}

bool mx_zip_end(mx_ctx *c, mx_zip_writer *z, bool ok) {
  ok = ok && end_write(c, z);
  mx_bytes_free(c->engine, &z->directory);
  if (ok) return mx_writer_commit(c, &z->w);
  mx_writer_discard(c->engine, &z->w);
  return false;
}
