/* error.c: the texts of errors, and the Lua lines they name. */
#include "base_impl.h"

#include <stdio.h>

/* -- texts ------------------------------------------------------------------------------------- */

/* The bytes of the UTF-8 character that starts with c; 1 for what is none. */
static size_t char_length(unsigned char c) { return c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : c >= 0xC0 ? 2 : 1; }

/* A text that filled its room may end inside a character: cuts back to the last whole one. */
static void cut_at_char(char *text, size_t n) {
  size_t start = n;
  while (start > 0 && n - start < 3 && ((unsigned char)text[start - 1] & 0xC0) == 0x80) start--;
  if (start > 0 && start - 1 + char_length((unsigned char)text[start - 1]) > n) text[start - 1] = '\0';
}

static void write_error(mlax_error *to, mlax_status status, const char *format, va_list args) {
  to->status = status;
  to->text[0] = '\0';
  if (status == MLAX_OK) return;
  int n = vsnprintf(to->text, sizeof to->text, format, args);
  if (n >= (int)sizeof to->text) cut_at_char(to->text, sizeof to->text - 1);
}

mlax_status mx_report(mlax_error *to, mlax_status status, const char *format, ...) {
  if (!to) return status;
  va_list args;
  va_start(args, format);
  write_error(to, status, format, args);
  va_end(args);
  return status;
}

void *mx_fail(mx_ctx *c, mlax_status status, const char *format, ...) {
  if (mx_failed(c)) return NULL;
  va_list args;
  va_start(args, format);
  write_error(&c->error, status, format, args);
  va_end(args);
  return NULL;
}

void *mx_fail_memory(mx_ctx *c, size_t bytes) {
  size_t live = atomic_load(&c->engine->live), limit = atomic_load(&c->engine->limit), total;
  if (limit && (!mx_add_size(live, bytes, &total) || total > limit))
    return mx_fail(c, MLAX_LIMIT, "not enough memory for %zu bytes (%zu of the limit of %zu are in use)", bytes, live,
                   limit);
  return mx_fail(c, MLAX_MEMORY, "not enough memory for %zu bytes (%zu are in use)", bytes, live);
}

void mx_clear(mx_ctx *c) {
  c->error.status = MLAX_OK;
  c->error.text[0] = '\0';
}

/* -- sites ------------------------------------------------------------------------------------- */

/* Site n is text[n - 1]: "f.lua:12", a zero, the operation there, a zero. `slots` is a hash table of sites (0: free)
 * with room for twice as many. */
struct mx_sites {
  char **text;
  uint32_t *slots;
  int count, cap, n_slot; /* n_slot: a power of two, or 0 */
};

static const char *op_of(const char *text) { return text + strlen(text) + 1; }
static size_t site_bytes(const char *text) { return strlen(text) + strlen(op_of(text)) + 2; }
static uint64_t text_hash(const char *s) { return mx_hash_bytes(0, s, site_bytes(s)); }
static bool same_site(const char *a, const char *b) { return !strcmp(a, b) && !strcmp(op_of(a), op_of(b)); }

/* The slot that holds this text, or the free one where it belongs. */
static uint32_t *find_slot(const struct mx_sites *s, const char *text) {
  uint64_t mask = (uint64_t)s->n_slot - 1, i = text_hash(text) & mask;
  while (s->slots[i] && !same_site(s->text[s->slots[i] - 1], text)) i = (i + 1) & mask;
  return &s->slots[i];
}

static bool sites_grow(mlax_engine *e, struct mx_sites *s) {
  if (s->count < s->cap) return true;
  int cap = s->cap ? 2 * s->cap : 32;
  uint32_t *slots = mx_calloc(e, 2 * (size_t)cap * sizeof *slots);
  if (!slots) return false;
  char **text = mx_realloc(e, s->text, (size_t)s->cap * sizeof *text, (size_t)cap * sizeof *text);
  if (!text) return mx_free(e, slots, 2 * (size_t)cap * sizeof *slots), false;
  mx_free(e, s->slots, (size_t)s->n_slot * sizeof *slots);
  *s = (struct mx_sites){text, slots, s->count, cap, 2 * cap};
  for (int i = 0; i < s->count; i++) *find_slot(s, text[i]) = (uint32_t)i + 1;
  return true;
}

/* NULL when there is no memory. */
static struct mx_sites *sites_of(mx_ctx *c) {
  if (!c->sites) c->sites = mx_calloc(c->engine, sizeof *c->sites);
  return c->sites && sites_grow(c->engine, c->sites) ? c->sites : NULL;
}

uint32_t mx_site_intern(mx_ctx *c, const char *source, int line) {
  char text[320];
  struct mx_sites *s = sites_of(c);
  if (!s) return 0;
  int n =
      line < 0 ? snprintf(text, sizeof text, "%.240s", source) : snprintf(text, sizeof text, "%.240s:%d", source, line);
  snprintf(text + n + 1, sizeof text - (size_t)n - 1, "%.48s", c->op ? c->op : "");
  uint32_t *slot = find_slot(s, text);
  if (*slot) return *slot;
  size_t bytes = site_bytes(text);
  char *copy = mx_alloc(c->engine, bytes);
  if (!copy) return 0;
  s->text[s->count] = memcpy(copy, text, bytes);
  return *slot = (uint32_t)++s->count;
}

const char *mx_site_text(const mx_ctx *c, uint32_t site) {
  return c->sites && site > 0 && site <= (uint32_t)c->sites->count ? c->sites->text[site - 1] : "?";
}

uint32_t mx_here(mx_ctx *c) { return c->site ? c->site : c->where ? c->where(c->ud) : 0; }

const char *mx_name_intern(mx_ctx *c, const char *name) { /* as a site without line or operation */
  const char *op = c->op;
  c->op = NULL;
  uint32_t site = mx_site_intern(c, name, -1);
  c->op = op;
  if (!site) return mx_fail_memory(c, strlen(name) + 1);
  return mx_site_text(c, site);
}

const char *mx_site_op(const mx_ctx *c, uint32_t site) {
  const char *op = c->sites && site > 0 && site <= (uint32_t)c->sites->count ? op_of(c->sites->text[site - 1]) : "";
  return *op ? op : NULL;
}

void mx_sites_free(mx_ctx *c) {
  struct mx_sites *s = c->sites;
  if (!s) return;
  for (int i = 0; i < s->count; i++) mx_free(c->engine, s->text[i], site_bytes(s->text[i]));
  mx_free(c->engine, s->text, (size_t)s->cap * sizeof *s->text);
  mx_free(c->engine, s->slots, (size_t)s->n_slot * sizeof *s->slots);
  mx_free(c->engine, s, sizeof *s);
  c->sites = NULL;
}
