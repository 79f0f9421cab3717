/* npy.c: NumPy's files of one array (npy) and of several (npz).
 *
 *     \x93NUMPY  major minor  length of the header  {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n
 * elements
 *
 * The header is a Python literal, of which only this form is read, whatever Python would make of others. */
#include "io_impl.h"

#include <stdio.h>

enum { MAGIC = 8, ALIGNMENT = 64, MOST_HEADER = 10000, HEADER_ROOM = 512 };

/* ORDER dtype. NumPy has no bfloat16. */
static const char *const codes[] = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", NULL, "f4", "f8"};
_Static_assert(sizeof codes / sizeof *codes == MX_DTYPE_COUNT, "ORDER dtype");

/* -- the header ---------------------------------------------------------------------------------------------------- */

typedef struct literal {
  mx_ctx *c;
  const char *name, *start, *at, *end;
} literal;

typedef struct description {
  int dtype; /* -1: not there yet; the same for the others */
  int fortran, ndim;
  bool big_endian;
  int64_t shape[MX_MAX_NDIM];
} description;

static bool fail_literal(const literal *l, const char *what) {
  mx_fail(l->c, MLAX_FORMAT, "%s: no header of a npy file: %s (at byte %zu of it)", l->name, what,
          (size_t)(l->at - l->start));
  return false;
}

static void skip_blanks(literal *l) {
  while (l->at < l->end && (*l->at == ' ' || *l->at == '\n')) l->at++;
}

/* Whether the text comes next; then it is taken. */
static bool takes(literal *l, const char *text) {
  size_t n = strlen(text);
  skip_blanks(l);
  if ((size_t)(l->end - l->at) < n || memcmp(l->at, text, n)) return false;
  l->at += n;
  return true;
}

static bool quoted_read(literal *l, mx_span *s) {
  skip_blanks(l);
  char quote = l->at < l->end ? *l->at : 0;
  if (quote != '\'' && quote != '"') return fail_literal(l, "need a text in quotes");
  s->data = ++l->at;
  while (l->at < l->end && *l->at != quote && *l->at != '\\') l->at++;
  if (l->at == l->end || *l->at != quote) return fail_literal(l, "a text does not end");
  s->size = (size_t)(l->at++ - s->data);
  return true;
}

static bool length_read(literal *l, int64_t *v) {
  skip_blanks(l);
  const char *first = l->at;
  *v = 0;
  for (; l->at < l->end && *l->at >= '0' && *l->at <= '9'; l->at++)
    if (__builtin_mul_overflow(*v, (int64_t)10, v) || __builtin_add_overflow(*v, (int64_t)(*l->at - '0'), v))
      return fail_literal(l, "a length is too large");
  if (l->at == first) return fail_literal(l, "need a length");
  if (l->at < l->end && *l->at == 'L') l->at++; /* as Python 2 wrote */
  return true;
}

/* (), (3,), (2, 3), (2, 3,) */
static bool shape_read(literal *l, description *d) {
  if (!takes(l, "(")) return fail_literal(l, "need a tuple of lengths");
  for (d->ndim = 0; !takes(l, ")"); d->ndim++) {
    if (d->ndim == MX_MAX_NDIM) return fail_literal(l, "too many axes (need at most 12)");
    if (!length_read(l, &d->shape[d->ndim])) return false;
    if (takes(l, ",")) continue;
    if (d->ndim == 0 || !takes(l, ")")) return fail_literal(l, "need ',' or ')'");
    d->ndim++;
    return true;
  }
  return true;
}

static bool fail_descr(const literal *l, mx_span s) {
  bool is_void = s.size > 1 && (s.data[0] == 'V' || s.data[1] == 'V');
  mx_fail(l->c, MLAX_FORMAT, "%s: the dtype '%.*s' is not read%s", l->name, s.size > 20 ? 20 : (int)s.size, s.data,
          is_void ? " (bfloat16? NumPy forgets it: save float32 or uint16)" : "");
  return false;
}

static bool descr_read(literal *l, description *d) {
  mx_span s;
  if (!takes(l, "'") && !takes(l, "\"")) return fail_literal(l, "need the name of a dtype (structures are not read)");
  l->at--;
  if (!quoted_read(l, &s)) return false;
  mx_span code = s;
  if (s.size && strchr("<>|=", s.data[0])) code.data++, code.size--;
  for (int i = 0; i < MX_DTYPE_COUNT; i++)
    if (codes[i] && code.size == 2 && !memcmp(code.data, codes[i], 2)) d->dtype = i;
  if (d->dtype < 0) return fail_descr(l, s);
  d->big_endian = s.data[0] == '>' || (s.data[0] != '<' && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__);
  return true;
}

static bool span_is(mx_span s, const char *text) { return s.size == strlen(text) && !memcmp(s.data, text, s.size); }

