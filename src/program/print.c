/* print.c: the text of a program. Variables are a .. z, ba .. in order of definition; scalar constants stand as
 * literals. */
#include "program.h"

#include <stdio.h>

typedef struct out {
  char *to;
  size_t cap, n;
  mx_layouts layouts; /* of programs inside; NULL: as they are */
} out;

static void put(out *o, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(out *o, const char *format, ...) {
  va_list args;
  va_start(args, format);
  size_t room = o->n < o->cap ? o->cap - o->n : 0;
  int n = vsnprintf(room ? o->to + o->n : NULL, room, format, args);
  va_end(args);
  if (n > 0) o->n += (size_t)n;
}

static void put_name(out *o, int32_t v) {
  char s[12];
  int i = sizeof s;
  do {
    s[--i] = (char)('a' + v % 26);
    v /= 26;
  } while (v && i > 0);
  put(o, "%.*s", (int)sizeof s - i, s + i);
}

static void put_typed(out *o, const mx_program *p, int32_t v) {
  mx_text t;
  put_name(o, v);
  put(o, ":%s", mx_aval_text(&t, p->avals[v]));
}

static void put_literal(out *o, const mx_array *x) {
  int dtype = x->aval.dtype;
  if (dtype == MLAX_BOOL) put(o, "%s", mx_array_item_int(x) ? "true" : "false");
  else if (mx_is_float(dtype)) put(o, "%.9g", mx_array_item_double(x));
  else put(o, "%lld", (long long)mx_array_item_int(x));
  put(o, ":%s", mx_dtype_name(dtype));
}

static void put_operand(out *o, const mx_program *p, int32_t v) {
  int k = v - p->n_in;
  put(o, " ");
  if (k >= 0 && k < p->n_const && p->consts[k]->tag == MX_VALUE && p->avals[v]->ndim == 0) put_literal(o, p->consts[k]);
  else put_name(o, v);
}

/* A list of integers, mx_dims or mx_few: how many, then they. */
static void put_dims(out *o, const int64_t *d) {
  put(o, "(");
  for (int i = 0; i < d[0]; i++) put(o, i ? ",%lld" : "%lld", (long long)d[1 + i]);
  put(o, ")");
}

static void put_program(out *o, mx_ctx *c, const mx_program *p, const mx_layout *l, int indent);

static void put_programs(out *o, mx_ctx *c, const mx_programs *l, int indent) {
  for (int i = 0; i < l->n; i++) {
    mx_layout laid;
    bool is_laid = o->layouts && o->layouts(c, l->items[i], &laid);
    put(o, "\n%*s", indent, "");
    put_program(o, c, is_laid ? laid.program : l->items[i], is_laid ? &laid : NULL, indent);
  }
}

static void put_field(out *o, mx_ctx *c, const mx_field *f, const mx_params *params, int indent) {
  const void *at = (const char *)params + f->offset;
  put(o, "%s=", f->name);
  if (f->kind == MX_FIELD_DIMS) {
    put_dims(o, at);
    return;
  }
  if (f->kind == MX_FIELD_PROGRAMS) {
    put_programs(o, c, *(mx_programs *const *)at, indent + 2);
    return;
  }
  if (f->kind == MX_FIELD_TEXT) {
    put(o, "\"%s\"", (*(mx_string *const *)at)->text);
    return;
  }
  if (f->kind == MX_FIELD_NAME) {
    put(o, "%s", *(const char *const *)at);
    return;
  }
  long long v = (long long)*(const int64_t *)at;
  if (f->kind == MX_FIELD_DTYPE) put(o, "%s", v < 0 ? "none" : mx_dtype_name((int)v));
  else if (f->kind == MX_FIELD_FLAG) put(o, "%s", v ? "true" : "false");
  else put(o, "%lld", v);
}

static void put_params(out *o, mx_ctx *c, const mx_eqn *e, int indent) {
  if (!e->params || !e->prim->fields || e->prim->fields->kind == MX_FIELD_END) return;
  put(o, "[");
  for (const mx_field *f = e->prim->fields; f->kind != MX_FIELD_END; f++) {
    if (f != e->prim->fields) put(o, " ");
    put_field(o, c, f, e->params, indent);
  }
  put(o, "]");
}

static void put_equation(out *o, mx_ctx *c, const mx_program *p, const mx_eqn *e, int indent) {
  put(o, "%*s", indent + 4, "");
  for (int k = 0; k < e->n_out; k++) {
    if (k) put(o, " ");
    put_typed(o, p, e->out + k);
  }
  put(o, "%s%s", e->n_out ? " = " : "", e->prim->name);
  put_params(o, c, e, indent + 4);
  for (int k = 0; k < e->n_in; k++) put_operand(o, p, e->in[k]);
  if (e->site) put(o, "   # %s", mx_site_text(c, e->site));
  put(o, "\n");
}

/* The equations of a step of several stand between braces; views, which belong to none, where they come. */
static void put_laid(out *o, mx_ctx *c, const mx_layout *l, int indent) {
  int32_t open = -1;
  for (int i = 0; i <= l->program->n_eqn; i++) {
    int32_t e = i < l->program->n_eqn ? l->order[i] : -1, step = e < 0 ? -1 : l->step[e];
    bool labelled = step >= 0 && l->labels[step];
    if (open >= 0 && step != open) put(o, "%*s}\n", indent + 4, ""), open = -1;
    if (labelled && open < 0) put(o, "%*s%s {\n", indent + 4, "", l->labels[open = step]);
    if (e >= 0) put_equation(o, c, l->program, &l->program->eqns[e], indent + (labelled ? 2 : 0));
  }
}

/* l: NULL, or of p */
static void put_program(out *o, mx_ctx *c, const mx_program *p, const mx_layout *l, int indent) {
  put(o, "{ lambda");
  for (int k = 0; k < p->n_const; k++) {
    if (p->avals[p->n_in + k]->ndim == 0) continue;
    put(o, " ");
    put_typed(o, p, p->n_in + k);
  }
  put(o, " ;");
  for (int v = 0; v < p->n_in; v++) {
    put(o, " ");
    put_typed(o, p, v);
  }
  put(o, ". let\n");
  if (l) put_laid(o, c, l, indent);
  for (int i = 0; !l && i < p->n_eqn; i++) put_equation(o, c, p, &p->eqns[i], indent);
  put(o, "%*s  in (", indent, "");
  for (int k = 0; k < p->n_out; k++) {
    if (k) put(o, ",");
    put_operand(o, p, p->outs[k]);
  }
  put(o, " ) }");
}

static size_t print(mx_ctx *c, const mx_program *p, const mx_layout *l, mx_layouts inside, char *to, size_t cap) {
  out o = {to, cap, 0, inside};
  put_program(&o, c, p, l, 0);
  put(&o, "\n");
  if (cap) to[o.n < cap ? o.n : cap - 1] = 0;
  return o.n;
}

size_t mx_program_print(mx_ctx *c, const mx_program *p, char *to, size_t cap) {
  return print(c, p, NULL, NULL, to, cap);
}

size_t mx_program_print_laid(mx_ctx *c, const mx_layout *l, mx_layouts inside, char *to, size_t cap) {
  return print(c, l->program, l, inside, to, cap);
}
