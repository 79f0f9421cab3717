/* source.c: bytes in memory or in an open file, and the arrays in them; tables of what a file of named arrays holds. */
#include "io_impl.h"

#include <stdlib.h>

bool mx_source_open(mx_ctx *c, mx_source *s, const char *path) {
  *s = (mx_source){.name = path};
  if (!mx_file_open(c, &s->file, path)) return false;
  s->size = s->file.size;
  return true;
}

mx_source mx_source_of(const char *name, const void *bytes, size_t size) {
  return (mx_source){.name = name, .bytes = bytes, .size = size};
}

void mx_source_close(mlax_engine *e, mx_source *s) { mx_file_close(e, &s->file); }

bool mx_source_read(mx_ctx *c, const mx_source *s, size_t offset, void *to, size_t n) {
  if (offset > s->size || n > s->size - offset)
    return mx_fail(c, MLAX_FORMAT, "%s: the file ends too early (got %zu bytes, need %zu from byte %zu on)", s->name,
                   s->size, n, offset);
  if (!s->bytes) return mx_file_read_at(c, &s->file, offset, to, n);
  if (n) memcpy(to, s->bytes + offset, n);
  return true;
}

bool mx_source_bytes(mx_ctx *c, const mx_source *s, size_t offset, size_t n, mx_bytes *out) {
  *out = (mx_bytes){NULL, 0, 0};
  if (offset > s->size || n > s->size - offset) return mx_source_read(c, s, offset, NULL, n);
  out->data = mx_alloc(c->engine, n + 1);
  if (!out->data) return mx_fail_memory(c, n + 1), false;
  out->size = n;
  out->capacity = n + 1;
  out->data[n] = 0;
  if (mx_source_read(c, s, offset, out->data, n)) return true;
  mx_bytes_free(c->engine, out);
  return false;
}

/* -- elements ------------------------------------------------------------------------------------------------------ */

static void swap_elements(char *p, int64_t n, size_t width) {
  for (int64_t i = 0; i < n; i++, p += width)
    for (size_t k = 0; k < width / 2; k++) {
      char byte = p[k];
      p[k] = p[width - 1 - k];
      p[width - 1 - k] = byte;
    }
}

enum { IS_BIG_ENDIAN = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ };

mx_array *mx_source_array(mx_ctx *c, const mx_source *s, size_t offset, const mx_aval *a, bool big_endian) {
  if (offset > s->size || mx_nbytes(a) > s->size - offset) {
    mx_source_read(c, s, offset, NULL, mx_nbytes(a));
    return NULL;
  }
  mx_array *x = mx_array_new(c, a);
  if (!x) return NULL;
  if (!mx_source_read(c, s, offset, mx_data(x), mx_nbytes(a))) return mx_release(x), NULL;
  if (big_endian != IS_BIG_ENDIAN) swap_elements(mx_data(x), a->size, mx_itemsize(a->dtype));
  if (a->dtype == MLAX_BOOL) mx_convert_strided(MLAX_UINT8, mx_data(x), 1, MLAX_BOOL, mx_data(x), 1, a->size);
  return x;
}

mx_array *mx_array_for_file(mx_ctx *c, mx_array *x) {
  if (!IS_BIG_ENDIAN) return mx_array_contiguous(c, x);
  mx_array *y = mx_array_new(c, &x->aval);
  if (!y) return NULL;
  mx_array_read_all(x, mx_data(y));
  swap_elements(mx_data(y), y->aval.size, mx_itemsize(y->aval.dtype));
  return y;
}

/* -- bytes that grow ----------------------------------------------------------------------------------------------- */

bool mx_bytes_add(mx_ctx *c, mx_bytes *b, const void *from, size_t n) {
  enum { FIRST = 256 };
  size_t need, room = b->capacity ? b->capacity : FIRST;
  if (!mx_add_size(b->size, n, &need) || !mx_add_size(need, 1, &need)) return mx_fail_memory(c, SIZE_MAX), false;
  while (room < need) room = room > SIZE_MAX / 2 ? need : room * 2;
  if (room != b->capacity) {
    char *p = mx_realloc(c->engine, b->data, b->capacity, room);
    if (!p) return mx_fail_memory(c, room), false;
    b->data = p;
    b->capacity = room;
  }
  if (n) memcpy(b->data + b->size, from, n);
  b->size += n;
  b->data[b->size] = 0;
  return true;
}

/* -- tables -------------------------------------------------------------------------------------------------------- */

void mx_table_free(mlax_engine *e, mx_table *t) {
  mx_free(e, t->entries, (size_t)t->cap * sizeof *t->entries);
  mx_bytes_free(e, &t->text);
  *t = (mx_table){0};
}

mx_entry *mx_table_add(mx_ctx *c, const char *name, mx_table *t) {
  if (t->n == MX_MAX_ENTRIES)
    return mx_fail(c, MLAX_FORMAT, "%s: more than %d arrays in one file", name, (int)MX_MAX_ENTRIES);
  if (!mx_grow(c, &t->entries, &t->cap, t->n + 1, sizeof *t->entries)) return NULL;
  mx_entry *e = &t->entries[t->n++];
  *e = (mx_entry){0};
  return e;
}

static int compare_names(const void *a, const void *b) {
  const mx_span *x = &((const mx_entry *)a)->name, *y = &((const mx_entry *)b)->name;
  int order = memcmp(x->data, y->data, x->size < y->size ? x->size : y->size);
  return order ? order : (x->size > y->size) - (x->size < y->size);
}

/* Those without bytes stand before what begins where they do. */
static int compare_places(const void *a, const void *b) {
  const mx_entry *x = a, *y = b;
  if (x->start != y->start) return x->start < y->start ? -1 : 1;
  if (x->size != y->size) return x->size < y->size ? -1 : 1;
  return compare_names(a, b);
}

static bool names_differ(mx_ctx *c, const char *name, const mx_table *t) {
  for (int i = 1; i < t->n; i++)
    if (!compare_names(&t->entries[i - 1], &t->entries[i]))
      return mx_fail(c, MLAX_FORMAT, "%s: two arrays are named '%.100s'", name, t->entries[i].name.data);
  return true;
}

static bool places_differ(mx_ctx *c, const char *name, const mx_table *t) {
  for (int i = 1; i < t->n; i++) {
    const mx_entry *a = &t->entries[i - 1], *b = &t->entries[i];
    if (b->start - a->start < a->size)
      return mx_fail(c, MLAX_FORMAT, "%s: '%.100s' and '%.100s' share bytes (at byte %zu)", name, a->name.data,
                     b->name.data, b->start);
  }
  return true;
}

bool mx_table_settle(mx_ctx *c, const char *name, mx_table *t) {
  if (t->n < 2) return true;
  qsort(t->entries, (size_t)t->n, sizeof *t->entries, compare_names);
  if (!names_differ(c, name, t)) return false;
  qsort(t->entries, (size_t)t->n, sizeof *t->entries, compare_places);
  return places_differ(c, name, t);
}
