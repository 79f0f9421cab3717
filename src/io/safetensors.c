/* safetensors.c: the format of the `safetensors` library: headers are read strictly (names and keys occur once, the
 * elements cover the file without holes and without bytes behind them), and files are written as the library does,
 * byte for byte. */
#include "io_impl.h"

#include <stdio.h>
#include <stdlib.h>

enum { PREFIX = 8 };
#define MOST_HEADER ((size_t)100000000)

/* ORDER dtype. rank: the library's own order of dtypes, in which it writes arrays from the last to the first. */
static const struct {
  const char *name;
  int rank;
} dtypes[] = {{"BOOL", 0}, {"I8", 2},   {"I16", 3}, {"I32", 7},  {"I64", 11}, {"U8", 1},  {"U16", 4},
              {"U32", 8},  {"U64", 12}, {"F16", 5}, {"BF16", 6}, {"F32", 9},  {"F64", 10}};
_Static_assert(sizeof dtypes / sizeof *dtypes == MX_DTYPE_COUNT, "ORDER dtype");

static bool span_is(mx_span s, const char *text) { return s.size == strlen(text) && !memcmp(s.data, text, s.size); }

/* -- reading ------------------------------------------------------------------------------------------------------- */

static bool fail_entry(const mx_json *j, const mx_entry *e, const char *what) {
  mx_fail(j->c, MLAX_FORMAT, "%s: '%.100s': %s", j->name, e->name.data, what);
  return false;
}

static bool dtype_read(mx_json *j, const mx_entry *e, int *dtype) {
  mx_span s;
  if (!mx_json_string(j, &s)) return false;
  for (int i = 0; i < MX_DTYPE_COUNT; i++)
    if (span_is(s, dtypes[i].name)) return *dtype = i, true;
  mx_fail(j->c, MLAX_FORMAT, "%s: '%.100s': there is no such dtype here (got \"%.20s\")", j->name, e->name.data,
          s.data);
  return false;
}

/* A list of at most `most` counts. */
static bool counts_read(mx_json *j, const mx_entry *e, int64_t *counts, int most, int *n) {
  *n = 0;
  if (!mx_json_take(j, '[')) return false;
  while (mx_json_more(j, ']', n)) {
    if (*n > most) return fail_entry(j, e, "too many numbers in a list");
    if (!mx_json_count(j, &counts[*n - 1])) return false;
  }
  return !mx_failed(j->c);
}

typedef struct description {
  int dtype, ndim, n_offsets; /* -1: not there yet */
  int64_t shape[MX_MAX_NDIM], offsets[2];
} description;

static bool member_read(mx_json *j, const mx_entry *e, description *d) {
  mx_span key;
  if (!mx_json_string(j, &key) || !mx_json_take(j, ':')) return false;
  if (span_is(key, "dtype") && d->dtype < 0) return dtype_read(j, e, &d->dtype);
  if (span_is(key, "shape") && d->ndim < 0) return counts_read(j, e, d->shape, MX_MAX_NDIM, &d->ndim);
  if (span_is(key, "data_offsets") && d->n_offsets < 0) return counts_read(j, e, d->offsets, 2, &d->n_offsets);
  return fail_entry(j, e, "a key is unknown or there twice (need dtype, shape, data_offsets)");
}

/* Settles what the description says, `start` being where the elements begin. */
static bool entry_settle(mx_json *j, mx_entry *e, const description *d, size_t start, size_t size) {
  if (d->dtype < 0 || d->ndim < 0 || d->n_offsets != 2)
    return fail_entry(j, e, "its description is not whole (need dtype, shape and two data_offsets)");
  if (!mx_aval_make(j->c, &e->aval, d->dtype, d->ndim, d->shape)) {
    mx_clear(j->c);
    return fail_entry(j, e, "its shape overflows");
  }
  uint64_t from = (uint64_t)d->offsets[0], to = (uint64_t)d->offsets[1];
  if (to < from || to > size - start) return fail_entry(j, e, "its data_offsets leave the file");
  if (to - from != mx_nbytes(&e->aval)) {
    mx_text t;
    mx_fail(j->c, MLAX_FORMAT, "%s: '%.100s': shape and bytes disagree (got %llu bytes, need %zu for %s)", j->name,
            e->name.data, (unsigned long long)(to - from), mx_nbytes(&e->aval), mx_aval_text(&t, &e->aval));
    return false;
  }
  e->start = start + (size_t)from;
  e->size = (size_t)(to - from);
  return true;
}

