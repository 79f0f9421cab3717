/* csv.c: tables of numbers as text. Two passes over the bytes: the first counts records and columns and finds every
 * structural fault; the second, for which the result is allocated, reads the fields and takes quotes off in place. */
#include "io.h"

enum { POLL_EVERY = 4096 };

typedef struct cursor {
  mx_ctx *c;
  const char *name;
  char *p, *end;
  int64_t line; /* of p, from 1 */
  char separator;
  bool unquote; /* second pass */
} cursor;

static bool fail_line(const cursor *k, int64_t line, const char *what) {
  mx_fail(k->c, MLAX_FORMAT, "%s:%lld: %s", k->name, (long long)line, what);
  return false;
}

/* -- fields -------------------------------------------------------------------------------------------------------- */

static bool is_blank(char ch) { return ch == ' ' || ch == '\t'; }

static bool at_line_end(const cursor *k) {
  return k->p == k->end || *k->p == '\n' || (*k->p == '\r' && k->p + 1 < k->end && k->p[1] == '\n');
}

static void line_end_skip(cursor *k) {
  if (k->p == k->end) return;
  k->p += *k->p == '\r' ? 2 : 1;
  k->line++;
}

/* Blanks that separate nothing. */
static void blanks_skip(cursor *k) {
  while (k->p < k->end && is_blank(*k->p) && *k->p != k->separator) k->p++;
}

/* All blanks, where any run of them is one separator. */
static void separators_skip(cursor *k) {
  while (k->p < k->end && is_blank(*k->p)) k->p++;
}

/* Behind the opening quote; "" stands for a quote. The text is moved together in place in the second pass. */
static bool quoted_read(cursor *k, mx_span *f) {
  int64_t line = k->line;
  char *to = k->p;
  f->data = k->p;
  for (; k->p < k->end; k->p++) {
    if (*k->p == '"' && (k->p + 1 == k->end || k->p[1] != '"')) break;
    if (*k->p == '"') k->p++;
    if (*k->p == '\n') k->line++;
    if (k->unquote) *to = *k->p;
    to++;
  }
  f->size = (size_t)(to - f->data);
  if (k->p == k->end) return fail_line(k, line, "a quote is not closed");
  k->p++;
  blanks_skip(k);
  if (!at_line_end(k) && *k->p != k->separator && !(is_blank(k->separator) && is_blank(*k->p)))
    return fail_line(k, k->line, "text follows a closing quote");
  return true;
}

static void plain_read(cursor *k, mx_span *f) {
  f->data = k->p;
  bool blank = is_blank(k->separator);
  while (!at_line_end(k) && *k->p != k->separator && !(blank && is_blank(*k->p))) k->p++;
  const char *end = k->p;
  while (end > f->data && is_blank(end[-1])) end--;
  f->size = (size_t)(end - f->data);
}

/* Reads a field and what separates it from the next; *last: the line (and its end) is behind us. */
static bool field_read(cursor *k, mx_span *f, bool *last) {
  blanks_skip(k);
  if (k->p < k->end && *k->p == '"') {
    k->p++;
    if (!quoted_read(k, f)) return false;
  } else plain_read(k, f);
  if (is_blank(k->separator)) separators_skip(k);
  *last = at_line_end(k);
  if (*last) line_end_skip(k);
  else if (!is_blank(k->separator)) k->p++;
  return true;
}

/* To the next line that is not empty; false at the end. */
static bool record_start(cursor *k) {
  while (k->p < k->end) {
    char *start = k->p;
    separators_skip(k);
    if (!at_line_end(k)) {
      if (!is_blank(k->separator)) k->p = start;
      return true;
    }
    line_end_skip(k);
  }
  return false;
}

/* -- first pass ---------------------------------------------------------------------------------------------------- */

typedef struct layout {
  int64_t records, columns; /* without the header */
  int64_t classes;          /* the class column from 0, or -1 */
  bool header;
} layout;

