/* profile_trace.c: a recording as a Chrome trace (the JSON that chrome://tracing and Perfetto read), written without
 * regard to the host's locale. Times are microseconds with three decimals. */
#include "profile_impl.h"

#include <stdio.h>

/* -- text that grows ----------------------------------------------------------------------------------------------- */

typedef struct text {
  mx_ctx *c;
  char *data;
  size_t n, cap;
} text;

/* Room for `more` bytes; false, with the error pending, without memory, then and from then on. */
static bool reserve(text *t, size_t more) {
  if (mx_failed(t->c)) return false;
  if (t->cap - t->n >= more) return true;
  size_t cap = 2 * t->cap + more + 4096;
  char *data = mx_realloc(t->c->engine, t->data, t->cap, cap);
  if (!data) return mx_fail_memory(t->c, cap), false;
  t->data = data;
  t->cap = cap;
  return true;
}

static void put(text *t, const char *s) {
  size_t n = strlen(s);
  if (!reserve(t, n)) return;
  memcpy(t->data + t->n, s, n);
  t->n += n;
}

static void put_int(text *t, int64_t v) {
  char s[24];
  snprintf(s, sizeof s, "%lld", (long long)v);
  put(t, s);
}

/* v / 1000 with three decimals. */
static void put_thousandths(text *t, int64_t v) {
  char s[32];
  snprintf(s, sizeof s, "%lld.%03lld", (long long)(v / 1000), (long long)(v % 1000));
  put(t, s);
}

/* The bytes of the UTF-8 character at s; 0 where there is none. */
static int char_bytes(const unsigned char *s) {
  static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
  if (s[0] < 0x80) return 1;
  if (s[0] < 0xC0 || s[0] > 0xF4) return 0;
  int n = s[0] >= 0xF0 ? 4 : s[0] >= 0xE0 ? 3 : 2;
  uint32_t v = s[0] & (0xFFu >> (n + 1));
  for (int i = 1; i < n; i++) {
    if ((s[i] & 0xC0) != 0x80) return 0;
    v = v << 6 | (s[i] & 0x3F);
  }
  return v < least[n] || v > 0x10FFFF || (v >= 0xD800 && v <= 0xDFFF) ? 0 : n;
}

/* A JSON string; what is no UTF-8 becomes `?`. */
static void put_string(text *t, const char *s) {
  put(t, "\"");
  for (int n; *s; s += n ? n : 1) {
    char one[8] = "?";
    n = char_bytes((const unsigned char *)s);
    if ((unsigned char)*s < 0x20) snprintf(one, sizeof one, "\\u%04x", (unsigned)*s);
    else if (*s == '"' || *s == '\\') snprintf(one, sizeof one, "\\%c", *s);
    else if (n) memcpy(one, s, (size_t)n), one[n] = '\0';
    put(t, one);
  }
  put(t, "\"");
}

/* -- events -------------------------------------------------------------------------------------------------------- */

enum { MAX_OPERANDS = 6 }; /* of which the shapes are written */

static void put_avals(text *t, const mx_aval *avals, int n) {
  mx_text one;
  put(t, "\"");
  for (int k = 0; k < n && k < MAX_OPERANDS; k++) {
    if (k) put(t, " ");
    put(t, mx_aval_text(&one, &avals[k]));
  }
  put(t, n > MAX_OPERANDS ? " ...\"" : "\"");
}

/* Work per nanosecond, which is giga per second. */
static void put_rate(text *t, const char *name, double work, int64_t ns) {
  double rate = ns > 0 ? work / (double)ns : 0;
  put(t, name);
  put_thousandths(t, (int64_t)((rate < 1e12 ? rate : 1e12) * 1000 + 0.5));
}

static int64_t whole(double v) { return v < 9e18 ? (int64_t)v : INT64_MAX; }

static void put_args(text *t, const mx_profile_row *r, const mx_profile_event *e) {
  const char *op = mx_site_op(t->c, r->site);
  double flops = r->flops * (double)e->calls, bytes = r->bytes * (double)e->calls;
  put(t, "{\"line\":");
  put_string(t, mx_site_text(t->c, r->site));
  put(t, ",\"op\":");
  put_string(t, op ? op : r->name);
  put(t, ",\"operands\":");
  put_avals(t, r->avals, r->n_in);
  put(t, ",\"results\":");
  put_avals(t, r->avals + r->n_in, r->n_out);
  put(t, ",\"calls\":");
  put_int(t, e->calls);
  put(t, ",\"flops\":");
  put_int(t, whole(flops));
  put(t, ",\"bytes\":");
  put_int(t, whole(bytes));
  put_rate(t, ",\"GF/s\":", flops, e->ns);
  put_rate(t, ",\"GB/s\":", bytes, e->ns);
  put(t, "}");
}

static void put_event(text *t, const char *name, int64_t start, int64_t ns) {
  put(t, ",\n{\"ph\":\"X\",\"pid\":1,\"tid\":1,\"name\":");
  put_string(t, name);
  put(t, ",\"ts\":");
  put_thousandths(t, start);
  put(t, ",\"dur\":");
  put_thousandths(t, ns);
}

/* What ran inside a step is drawn side by side from its start, in the order in which it first ran. */
static void put_events(text *t, const mx_profile *p) {
  int64_t inside = 0;
  for (int i = 0; i < p->n_events && !mx_failed(t->c); i++) {
    const mx_profile_event *e = &p->events[i];
    const mx_profile_row *r = &p->rows[e->row];
    if (!e->inside) inside = e->start;
    put_event(t, r->name, e->inside ? inside : e->start, e->ns);
    put(t, ",\"args\":");
    put_args(t, r, e);
    put(t, "}");
    if (e->inside) inside += e->ns;
  }
}

static void put_trace(text *t, const mx_profile *p) {
  put(t, "{\"displayTimeUnit\":\"ns\",\"otherData\":{\"steps\":");
  put_int(t, p->steps);
  put(t, ",\"steps left out\":");
  put_int(t, p->left);
  put(t, "},\"traceEvents\":[\n{\"ph\":\"M\",\"pid\":1,\"name\":\"process_name\",\"args\":{\"name\":\"mlax\"}}");
  put_event(t, "profile", 0, p->ended - p->begun);
  put(t, "}");
  put_events(t, p);
  put(t, "\n]}\n");
}

bool mx_profile_write(mx_ctx *c, const mx_profile *p, const char *path) {
  text t = {.c = c};
  put_trace(&t, p);
  bool ok = !mx_failed(c) && mx_file_write(c, path, t.data, t.n);
  mx_free(c->engine, t.data, t.cap);
  return ok;
}