static bool entry_read(mx_json *j, mx_entry *e, size_t start, size_t size) {
  description d = {.dtype = -1, .ndim = -1, .n_offsets = -1};
  int n = 0;
  if (!mx_json_take(j, '{')) return false;
  while (mx_json_more(j, '}', &n))
    if (!member_read(j, e, &d)) return false;
  return !mx_failed(j->c) && entry_settle(j, e, &d, start, size);
}

/* Texts by name, which nobody here asks for. */
static bool metadata_read(mx_json *j) {
  mx_span s;
  int n = 0;
  if (!mx_json_take(j, '{')) return false;
  while (mx_json_more(j, '}', &n))
    if (!mx_json_string(j, &s) || !mx_json_take(j, ':') || !mx_json_string(j, &s)) return false;
  return !mx_failed(j->c);
}

static bool header_read(mx_json *j, mx_table *t, size_t start, size_t size) {
  int n = 0, metadata = 0;
  mx_span name;
  if (!mx_json_take(j, '{')) return false;
  while (mx_json_more(j, '}', &n)) {
    if (!mx_json_string(j, &name) || !mx_json_take(j, ':')) return false;
    if (span_is(name, "__metadata__")) {
      if (metadata++) return mx_json_fail(j, "__metadata__ is there twice");
      if (!metadata_read(j)) return false;
      continue;
    }
    mx_entry *e = mx_table_add(j->c, j->name, t);
    if (!e) return false;
    e->name = name;
    if (!entry_read(j, e, start, size)) return false;
  }
  return !mx_failed(j->c) && mx_json_end(j);
}

/* The elements lie behind one another from `start` to the end: a hole or a tail could hold a second file. */
static bool check_coverage(mx_ctx *c, const mx_source *s, const mx_table *t, size_t start) {
  size_t at = start;
  for (int i = 0; i < t->n; at += t->entries[i++].size)
    if (t->entries[i].start != at)
      return mx_fail(c, MLAX_FORMAT, "%s: there is a hole before '%.100s' (bytes %zu to %zu)", s->name,
                     t->entries[i].name.data, at, t->entries[i].start);
  if (at == s->size) return true;
  return mx_fail(c, MLAX_FORMAT, "%s: bytes follow the last array (got %zu, need %zu)", s->name, s->size, at);
}

/* Where the elements begin; 0 with the error recorded. */
static size_t prefix_read(mx_ctx *c, const mx_source *s) {
  unsigned char p[PREFIX];
  uint64_t n = 0;
  if (s->size < PREFIX) {
    mx_fail(c, MLAX_FORMAT, "%s: this is no safetensors file (got %zu bytes, need at least 8)", s->name, s->size);
    return 0;
  }
  if (!mx_source_read(c, s, 0, p, PREFIX)) return 0;
  for (int i = PREFIX - 1; i >= 0; i--) n = n << 8 | p[i];
  if (n <= MOST_HEADER && n <= s->size - PREFIX) return PREFIX + (size_t)n;
  mx_fail(c, MLAX_FORMAT,
          "%s: this is no safetensors file: its header would have %llu bytes (the file has %zu, need at most %zu)",
          s->name, (unsigned long long)n, s->size, MOST_HEADER);
  return 0;
}

bool mx_safetensors_open(mx_ctx *c, const mx_source *s, mx_table *t) {
  mx_json j;
  *t = (mx_table){0};
  size_t start = prefix_read(c, s);
  if (start && mx_source_bytes(c, s, PREFIX, start - PREFIX, &t->text) &&
      mx_json_open(&j, c, s->name, t->text.data, t->text.size) && header_read(&j, t, start, s->size) &&
      mx_table_settle(c, s->name, t) && check_coverage(c, s, t, start))
    return true;
  mx_table_free(c->engine, t);
  return false;
}