/* The first record: how many columns, and is it a header? */
static bool first_scan(cursor *k, const mx_csv_options *o, layout *l) {
  bool last = false, words = false;
  double v;
  int64_t at_words = -1, n_words = 0;
  while (!last) {
    mx_span f;
    if (!field_read(k, &f, &last)) return false;
    if (f.size && !mx_number_parse(f.data, f.size, &v)) {
      words = true;
      at_words = l->columns;
      n_words++;
    }
    l->columns++;
  }
  int64_t classes = o->classes < 0 ? l->columns + o->classes : o->classes - 1;
  if (o->classes && (classes < 0 || classes >= l->columns)) {
    mx_fail(k->c, MLAX_ARGUMENT, "no such column for classes (got %lld, the file has %lld columns)",
            (long long)o->classes, (long long)l->columns);
    return false;
  }
  l->classes = o->classes ? classes : -1;
  if (n_words == 1 && at_words == l->classes) words = false;
  l->header = o->header == MX_HEADER_FIRST || (o->header == MX_HEADER_AUTO && words);
  l->records = l->header ? 0 : 1;
  return true;
}

static bool ragged(const cursor *k, int64_t line, int64_t got, const layout *l) {
  mx_fail(k->c, MLAX_FORMAT,
          "%s:%lld: the lines differ in their number of fields (got %lld, need %lld as in the first)", k->name,
          (long long)line, (long long)got, (long long)l->columns);
  return false;
}

static bool layout_scan(cursor k, const mx_csv_options *o, layout *l) {
  if (!record_start(&k)) return fail_line(&k, k.line, "the file holds no records");
  if (!first_scan(&k, o, l)) return false;
  while (record_start(&k)) {
    int64_t line = k.line, n = 0;
    mx_span f;
    for (bool last = false; !last; n++)
      if (!field_read(&k, &f, &last)) return false;
    if (n != l->columns) return ragged(&k, line, n, l);
    if (++l->records % POLL_EVERY == 0 && !mx_poll(k.c)) return false;
  }
  if (l->header && !l->records && o->header == MX_HEADER_AUTO) { /* one line of words is no table */
    l->header = false;
    l->records = 1;
  }
  return true;
}

/* -- classes: texts numbered as they first appear ------------------------------------------------------------------ */

static uint64_t span_hash(mx_span s) { return mx_hash_bytes(0, s.data, s.size); }

/* The slot that holds the text, or the free one where it belongs. The table is never full. */
static int32_t *class_slot(const mx_csv_table *t, mx_span s) {
  size_t mask = (size_t)t->slots_cap - 1;
  for (size_t i = (size_t)span_hash(s) & mask;; i = (i + 1) & mask) {
    int32_t *slot = &t->slots[i];
    if (!*slot) return slot;
    mx_span known = t->classes[*slot - 1];
    if (known.size == s.size && memcmp(known.data, s.data, s.size) == 0) return slot;
  }
}

static bool slots_grow(mx_ctx *c, mx_csv_table *t) {
  int32_t *old = t->slots;
  int old_cap = t->slots_cap, cap = old_cap ? old_cap * 2 : 16;
  int32_t *slots = mx_new(c, (size_t)cap * sizeof *slots);
  if (!slots) return false;
  t->slots = slots;
  t->slots_cap = cap;
  for (int i = 0; i < t->n_classes; i++) *class_slot(t, t->classes[i]) = i + 1;
  mx_free(c->engine, old, (size_t)old_cap * sizeof *old);
  return true;
}

/* The text's number from 1; 0 on failure. */
static int class_number(mx_ctx *c, mx_csv_table *t, mx_span s) {
  enum { MOST = 1 << 28 };
  if (2 * t->n_classes >= t->slots_cap) {
    if (t->n_classes >= MOST) return mx_fail(c, MLAX_FORMAT, "too many classes"), 0;
    if (!slots_grow(c, t)) return 0;
  }
  int32_t *slot = class_slot(t, s);
  if (*slot) return *slot;
  if (!mx_grow(c, &t->classes, &t->classes_cap, t->n_classes + 1, sizeof *t->classes)) return 0;
  t->classes[t->n_classes++] = s;
  return *slot = t->n_classes;
}

/* -- second pass --------------------------------------------------------------------------------------------------- */

static bool header_read(cursor *k, mx_csv_table *t) {
  for (bool last = false; !last; t->n_names++) {
    if (!mx_grow(k->c, &t->names, &t->names_cap, t->n_names + 1, sizeof *t->names)) return false;
    if (!field_read(k, &t->names[t->n_names], &last)) return false;
  }
  return true;
}