static bool member_read(literal *l, description *d) {
  mx_span key;
  if (!quoted_read(l, &key)) return false;
  if (!takes(l, ":")) return fail_literal(l, "need ':'");
  if (span_is(key, "descr") && d->dtype < 0) return descr_read(l, d);
  if (span_is(key, "shape") && d->ndim < 0) return shape_read(l, d);
  if (!span_is(key, "fortran_order") || d->fortran >= 0)
    return fail_literal(l, "a key is unknown or there twice (need descr, fortran_order, shape)");
  d->fortran = takes(l, "True") ? 1 : takes(l, "False") ? 0 : -1;
  return d->fortran >= 0 || fail_literal(l, "need True or False");
}

static bool members_read(literal *l, description *d) {
  if (!takes(l, "{")) return fail_literal(l, "need '{'");
  while (!takes(l, "}")) {
    if (!member_read(l, d)) return false;
    if (takes(l, ",")) continue;
    if (!takes(l, "}")) return fail_literal(l, "need ',' or '}'");
    break;
  }
  skip_blanks(l);
  if (l->at != l->end) return fail_literal(l, "something follows its end");
  if (l->end[-1] != '\n') return fail_literal(l, "it does not end in a line end");
  if (d->dtype < 0 || d->ndim < 0 || d->fortran < 0)
    return fail_literal(l, "a key is missing (need descr, fortran_order, shape)");
  return true;
}

/* The place and the length of the header. */
static bool prefix_read(mx_ctx *c, const mx_source *s, size_t *start, size_t *size) {
  unsigned char p[MAGIC + 4] = {0};
  if (s->size < MAGIC + 4) return mx_fail(c, MLAX_FORMAT, "%s: this is no npy file (got %zu bytes)", s->name, s->size);
  if (!mx_source_read(c, s, 0, p, sizeof p)) return false;
  if (memcmp(p, "\x93NUMPY", 6)) return mx_fail(c, MLAX_FORMAT, "%s: this is no npy file", s->name);
  if (p[6] < 1 || p[6] > 3 || p[7])
    return mx_fail(c, MLAX_FORMAT, "%s: unknown version of npy (got %d.%d, need 1.0, 2.0 or 3.0)", s->name, p[6], p[7]);
  *start = p[6] == 1 ? MAGIC + 2 : MAGIC + 4;
  *size = p[8] | (size_t)p[9] << 8;
  if (p[6] > 1) *size |= (size_t)p[10] << 16 | (size_t)p[11] << 24;
  if (*size >= 1 && *size <= MOST_HEADER && *size <= s->size - *start) return true;
  return mx_fail(c, MLAX_FORMAT, "%s: the header of the npy file has %zu bytes (the file has %zu, need 1 to %d)",
                 s->name, *size, s->size, MOST_HEADER);
}

static bool header_read(mx_ctx *c, const mx_source *s, description *d, size_t *elements) {
  char text[MOST_HEADER];
  size_t start = 0, size = 0;
  if (!prefix_read(c, s, &start, &size) || !mx_source_read(c, s, start, text, size)) return false;
  literal l = {c, s->name, text, text, text + size};
  *d = (description){.dtype = -1, .fortran = -1, .ndim = -1};
  *elements = start + size;
  return members_read(&l, d);
}

/* -- reading ------------------------------------------------------------------------------------------------------- */

/* Elements in column-major order are those of the reversed shape in row-major order. */
static mx_array *fortran_read(mx_ctx *c, const mx_source *s, size_t elements, const mx_aval *a, bool big_endian) {
  mx_aval turned = *a;
  int64_t strides[MX_MAX_NDIM];
  for (int i = 0; i < a->ndim; i++) turned.shape[i] = a->shape[a->ndim - 1 - i];
  mx_array *x = mx_source_array(c, s, elements, &turned, big_endian);
  if (!x) return NULL;
  for (int i = 0; i < a->ndim; i++) strides[i] = x->strides[a->ndim - 1 - i];
  mx_array *y = mx_array_view(c, x, a, x->offset, strides);
  mx_release(x);
  return y;
}

mx_array *mx_npy_read(mx_ctx *c, const mx_source *s) {
  description d;
  mx_aval a;
  mx_text t;
  size_t elements;
  if (!header_read(c, s, &d, &elements)) return NULL;
  if (!mx_aval_make(c, &a, d.dtype, d.ndim, d.shape)) {
    mx_clear(c);
    return mx_fail(c, MLAX_FORMAT, "%s: the header's shape overflows (got %s)", s->name,
                   mx_shape_text(&t, d.ndim, d.shape));
  }
  if (s->size - elements != mx_nbytes(&a))
    return mx_fail(c, MLAX_FORMAT, "%s: shape and bytes disagree (got %zu bytes of elements, need %zu for %s)", s->name,
                   s->size - elements, mx_nbytes(&a), mx_aval_text(&t, &a));
  return d.fortran ? fortran_read(c, s, elements, &a, d.big_endian) : mx_source_array(c, s, elements, &a, d.big_endian);
}