mx_array *mx_safetensors_read(mx_ctx *c, const mx_source *s, const mx_entry *e) {
  return mx_source_array(c, s, e->start, &e->aval, false);
}

/* -- writing ------------------------------------------------------------------------------------------------------- */

/* Widest elements first, then by name. */
static int compare_items(const void *a, const void *b) {
  const mx_named *x = a, *y = b;
  int order = dtypes[y->array->aval.dtype].rank - dtypes[x->array->aval.dtype].rank;
  if (order) return order;
  order = memcmp(x->name.data, y->name.data, x->name.size < y->name.size ? x->name.size : y->name.size);
  return order ? order : (x->name.size > y->name.size) - (x->name.size < y->name.size);
}

static bool add_text(mx_ctx *c, mx_bytes *b, const char *text) { return mx_bytes_add(c, b, text, strlen(text)); }

static bool add_number(mx_ctx *c, mx_bytes *b, const char *before, uint64_t n) {
  char digits[32];
  snprintf(digits, sizeof digits, "%llu", (unsigned long long)n);
  return add_text(c, b, before) && add_text(c, b, digits);
}

static bool item_describe(mx_ctx *c, mx_bytes *b, const mx_named *item, size_t *at) {
  const mx_aval *a = &item->array->aval;
  bool ok = mx_json_add_string(c, b, item->name) && add_text(c, b, ":{\"dtype\":\"") &&
            add_text(c, b, dtypes[a->dtype].name) && add_text(c, b, "\",\"shape\":[");
  for (int i = 0; ok && i < a->ndim; i++) ok = add_number(c, b, i ? "," : "", (uint64_t)a->shape[i]);
  ok = ok && add_number(c, b, "],\"data_offsets\":[", *at);
  if (!mx_add_size(*at, mx_nbytes(a), at)) return mx_fail_memory(c, SIZE_MAX), false;
  return ok && add_number(c, b, ",", *at) && add_text(c, b, "]}");
}

/* The length and the JSON text, filled up with blanks to a multiple of 8. */
static bool header_make(mx_ctx *c, mx_bytes *b, const mx_named *items, int n) {
  size_t at = 0;
  bool ok = mx_bytes_add(c, b, "\0\0\0\0\0\0\0\0", PREFIX) && add_text(c, b, "{");
  for (int i = 0; ok && i < n; i++) ok = add_text(c, b, i ? "," : "") && item_describe(c, b, &items[i], &at);
  ok = ok && add_text(c, b, "}");
  while (ok && b->size % 8) ok = add_text(c, b, " ");
  if (ok && b->size - PREFIX > MOST_HEADER)
    return mx_fail(c, MLAX_IO, "too many arrays for one file (a header of %zu bytes, need at most %zu)",
                   b->size - PREFIX, MOST_HEADER);
  for (int i = 0; ok && i < PREFIX; i++) b->data[i] = (char)((uint64_t)(b->size - PREFIX) >> (8 * i));
  return ok;
}

static bool array_add(mx_ctx *c, mx_writer *w, mx_array *x) {
  if (!mx_poll(c)) return false;
  mx_array *y = mx_array_for_file(c, x);
  bool ok = y && mx_writer_add(c, w, mx_data(y), mx_nbytes(&y->aval));
  mx_release(y);
  return ok;
}

bool mx_safetensors_write(mx_ctx *c, const char *path, mx_named *items, int n) {
  mx_bytes header = {NULL, 0, 0};
  mx_writer w;
  if (n > 1) qsort(items, (size_t)n, sizeof *items, compare_items);
  bool ok = header_make(c, &header, items, n) && mx_writer_open(c, &w, path);
  if (ok) {
    ok = mx_writer_add(c, &w, header.data, header.size);
    for (int i = 0; ok && i < n; i++) ok = array_add(c, &w, items[i].array);
    if (ok) ok = mx_writer_commit(c, &w);
    else mx_writer_discard(c->engine, &w);
  }
  mx_bytes_free(c->engine, &header);
  return ok;
}