static bool no_number(const cursor *k, int64_t line, int64_t column, mx_span f) {
  enum { SHOWN = 40 };
  if (!f.size)
    mx_fail(k->c, MLAX_FORMAT, "%s:%lld: field %lld is empty (need a number)", k->name, (long long)line,
            (long long)column + 1);
  else
    mx_fail(k->c, MLAX_FORMAT, "%s:%lld: field %lld is no number (got '%.*s')", k->name, (long long)line,
            (long long)column + 1, f.size > SHOWN ? SHOWN : (int)f.size, f.data);
  return false;
}

static bool record_read(cursor *k, const mx_csv_options *o, const layout *l, mx_csv_table *t, char *to) {
  int64_t line = k->line;
  size_t item = mx_itemsize(o->dtype);
  bool last;
  for (int64_t i = 0; i < l->columns; i++, to += item) {
    mx_span f;
    double v;
    if (!field_read(k, &f, &last)) return false;
    if (i == l->classes) {
      int number = class_number(k->c, t, f);
      if (!number) return false;
      v = number;
    } else if (!f.size && o->has_missing) v = o->missing;
    else if (!mx_number_parse(f.data, f.size, &v)) return no_number(k, line, i, f);
    mx_store_double(o->dtype, to, v);
  }
  return true;
}

static bool table_read(cursor k, const mx_csv_options *o, const layout *l, mx_csv_table *t) {
  mx_aval a;
  if (!mx_aval_make(k.c, &a, o->dtype, 2, (int64_t[]){l->records, l->columns})) return false;
  t->values = mx_array_new(k.c, &a);
  if (!t->values) return false;
  k.unquote = true;
  if (l->header && (!record_start(&k) || !header_read(&k, t))) return false;
  char *to = mx_data(t->values);
  size_t row = (size_t)l->columns * mx_itemsize(o->dtype);
  for (int64_t i = 0; i < l->records && record_start(&k); i++, to += row) {
    if (!record_read(&k, o, l, t, to)) return false;
    if (i % POLL_EVERY == 0 && !mx_poll(k.c)) return false;
  }
  return true;
}

/* -- tables -------------------------------------------------------------------------------------------------------- */

/* A separator that could be part of a number, a quote or a line end would make a file mean two things. */
static bool separator_check(mx_ctx *c, char s) {
  if ((s > ' ' && s < 0x7f && !strchr("+-.\"_", s) && !(s >= '0' && s <= '9') &&
       !((s | 0x20) >= 'a' && (s | 0x20) <= 'z')) ||
      is_blank(s))
    return true;
  mx_fail(c, MLAX_ARGUMENT, "this cannot separate fields (got character %d, need a blank or punctuation)",
          (unsigned char)s);
  return false;
}

static cursor cursor_start(mx_ctx *c, const char *name, const mx_bytes *b, const mx_csv_options *o) {
  cursor k = {c, name, b->data, b->data + b->size, 1, o->separator ? o->separator : ',', false};
  if (b->size >= 3 && memcmp(b->data, "\xEF\xBB\xBF", 3) == 0) k.p += 3; /* UTF-8's byte order mark */
  for (int64_t i = 0; i < o->skip && k.p < k.end; i++) {
    while (!at_line_end(&k)) k.p++;
    line_end_skip(&k);
  }
  return k;
}

bool mx_csv_parse(mx_ctx *c, const char *name, mx_bytes *bytes, const mx_csv_options *o, mx_csv_table *t) {
  memset(t, 0, sizeof *t);
  t->bytes = *bytes;
  *bytes = (mx_bytes){NULL, 0, 0};
  cursor k = cursor_start(c, name, &t->bytes, o);
  layout l = {0, 0, -1, false};
  if (separator_check(c, k.separator) && layout_scan(k, o, &l) && table_read(k, o, &l, t)) return true;
  mx_csv_release(c->engine, t);
  return false;
}

void mx_csv_release(mlax_engine *e, mx_csv_table *t) {
  mx_release(t->values);
  mx_free(e, t->names, (size_t)t->names_cap * sizeof *t->names);
  mx_free(e, t->classes, (size_t)t->classes_cap * sizeof *t->classes);
  mx_free(e, t->slots, (size_t)t->slots_cap * sizeof *t->slots);
  mx_bytes_free(e, &t->bytes);
  memset(t, 0, sizeof *t);
}