/* -- writing ------------------------------------------------------------------------------------------------------- */

/* The text before the elements, as NumPy writes it; its length, 0 with the error recorded. */
static size_t header_make(mx_ctx *c, const mx_aval *a, char *to) {
  const char *code = codes[a->dtype];
  if (!code) {
    mx_fail(c, MLAX_UNSUPPORTED, "NumPy has no %s (need another dtype: x:astype(\"float32\"))",
            mx_dtype_name(a->dtype));
    return 0;
  }
  size_t n = MAGIC + 2;
  char order = mx_itemsize(a->dtype) == 1 ? '|' : '<';
  n += (size_t)snprintf(to + n, HEADER_ROOM - n, "{'descr': '%c%s', 'fortran_order': False, 'shape': (", order, code);
  for (int i = 0; i < a->ndim; i++)
    n += (size_t)snprintf(to + n, HEADER_ROOM - n, i ? ", %lld" : "%lld", (long long)a->shape[i]);
  n += (size_t)snprintf(to + n, HEADER_ROOM - n, "%s), }", a->ndim == 1 ? "," : "");
  while ((n + 1) % ALIGNMENT) to[n++] = ' ';
  to[n++] = '\n';
  memcpy(to, "\x93NUMPY\1\0", MAGIC);
  to[MAGIC] = (char)((n - MAGIC - 2) & 0xff);
  to[MAGIC + 1] = (char)((n - MAGIC - 2) >> 8);
  return n;
}

bool mx_npy_write(mx_ctx *c, const char *path, mx_array *x) {
  char header[HEADER_ROOM + ALIGNMENT];
  mx_writer w;
  size_t n = header_make(c, &x->aval, header);
  mx_array *y = n ? mx_array_for_file(c, x) : NULL;
  bool ok = y && mx_writer_open(c, &w, path);
  if (ok) {
    ok = mx_writer_add(c, &w, header, n) && mx_writer_add(c, &w, mx_data(y), mx_nbytes(&y->aval));
    if (ok) ok = mx_writer_commit(c, &w);
    else mx_writer_discard(c->engine, &w);
  }
  mx_release(y);
  return ok;
}

/* -- npz ----------------------------------------------------------------------------------------------------------- */

static const char suffix[] = ".npy";
enum { SUFFIX = sizeof suffix - 1 };

/* Takes the suffix off the entries' names. */
bool mx_npz_open(mx_ctx *c, const mx_source *s, mx_table *t) {
  if (!mx_zip_open(c, s, t)) return false;
  for (int i = 0; i < t->n; i++) {
    mx_span *name = &t->entries[i].name;
    if (name->size >= SUFFIX && !memcmp(name->data + name->size - SUFFIX, suffix, SUFFIX)) {
      name->size -= SUFFIX;
      continue;
    }
    mx_fail(c, MLAX_FORMAT, "%s: '%.100s' is no array (need names that end in .npy)", s->name, name->data);
    mx_table_free(c->engine, t);
    return false;
  }
  return true;
}

mx_array *mx_npz_read(mx_ctx *c, const mx_source *s, const mx_entry *e) {
  mx_bytes b;
  char name[160];
  if (!mx_zip_read(c, s, e, &b)) return NULL;
  snprintf(name, sizeof name, "%.100s: '%.*s'", s->name, e->name.size > 40 ? 40 : (int)e->name.size, e->name.data);
  mx_source inside = mx_source_of(name, b.data, b.size);
  mx_array *x = mx_npy_read(c, &inside);
  mx_bytes_free(c->engine, &b);
  return x;
}

static bool item_add(mx_ctx *c, mx_zip_writer *z, const mx_named *item, bool deflate) {
  char header[HEADER_ROOM + ALIGNMENT];
  size_t n = header_make(c, &item->array->aval, header);
  mx_array *x = n ? mx_array_for_file(c, item->array) : NULL;
  if (!x) return false;
  mx_span parts[] = {{header, n}, {mx_data(x), mx_nbytes(&x->aval)}};
  bool ok = mx_zip_add(c, z, item->name, suffix, parts, 2, deflate);
  mx_release(x);
  return ok;
}

bool mx_npz_write(mx_ctx *c, const char *path, const mx_named *items, int n, bool deflate) {
  mx_zip_writer z;
  if (!mx_zip_begin(c, &z, path)) return false;
  bool ok = true;
  for (int i = 0; ok && i < n; i++) ok = mx_poll(c) && item_add(c, &z, &items[i], deflate);
  return mx_zip_end(c, &z, ok);
}
