/* print.c: an array as text.
 *
 *     float32[2,3]                  The shown elements are visited three times: to learn their range, which
 *     [[ 1.5  2.0  3.0]             settles how a number is written; to learn the widest; to write.
 *      [-4.0 10.0  0.5]]
 */
#include "array.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { LINE = 80, CELL = 64 };

/* How all numbers of an array are written. */
typedef struct style {
  int dtype;
  int decimals;    /* after the point */
  bool scientific; /* 1.5e+10 */
  int width;       /* of the widest */
} style;

/* What the shown floats are like. */
typedef struct range {
  double least, most; /* of the sizes of the finite ones that are not 0; most 0: there are none */
  int digits;         /* after the first, of the one that needs most when written with `precision` digits */
  int decimals;       /* the same after the point */
} range;

typedef struct printer {
  const mx_array *x;
  mx_print_options o;
  bool summarise;
  range range;
  style style;
  char *to;
  size_t cap, length, line; /* bytes written or not; where the current line began */
} printer;

/* -- cells ------------------------------------------------------------------------------------- */

static int write_float(const style *s, double v, char *cell) {
  if (isnan(v)) return snprintf(cell, CELL, "nan");
  if (isinf(v)) return snprintf(cell, CELL, v < 0 ? "-inf" : "inf");
  return snprintf(cell, CELL, s->scientific ? "%.*e" : "%.*f", s->decimals, v);
}

static int write_cell(const style *s, const char *p, char *cell) {
  switch (mx_dtype_kind(s->dtype)) {
  case MX_KIND_BOOL: return snprintf(cell, CELL, mx_load_int(s->dtype, p) ? "true" : "false");
  case MX_KIND_INT: return snprintf(cell, CELL, "%lld", (long long)mx_load_int(s->dtype, p));
  case MX_KIND_UINT: return snprintf(cell, CELL, "%llu", (unsigned long long)mx_load_int(s->dtype, p));
  default: return write_float(s, mx_load_double(s->dtype, p), cell);
  }
}

/* -- the style --------------------------------------------------------------------------------- */

/* Widens the range by v, written with `precision` significant digits: "d.dddde+xx" without its trailing zeros. */
static void range_add(range *r, double v, int precision) {
  char text[CELL];
  double size = fabs(v);
  if (!isfinite(v) || v == 0) return;
  if (r->most == 0 || size < r->least) r->least = size;
  if (size > r->most) r->most = size;
  snprintf(text, sizeof text, "%.*e", precision - 1, size);
  int digits = precision - 1, exponent = atoi(strchr(text, 'e') + 1);
  while (digits > 0 && text[digits + 1] == '0') digits--;
  if (digits > r->digits) r->digits = digits;
  if (digits - exponent > r->decimals) r->decimals = digits - exponent;
}

/* Plain while the largest keeps its digits and the smallest is not lost behind it, otherwise scientific. */
static style style_of(int dtype, const range *r, int precision) {
  style s = {.dtype = dtype};
  if (r->most == 0) return s;
  int leading = (int)floor(log10(r->most)), room = precision - 1 - leading;
  s.scientific = r->most >= 1e8 || r->least < 1e-5 || (r->decimals > 0 && r->most / r->least >= pow(10, precision - 1));
  if (s.scientific) s.decimals = r->digits;
  else s.decimals = r->decimals < room ? r->decimals : room > 0 ? room : 0;
  return s;
}

/* -- visits ------------------------------------------------------------------------------------ */

typedef void visit(printer *p, const char *element);

/* Calls f for each element that is shown. */
static void visit_shown(printer *p, int axis, const char *at, visit *f) {
  const mx_aval *a = &p->x->aval;
  if (axis == a->ndim) return f(p, at);
  int64_t n = a->shape[axis], edge = p->o.edge;
  bool gap = p->summarise && n > 2 * edge;
  for (int64_t i = 0; i < n; i++) {
    if (gap && i == edge) i = n - edge;
    if (i < n) visit_shown(p, axis + 1, at + i * p->x->strides[axis], f);
  }
}

static void visit_range(printer *p, const char *element) {
  range_add(&p->range, mx_load_double(p->style.dtype, element), p->o.precision);
}

static void visit_width(printer *p, const char *element) {
  char cell[CELL];
  int n = write_cell(&p->style, element, cell);
  if (n > p->style.width) p->style.width = n;
}

/* -- writing ----------------------------------------------------------------------------------- */

static void put(printer *p, const char *s, size_t n) {
  if (p->length < p->cap) {
    size_t room = p->cap - p->length;
    memcpy(p->to + p->length, s, n < room ? n : room);
  }
  p->length += n;
}

static void put_text(printer *p, const char *s) { put(p, s, strlen(s)); }
static void put_many(printer *p, char c, int n) {
  while (n-- > 0) put(p, &c, 1);
}

static void put_line(printer *p, int lines, int indent) {
  put_many(p, '\n', lines);
  p->line = p->length;
  put_many(p, ' ', indent);
}

/* One item of a row: a space before it, or a new line where it does not fit. */
static void put_item(printer *p, const char *text, int n, int width, bool first) {
  int indent = p->x->aval.ndim;
  if (!first && p->length - p->line + 1 + (size_t)width >= LINE) put_line(p, 1, indent);
  else if (!first) put_many(p, ' ', 1);
  put_many(p, ' ', width - n);
  put(p, text, (size_t)n);
}

static void put_row(printer *p, const char *at) {
  int axis = p->x->aval.ndim - 1;
  int64_t n = p->x->aval.shape[axis], edge = p->o.edge, stride = p->x->strides[axis];
  bool gap = p->summarise && n > 2 * edge;
  char cell[CELL];
  for (int64_t i = 0; i < n; i++) {
    if (gap && i == edge) {
      put_item(p, "...", 3, 3, i == 0);
      i = n - edge;
    }
    if (i < n) put_item(p, cell, write_cell(&p->style, at + i * stride, cell), p->style.width, i == 0);
  }
}

/* The items of an axis in brackets; those of all but the last stand on lines of their own, one empty line for each axis
 * more. */
static void put_axis(printer *p, int axis, const char *at) {
  const mx_aval *a = &p->x->aval;
  int64_t n = a->shape[axis], edge = p->o.edge;
  bool gap = p->summarise && n > 2 * edge;
  put_text(p, "[");
  if (axis == a->ndim - 1) put_row(p, at);
  else
    for (int64_t i = 0; i < n; i++) {
      if (i) put_line(p, a->ndim - 1 - axis, axis + 1);
      if (gap && i == edge) {
        put_text(p, "...");
        i = n - edge;
        if (i < n) put_line(p, a->ndim - 1 - axis, axis + 1);
      }
      if (i < n) put_axis(p, axis + 1, at + i * p->x->strides[axis]);
    }
  put_text(p, "]");
}

static void put_value(printer *p) {
  const mx_aval *a = &p->x->aval;
  char cell[CELL];
  if (a->size == 0) return put_text(p, "\n[]");
  const char *data = mx_data(p->x);
  if (mx_is_float(a->dtype)) visit_shown(p, 0, data, visit_range);
  p->style = style_of(a->dtype, &p->range, p->o.precision);
  visit_shown(p, 0, data, visit_width);
  if (a->ndim == 0) {
    put_text(p, " ");
    put(p, cell, (size_t)write_cell(&p->style, data, cell));
  } else {
    put_line(p, 1, 0);
    put_axis(p, 0, data);
  }
}

static mx_print_options options_of(const mx_print_options *o) {
  mx_print_options r = {6, 3, 1000};
  if (o) r = *o;
  if (r.precision < 1) r.precision = 1;
  if (r.precision > 17) r.precision = 17;
  if (r.edge < 0) r.edge = 0;
  return r;
}

size_t mx_array_print(const mx_array *x, const mx_print_options *o, char *to, size_t cap) {
  mx_text t;
  printer p = {.x = x, .o = options_of(o), .to = to, .cap = cap, .style = {.dtype = x->aval.dtype}};
  p.summarise = x->aval.size > p.o.threshold;
  put_text(&p, mx_aval_text(&t, &x->aval));
  if (x->tag == MX_VALUE) put_value(&p);
  if (cap) to[p.length < cap ? p.length : cap - 1] = '\0';
  return p.length;
}
